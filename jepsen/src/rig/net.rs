//! A network of its own for each node, and what can be done to it.
//!
//! The rig runs in a network namespace of its own (`main.rs`), which holds a bridge; each node has another one, that
//! of a process which sleeps. Everything goes when the rig's process goes.
use anyhow::{Context, Result, bail};
use jepsen::machine::run;
use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where clients of the brokers are.
pub(crate) const CLIENTS: &str = "10.231.0.254";
/// Where the proxy's own connections come from.
pub(crate) const PROXY: &str = "10.231.0.253";
pub(crate) const KAFKA_PORT: u16 = 9092;
pub(crate) const PEER_PORT: u16 = 9093;
/// Where each broker tells its metrics.
pub(crate) const HTTP_PORT: u16 = 9644;
const BRIDGE: &str = "rig0";

/// The address of a node.
pub(crate) fn address(node: u32) -> String {
    format!("10.231.0.{node}")
}

fn ip(args: &[&str]) -> Result<()> {
    run(Command::new("ip").args(args))
}

/// Plugs a cable in or out.
pub(crate) fn plug(link: &str, plugged: bool) -> Result<()> {
    ip(&["link", "set", link, if plugged { "up" } else { "down" }])
}

/// Makes the bridge; once.
pub(crate) fn make_bridge() -> Result<()> {
    ip(&["link", "set", "lo", "up"])?;
    ip(&["link", "add", BRIDGE, "type", "bridge"])?;
    ip(&["addr", "add", &format!("{CLIENTS}/24"), "dev", BRIDGE])?;
    ip(&["addr", "add", &format!("{PROXY}/24"), "dev", BRIDGE])?;
    ip(&["link", "set", BRIDGE, "up"])
}

/// A node's namespace.
#[derive(Debug)]
pub(crate) struct Network {
    node: u32,
    holder: Child,
}

impl Network {
    pub(crate) fn new(node: u32) -> Result<Network> {
        let mut sleeper = Command::new("unshare");
        sleeper.args(["--net", "sleep", "infinity"]).stdin(Stdio::null());
        let network = Network { node, holder: sleeper.spawn().context("unshare --net")? };
        network.wait_for_namespace()?;
        let (link, pid) = (network.link(), network.holder.id().to_string());
        ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &pid])?;
        ip(&["link", "set", &link, "master", BRIDGE, "up"])?;
        network.run("ip", ["addr", "add", &format!("{}/24", address(node)), "dev", "eth0"])?;
        network.run("ip", ["link", "set", "eth0", "up"])?;
        network.run("ip", ["link", "set", "lo", "up"])?;
        Ok(network)
    }

    fn wait_for_namespace(&self) -> Result<()> {
        let own = std::fs::read_link("/proc/self/ns/net")?;
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            let there = std::fs::read_link(self.path());
            if there.is_ok_and(|there| there != own) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("no network namespace for node {}", self.node)
    }

    /// Of the namespace, for `nsenter`.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// The end of its cable in the bridge.
    pub(crate) fn link(&self) -> String {
        format!("node{}", self.node)
    }

    fn run<S: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = S>) -> Result<()> {
        run(Command::new("nsenter").arg(format!("--net={}", self.path())).arg(program).args(args))
    }

    fn iptables(&self, line: &str) -> Result<()> {
        self.run("iptables", ["-w"].into_iter().chain(line.split(' ')))
    }

    /// Nothing arrives here any more from that address.
    pub(crate) fn drop_from(&self, source: &str) -> Result<()> {
        self.iptables(&format!("-A INPUT -s {source} -j DROP"))
    }

    /// A share of all packets to this node is lost.
    pub(crate) fn lose(&self, share: f64) -> Result<()> {
        self.iptables(&format!(
            "-A INPUT -i eth0 -m statistic --mode random --probability {share:.3} -j DROP"
        ))
    }

    /// Leads new connections to a peer to a port of the proxy, and resets those that are open.
    pub(crate) fn divert(&self, peer: &str, proxy_port: u16) -> Result<()> {
        let to = format!("-d {peer} -p tcp --dport {PEER_PORT}");
        self.iptables(&format!("-t nat -A OUTPUT {to} -j DNAT --to-destination {CLIENTS}:{proxy_port}"))?;
        self.iptables(&format!("-A OUTPUT {to} -j REJECT --reject-with tcp-reset"))?;
        self.iptables(&format!(
            "-A OUTPUT -d {peer} -p tcp --sport {PEER_PORT} -j REJECT --reject-with tcp-reset"
        ))
    }

    /// Ends all that was done to it.
    pub(crate) fn heal(&self) -> Result<()> {
        self.iptables("-F")?;
        self.iptables("-t nat -F")?;
        plug(&self.link(), true)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The namespace goes when the kernel finds time for it; the name must be free at once.
        let _ = ip(&["link", "del", &self.link()]);
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
