//! A proxy between peers, for what no packet filter does: delay, resets, connections that fall silent half open.
use crate::net::{self, CLIENTS, PEER_PORT};
use anyhow::{Context, Result};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What it does to a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Manner {
    /// Each piece arrives so much later, up to twice that.
    Delay(Duration),
    /// Each connection is reset after so long.
    Reset(Duration),
    /// Each connection falls silent after so long, and is not closed.
    HalfOpen(Duration),
}

/// A proxy for connections from one node to another.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The longest that anything here blocks, so that the end is noticed.
const TICK: Duration = Duration::from_millis(2);
const PIECE: usize = 64 << 10;
const AHEAD: usize = 256;

impl Proxy {
    pub(crate) fn start(to: u32, manner: Manner) -> Result<Proxy> {
        let listener = TcpListener::bind((CLIENTS, 0)).context("the proxy's port")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let target: SocketAddr = format!("{}:{PEER_PORT}", net::address(to)).parse()?;
        let thread = std::thread::spawn(move || serve(&listener, target, manner, &flag));
        Ok(Proxy { port, stop, thread: Some(thread) })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, target: SocketAddr, manner: Manner, stop: &Arc<AtomicBool>) {
    let mut threads = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((client, _)) => {
                let Ok(server) = TcpStream::connect_timeout(&target, Duration::from_millis(500)) else {
                    continue;
                };
                threads.extend(carry(client, server, manner, stop));
            }
            Err(_) => std::thread::sleep(TICK),
        }
    }
    threads.into_iter().for_each(|thread: JoinHandle<()>| drop(thread.join()));
}

fn carry(one: TcpStream, other: TcpStream, manner: Manner, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let born = Instant::now();
    let both = one.try_clone().and_then(|a| Ok((a, other.try_clone()?)));
    let Ok((a, b)) = both else { return Vec::new() };
    let way = |from: TcpStream, to: TcpStream| {
        let stop = stop.clone();
        std::thread::spawn(move || one_way(from, to, manner, born, &stop))
    };
    vec![way(one, other), way(b, a)]
}

/// Pieces that wait for their time, in order.
type Waiting = Mutex<VecDeque<(Instant, Vec<u8>)>>;

fn one_way(from: TcpStream, to: TcpStream, manner: Manner, born: Instant, stop: &AtomicBool) {
    let waiting = Waiting::default();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            write(&to, &waiting, stop, &over);
            over.store(true, Ordering::Relaxed);
        });
        read(&from, &waiting, manner, born, stop, &over);
        over.store(true, Ordering::Relaxed);
    });
    if matches!(manner, Manner::Reset(_)) {
        // Bytes that nobody reads any more turn the close into a reset.
        let _ = rustix::net::sockopt::set_socket_linger(&from, Some(Duration::ZERO));
        let _ = rustix::net::sockopt::set_socket_linger(&to, Some(Duration::ZERO));
    } else {
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

fn read(
    from: &TcpStream,
    waiting: &Waiting,
    manner: Manner,
    born: Instant,
    stop: &AtomicBool,
    over: &AtomicBool,
) {
    let _ = from.set_read_timeout(Some(TICK * 10));
    let (mut buffer, mut jitter) = (vec![0; PIECE], 0u64);
    let mut source = from;
    while !stop.load(Ordering::Relaxed) && !over.load(Ordering::Relaxed) {
        match manner {
            Manner::Reset(after) if born.elapsed() > after => return,
            Manner::HalfOpen(after) if born.elapsed() > after => {
                std::thread::sleep(TICK);
                continue;
            }
            _ => {}
        }
        if waiting.lock().unwrap_or_else(PoisonError::into_inner).len() > AHEAD {
            std::thread::sleep(TICK);
            continue;
        }
        let got = match source.read(&mut buffer) {
            Ok(0) => return,
            Ok(got) => got,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(_) => return,
        };
        jitter = jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(got as u64);
        let delay = match manner {
            Manner::Delay(delay) => delay + delay.mul_f64((jitter >> 33) as f64 / (1u64 << 31) as f64),
            _ => Duration::ZERO,
        };
        let piece = (Instant::now() + delay, buffer[..got].to_vec());
        waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(piece);
    }
}

fn write(to: &TcpStream, waiting: &Waiting, stop: &AtomicBool, over: &AtomicBool) {
    let mut sink = to;
    let _ = to.set_nodelay(true);
    let _ = to.set_write_timeout(Some(Duration::from_secs(1)));
    while !stop.load(Ordering::Relaxed) {
        let due = {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            match waiting.front() {
                Some((due, _)) if *due <= Instant::now() => waiting.pop_front(),
                None if over.load(Ordering::Relaxed) => return,
                _ => None,
            }
        };
        match due {
            Some((_, piece)) => {
                if sink.write_all(&piece).is_err() {
                    return;
                }
            }
            None => std::thread::sleep(TICK / 2),
        }
    }
}
