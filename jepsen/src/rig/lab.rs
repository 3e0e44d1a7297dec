//! All nodes, and what is done to several of them at once.
use crate::net;
use crate::node::{Make, Node};
use crate::proxy::{Manner, Proxy};
use crate::recorder::Recorder;
use crate::rng::Rng;
use crate::run::TOPIC;
use anyhow::{Context, Result};
use jepsen::machine::run;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a node may take to stop in good order.
const STOP: Duration = Duration::from_secs(20);

/// Something that goes on until it is told to stop.
#[derive(Debug)]
struct Background {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// The cluster under test.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) make: Make,
    nodes: Vec<Node>,
    pub(crate) recorder: Recorder,
    proxies: Vec<Proxy>,
    flaps: BTreeMap<u32, Background>,
    /// What ended by itself, in words.
    pub(crate) ended: Vec<String>,
    /// The faults of this moment, by name.
    pub(crate) wrong: String,
    /// Nodes with a bit that flipped in a file: what nothing has read since lies there still.
    pub(crate) flipped: BTreeSet<u32>,
}

impl Lab {
    /// Makes disks and networks, and starts all nodes.
    pub(crate) fn new(make: Make, recorder: Recorder) -> Result<Lab> {
        let nodes = (1..=make.nodes).map(|id| Node::new(&make, id)).collect::<Result<Vec<_>>>()?;
        let (proxies, flaps, ended) = (Vec::new(), BTreeMap::new(), Vec::new());
        let (wrong, flipped) = ("the start".to_owned(), BTreeSet::new());
        let mut lab = Lab { make, nodes, recorder, proxies, flaps, ended, wrong, flipped };
        lab.start_all()?;
        Ok(lab)
    }

    pub(crate) fn bootstrap(&self) -> String {
        let all = self.ids().map(|id| format!("{}:{}", net::address(id), net::KAFKA_PORT));
        all.collect::<Vec<_>>().join(",")
    }

    pub(crate) fn ids(&self) -> std::ops::RangeInclusive<u32> {
        1..=self.make.nodes
    }

    pub(crate) fn node(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize - 1]
    }

    /// A node to do something to: in two of three cases one that leads something.
    pub(crate) fn target(&self, rng: &mut Rng) -> u32 {
        let any = 1 + rng.below(self.make.nodes.into()) as u32;
        let key = rng.below(4) as u32;
        let led = self.recorder.leader(key).filter(|id| self.ids().contains(id));
        if rng.below(3) < 2 { led.unwrap_or(any) } else { any }
    }

    /// Starts what does not run, and notes what had ended by itself.
    pub(crate) fn start_all(&mut self) -> Result<()> {
        let when = format!("during {}", self.wrong);
        self.note_ends(&when)?;
        self.nodes.iter_mut().try_for_each(Node::start)
    }

    pub(crate) fn start(&mut self, node: u32) -> Result<()> {
        self.node(node).start()
    }

    /// Stops one in good order, which the others are told of.
    pub(crate) fn stop(&mut self, node: u32) -> Result<bool> {
        let well = self.node(node).stop(STOP)?;
        if !well {
            let wrong = &self.wrong;
            self.ended.push(format!("node {node} did not stop in good order during {wrong}"));
        }
        Ok(well)
    }

    /// Cuts the power of one node.
    pub(crate) fn power_cut(&mut self, node: u32) -> Result<()> {
        let node = self.node(node);
        node.pause();
        node.power_off()?;
        node.power_on()
    }

    pub(crate) fn kill_all(&mut self) -> Result<()> {
        // All stand still first: nobody sees another one go.
        self.nodes.iter_mut().for_each(Node::pause);
        self.nodes.iter_mut().try_for_each(Node::kill)
    }

    /// Cuts the power of all nodes in one moment; they are not started again.
    pub(crate) fn power_cut_all(&mut self) -> Result<()> {
        self.nodes.iter_mut().for_each(Node::pause);
        for node in &self.nodes {
            node.machine.pull_the_plug()?;
        }
        self.nodes.iter_mut().try_for_each(Node::kill)?;
        self.nodes.iter_mut().try_for_each(Node::power_on)
    }

    pub(crate) fn delay_all_syncs(&mut self, delay: Duration) -> Result<()> {
        self.nodes.iter().try_for_each(|node| node.delay_syncs(delay))
    }

    /// Stops all in good order, all at once; those that did not.
    pub(crate) fn stop_all(&mut self) -> Result<Vec<u32>> {
        std::thread::scope(|scope| {
            let stop = |node| scope.spawn(move || stop(node));
            let stopping: Vec<_> = self.nodes.iter_mut().map(stop).collect();
            let mut badly = Vec::new();
            for thread in stopping {
                let (id, ended) = thread.join().map_err(|_| anyhow::anyhow!("a stop panicked"))?;
                if !ended? {
                    badly.push(id);
                }
            }
            Ok(badly)
        })
    }

    /// What `from` says does not arrive at `to`.
    pub(crate) fn cut(&mut self, from: u32, to: u32) -> Result<()> {
        self.node(to).network.drop_from(&net::address(from))
    }

    pub(crate) fn isolate(&mut self, node: u32) -> Result<()> {
        for other in self.ids().filter(|other| *other != node) {
            self.cut(node, other)?;
            self.cut(other, node)?;
        }
        Ok(())
    }

    /// Each node hears its two neighbours only.
    pub(crate) fn ring(&mut self) -> Result<()> {
        let count = self.make.nodes;
        for one in self.ids() {
            for other in self.ids() {
                let apart = (one + count - other) % count;
                if apart > 1 && apart < count - 1 {
                    self.cut(other, one)?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn heal_network(&mut self) -> Result<()> {
        self.nodes.iter().try_for_each(|node| node.network.heal())
    }

    /// What `node` says to its peers, and hears from them, goes through a proxy that behaves so.
    pub(crate) fn divert(&mut self, node: u32, manner: Manner) -> Result<()> {
        for other in self.ids().filter(|other| *other != node) {
            for (from, to) in [(node, other), (other, node)] {
                let proxy = Proxy::start(to, manner)?;
                self.node(from).network.divert(&net::address(to), proxy.port)?;
                self.proxies.push(proxy);
            }
        }
        Ok(())
    }

    pub(crate) fn end_diversion(&mut self) -> Result<()> {
        self.heal_network()?;
        self.proxies.clear();
        Ok(())
    }

    /// Pulls and plugs a node's cable twice a second.
    pub(crate) fn flap(&mut self, node: u32) {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let link = self.node(node).network.link();
        let thread = std::thread::spawn(move || {
            let mut up = true;
            while !flag.load(Ordering::Relaxed) {
                up = !up;
                let _ = net::plug(&link, up);
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        self.flaps.insert(node, Background { stop, thread });
    }

    pub(crate) fn end_flap(&mut self, node: u32) -> Result<()> {
        if let Some(flap) = self.flaps.remove(&node) {
            flap.stop.store(true, Ordering::Relaxed);
            let _ = flap.thread.join();
        }
        self.node(node).network.heal()
    }

    /// Ends everything that is wrong, and starts what does not run.
    pub(crate) fn heal(&mut self) -> Result<()> {
        for node in self.flaps.keys().copied().collect::<Vec<_>>() {
            self.end_flap(node)?;
        }
        self.end_diversion()?;
        for node in &mut self.nodes {
            node.resume();
            node.fail_syncs(0)?;
            node.delay_syncs(Duration::ZERO)?;
            node.set_clock(0)?;
            node.free_disk();
            node.throttle(None)?;
        }
        self.start_all()
    }

    /// Notes which processes ended by themselves; true if some did.
    pub(crate) fn note_ends(&mut self, when: &str) -> Result<bool> {
        let mut any = false;
        for node in &mut self.nodes {
            if let Some(status) = node.ended()? {
                any = true;
                let by = node.may_end_by().map(|fault| format!(" after {fault}")).unwrap_or_default();
                self.ended.push(format!("node {} ended by itself {when}{by}: {status}", node.id));
            }
        }
        Ok(any)
    }

    fn command(&self, args: &[&str]) -> Result<()> {
        run(Command::new(&self.make.broker).args(args).args(["--timeout", "10", "-b", &self.bootstrap()]))
    }

    /// Moves a key to three nodes that begin with `first`. A refusal is no failure: a move may go on already, or
    /// nobody may lead the metadata.
    pub(crate) fn give_other_replicas(&mut self, key: u32, first: u32) -> Result<String> {
        let (count, key) = (self.make.nodes, key % self.recorder.keys());
        let to: Vec<String> = (0..3).map(|at| ((first - 1 + at) % count + 1).to_string()).collect();
        let to = to.join(",");
        let moved = self.command(&["partition", "move", TOPIC, &key.to_string(), "--to", &to, "--no-wait"]);
        Ok(format!("membership {TOPIC}-{key} to {to}{}", if moved.is_ok() { "" } else { " (refused)" }))
    }

    /// A node comes back with an empty disk, which the cluster is told of. Where the cluster refuses, because others
    /// are gone too, it keeps its disk.
    pub(crate) fn lose_disk(&mut self, node: u32) -> Result<String> {
        self.node(node).kill()?;
        let replaced = self.command(&["cluster", "replace-node", &node.to_string(), "--no-wait"]);
        if replaced.is_ok() {
            self.node(node).remove_data()?;
        }
        Ok(format!("disk-loss {node}{}", if replaced.is_ok() { "" } else { " (refused)" }))
    }

    /// Every node's log, for whoever looks for what must not be there.
    pub(crate) fn logs(&self) -> Vec<(u32, PathBuf)> {
        self.nodes.iter().map(|node| (node.id, node.log())).collect()
    }

    /// Every node's data directory.
    pub(crate) fn data(&self) -> Vec<(u32, PathBuf)> {
        self.nodes.iter().map(|node| (node.id, node.machine.data())).collect()
    }

    /// The program that the nodes run.
    pub(crate) fn broker(&self) -> &std::path::Path {
        &self.make.broker
    }
}

fn stop(node: &mut Node) -> (u32, Result<bool>) {
    let id = node.id;
    (id, node.stop(STOP).with_context(|| format!("stop node {id}")))
}
