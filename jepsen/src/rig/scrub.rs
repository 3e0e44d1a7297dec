//! Waiting until brokers have read all of their files again: a bit that flipped where nobody reads is found then.
use crate::net;
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What makes brokers read all of their files every few seconds.
pub(crate) const PROPERTIES: &str = "log.scrub.interval.ms=3000\nlog.scrub.rate.bytes=67108864\n";

/// Waits until each of these nodes has read everything again from now on and holds nothing that is damaged; false if
/// one has not within `patience`.
pub(crate) fn wait(nodes: &[u32], patience: Duration) -> Result<bool> {
    let end = Instant::now() + patience;
    for node in nodes {
        // The round that runs now has passed some of the files already.
        let wanted = told(*node)?.0 + 2;
        loop {
            let (rounds, suspects) = told(*node)?;
            if rounds >= wanted && suspects == 0 {
                break;
            }
            if Instant::now() > end {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(true)
}

/// Rounds that ended since the start of this broker, and replicas that wait to be brought up anew.
fn told(node: u32) -> Result<(u64, u64)> {
    let page = page(node).with_context(|| format!("the metrics of node {node}"))?;
    Ok((value(&page, "plimsoll_scrub_rounds_total")?, value(&page, "plimsoll_suspect_replicas")?))
}

fn page(node: u32) -> Result<String> {
    let mut stream = TcpStream::connect((net::address(node), net::HTTP_PORT))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", net::address(node))?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

fn value(page: &str, name: &str) -> Result<u64> {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let Some(text) = line else { bail!("{name} is not told") };
    text.trim().parse().with_context(|| format!("{name} {text}"))
}
