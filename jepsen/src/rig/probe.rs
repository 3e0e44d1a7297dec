//! What this machine can do. What it cannot do is skipped and said, never passed.
use crate::Args;
use crate::faults::Fault;
use jepsen::machine::run;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const PRELOAD: &str = include_str!("../../preload/faults.c");

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Abilities {
    /// Why a fault cannot be injected here.
    pub(crate) missing: BTreeMap<Fault, String>,
    /// The library that fails syncs and moves clocks.
    pub(crate) preload: Option<PathBuf>,
}

/// Tries everything once, inside the rig's own namespaces.
pub(crate) fn probe(args: &Args, nodes: u32) -> Abilities {
    let dir = &args.dir;
    let mut abilities = Abilities::default();
    let mut lacks = |faults: &[Fault], why: String| {
        faults.iter().for_each(|fault| drop(abilities.missing.insert(*fault, why.clone())));
    };
    let preload = compile(dir);
    if let Err(why) = &preload {
        lacks(
            &[Fault::SyncError, Fault::SlowSync, Fault::SlowSyncAll, Fault::PowerAllSlow, Fault::Clock],
            format!("no C compiler: {why:#}"),
        );
    }
    let iptables = |line: &str| run(Command::new("iptables").arg("-w").args(line.split(' ')));
    // In the rig's own namespace, on an address that nobody has.
    if let Err(why) = iptables("-A INPUT -s 10.231.1.1 -j DROP") {
        let all = [Fault::Isolate, Fault::OneWay, Fault::Bridge, Fault::Ring, Fault::ClientCut];
        lacks(&all, format!("no packet filter: {why:#}"));
    }
    if let Err(why) = iptables("-A INPUT -s 10.231.1.1 -m statistic --mode random --probability 0.5 -j DROP")
    {
        lacks(&[Fault::Loss], format!("no packet filter by chance: {why:#}"));
    }
    let divert =
        iptables("-t nat -A OUTPUT -d 10.231.1.1 -p tcp --dport 1 -j DNAT --to-destination 10.231.1.2:1");
    let reset = iptables("-A OUTPUT -d 10.231.1.1 -p tcp --dport 1 -j REJECT --reject-with tcp-reset");
    if let Err(why) = divert.and(reset) {
        lacks(&[Fault::Delay, Fault::Reset, Fault::HalfOpen], format!("no address translation: {why:#}"));
    }
    if !Path::new("/sys/fs/cgroup/blkio/blkio.throttle.write_iops_device").exists() {
        lacks(&[Fault::SlowDisk], "no blkio controller to throttle a disk with".to_owned());
    }
    if nodes < 5 {
        lacks(&[Fault::Ring], "a ring of majorities needs five nodes".to_owned());
    }
    if args.older.is_none() {
        lacks(&[Fault::Upgrade], "no other version is given (--older)".to_owned());
    }
    let knows = |command: [&str; 2]| run(Command::new(&args.broker).args(command).arg("--help")).is_ok();
    if !knows(["partition", "move"]) {
        lacks(&[Fault::Membership], "this broker's partitions cannot be moved".to_owned());
    } else if nodes < 4 {
        lacks(&[Fault::Membership], "with three nodes a partition has nowhere to go".to_owned());
    }
    if !knows(["cluster", "replace-node"]) {
        lacks(&[Fault::DiskLoss], "this broker's nodes cannot be replaced".to_owned());
    }
    abilities.preload = preload.ok();
    abilities
}

fn compile(dir: &Path) -> anyhow::Result<PathBuf> {
    let (source, library) = (dir.join("faults.c"), dir.join("faults.so"));
    std::fs::write(&source, PRELOAD)?;
    run(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl"))?;
    Ok(library)
}
