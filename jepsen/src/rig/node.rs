//! One node: a broker's process, its disk, its network, its clock.
use crate::net::{self, Network};
use anyhow::{Context, Result, bail};
use jepsen::machine::Machine;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Where the kernel says which start of the machine this is; each node is shown its own.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Of the file in which the preloaded library is told what to do.
const WALL: u64 = 0;
const SYNC_DELAY: u64 = 8;
const SYNC_ERRORS: u64 = 16;
const CONTROL_BYTES: u64 = 24;

/// What all nodes are started with.
#[derive(Clone, Debug)]
pub(crate) struct Make {
    pub(crate) broker: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) nodes: u32,
    pub(crate) disk_bytes: u64,
    /// The library of `preload/`, where it could be compiled.
    pub(crate) preload: Option<PathBuf>,
    /// Another version of the broker, with which nodes begin where it is given.
    pub(crate) older: Option<PathBuf>,
    /// Lines added to every node's properties.
    pub(crate) properties: String,
    /// More variables for every node.
    pub(crate) environment: Vec<(String, String)>,
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: u32,
    make: Make,
    dir: PathBuf,
    pub(crate) machine: Machine,
    pub(crate) network: Network,
    control: File,
    boots: u32,
    child: Option<Child>,
    paused: bool,
    /// What was done to its disk since it was started last that it may end by, as faults are named.
    may_end_by: Option<&'static str>,
    /// Whether the next start is of the other version.
    is_older: bool,
}

impl Node {
    pub(crate) fn new(make: &Make, id: u32) -> Result<Node> {
        let dir = make.dir.join(format!("node-{id}"));
        std::fs::create_dir_all(&dir)?;
        let machine = Machine::with_bytes(&dir, make.disk_bytes).context("an ext4 image by a loop device")?;
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(dir.join("control"))?;
        control.set_len(CONTROL_BYTES)?;
        let network = Network::new(id)?;
        let make = make.clone();
        let mut node = Node {
            id,
            make,
            dir,
            machine,
            network,
            control,
            boots: 0,
            child: None,
            paused: false,
            may_end_by: None,
            is_older: true,
        };
        std::fs::write(node.config(), node.properties())?;
        let mut secret = OpenOptions::new();
        let mut secret =
            secret.write(true).create(true).truncate(true).mode(0o600).open(node.dir.join("secret"))?;
        secret.write_all(b"the rig's secret, which is none")?;
        node.boot()?;
        Ok(node)
    }

    fn config(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    /// Its log, of all its lives.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("broker.log")
    }

    fn properties(&self) -> String {
        let all = 1..=self.make.nodes;
        let voters: Vec<_> = all.map(|id| format!("{id}@{}:{}", net::address(id), net::PEER_PORT)).collect();
        let (id, own, replicas) = (self.id, net::address(self.id), self.make.nodes.min(3));
        let least = replicas / 2 + 1;
        let (kafka, peers, http) = (net::KAFKA_PORT, net::PEER_PORT, net::HTTP_PORT);
        format!(
            "process.roles=broker,controller\nnode.id={id}\ncontroller.quorum.voters={}\n\
             listeners=PLAINTEXT://{own}:{kafka},CONTROLLER://{own}:{peers}\n\
             controller.listener.names=CONTROLLER\ncluster.secret.file={}\nhttp.listener={own}:{http}\nlog.dirs={}\n\
             default.replication.factor={replicas}\nmin.insync.replicas={least}\n\
             offsets.topic.replication.factor={replicas}\ngroup.initial.rebalance.delay.ms=0\n{}",
            voters.join(","),
            self.dir.join("secret").display(),
            self.machine.data().display(),
            self.make.properties
        )
    }

    /// The machine starts: another boot id.
    fn boot(&mut self) -> Result<()> {
        self.boots += 1;
        let id = format!("{:08x}-0000-4000-8000-{:012x}\n", self.id, self.boots);
        Ok(std::fs::write(self.dir.join("boot-id"), id)?)
    }

    /// Starts the broker unless it runs.
    pub(crate) fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        // In a mount namespace of its own for the boot id; what the rig mounts and unmounts comes through.
        let script = format!(
            "mount --bind '{}' {BOOT_ID} && exec env {} \"$@\"",
            self.dir.join("boot-id").display(),
            self.variables()
        );
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network.path()));
        command.args(["unshare", "--mount", "--propagation", "slave", "sh", "-c", &script, "sh"]);
        command.arg(self.program()).args(["serve", "--config"]).arg(self.config());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn().context("start a node")?);
        self.may_end_by = None;
        Ok(())
    }

    fn program(&self) -> &Path {
        self.make.older.as_ref().filter(|_| self.is_older).unwrap_or(&self.make.broker)
    }

    /// The next start is of the other version.
    pub(crate) fn change_version(&mut self) {
        self.is_older = !self.is_older;
    }

    fn variables(&self) -> String {
        let mut text = String::new();
        if let Some(preload) = &self.make.preload {
            let control = self.dir.join("control");
            text = format!("LD_PRELOAD='{}' RIG_CONTROL='{}'", preload.display(), control.display());
        }
        for (name, value) in &self.make.environment {
            text.push_str(&format!(" {name}='{value}'"));
        }
        text
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(|child| Pid::from_raw(child.id().cast_signed()));
        if let Some(pid) = pid {
            // It may have ended in this moment.
            let _ = kill_process(pid, signal);
        }
    }

    /// kill -9, and waits until the process is gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.paused = false;
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    pub(crate) fn pause(&mut self) {
        self.paused = true;
        self.signal(Signal::STOP);
    }

    pub(crate) fn resume(&mut self) {
        if std::mem::take(&mut self.paused) {
            self.signal(Signal::CONT);
        }
    }

    /// Asks it to stop; true if it ended well within the time.
    pub(crate) fn stop(&mut self, patience: Duration) -> Result<bool> {
        self.resume();
        self.signal(Signal::TERM);
        let end = Instant::now() + patience;
        while let Some(child) = &mut self.child {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status.success());
            }
            if Instant::now() > end {
                self.kill()?;
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(true)
    }

    /// How it ended, if it ended by itself.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
            self.paused = false;
        }
        Ok(status)
    }

    /// What it may have ended by, as faults are named: a broker may notice a failed sync after the fault.
    pub(crate) fn may_end_by(&self) -> Option<&'static str> {
        self.may_end_by
    }

    /// The power is gone; [`Node::power_on`] brings the machine back.
    pub(crate) fn power_off(&mut self) -> Result<()> {
        self.machine.pull_the_plug()?;
        self.kill()
    }

    pub(crate) fn power_on(&mut self) -> Result<()> {
        self.machine.power_on()?;
        self.boot()
    }

    fn tell(&self, at: u64, value: i64) -> Result<()> {
        Ok(self.control.write_all_at(&value.to_ne_bytes(), at)?)
    }

    /// Moves its wall clock.
    pub(crate) fn set_clock(&self, ahead_ns: i64) -> Result<()> {
        self.tell(WALL, ahead_ns)
    }

    pub(crate) fn delay_syncs(&self, delay: Duration) -> Result<()> {
        self.tell(SYNC_DELAY, delay.as_micros() as i64)
    }

    /// So many of the next syncs fail.
    pub(crate) fn fail_syncs(&mut self, count: i64) -> Result<()> {
        if count > 0 {
            self.may_end_by = Some("sync-error");
        }
        self.tell(SYNC_ERRORS, count)
    }

    fn filler(&self) -> PathBuf {
        self.machine.root().join("filler")
    }

    /// Takes all free blocks of the disk but `left` bytes.
    pub(crate) fn fill_disk(&mut self, left: u64) -> Result<()> {
        self.may_end_by = Some("disk-full");
        let space = rustix::fs::statvfs(self.machine.root())?;
        let free = space.f_bfree * space.f_frsize;
        let file = File::create(self.filler())?;
        let mut wanted = free.saturating_sub(left);
        // Some of it is kept for the file system's own blocks: the largest size that fits is taken.
        while wanted > 1 << 20 {
            let flags = rustix::fs::FallocateFlags::empty();
            match rustix::fs::fallocate(&file, flags, 0, wanted) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::NOSPC) => wanted -= wanted / 64,
                Err(other) => bail!("fallocate: {other}"),
            }
        }
        Ok(())
    }

    pub(crate) fn free_disk(&self) {
        let _ = std::fs::remove_file(self.filler());
    }

    /// Removes every index of the log's files; nobody runs here.
    pub(crate) fn remove_indexes(&self) -> Result<()> {
        let groups = self.machine.data().join("groups");
        // Its disk may have been lost meanwhile.
        for group in std::fs::read_dir(groups).into_iter().flatten() {
            for file in std::fs::read_dir(group?.path())? {
                let path = file?.path();
                if path.extension().is_some_and(|extension| extension == "idx") {
                    std::fs::remove_file(path)?;
                }
            }
        }
        Ok(())
    }

    /// Flips one bit of a data file that `choice` picks, somewhere in it; `false` where there is none, for the disk was
    /// lost, or none any more.
    pub(crate) fn flip_bit(&self, choice: u64) -> bool {
        // Files come and go while they are listed: the broker runs.
        let inside = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
        let logs = inside(self.machine.data().join("groups")).flat_map(inside);
        let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        let sized = |path: PathBuf| std::fs::metadata(&path).ok().map(|about| (path, about.len()));
        let mut files: Vec<_> = logs.filter_map(sized).filter(|(_, bytes)| *bytes > 0).collect();
        files.sort();
        let Some((path, bytes)) = files.get(choice as usize % files.len().max(1)) else { return false };
        let (at, mut byte) = (bytes / 7 * (choice % 7), [0]);
        let file = OpenOptions::new().read(true).write(true).open(path);
        let flip = |file: File| {
            file.read_exact_at(&mut byte, at)?;
            file.write_all_at(&[byte[0] ^ 1 << (choice % 8)], at)
        };
        file.and_then(flip).is_ok()
    }

    /// Its disk is empty from now on; it does not run.
    pub(crate) fn remove_data(&self) -> Result<()> {
        std::fs::remove_dir_all(self.machine.data()).context("an empty disk")
    }

    fn throttle_group(&self) -> PathBuf {
        // Process ids are those of our own namespace: what tells rigs apart is their directories.
        let dir = std::fs::metadata(&self.dir).map_or(0, |there| there.ino());
        Path::new("/sys/fs/cgroup/blkio").join(format!("plimsoll-rig-{dir}"))
    }

    /// So many writes a second reach its disk; `None`: as many as there are.
    pub(crate) fn throttle(&self, writes: Option<u32>) -> Result<()> {
        let group = self.throttle_group();
        if writes.is_some() {
            std::fs::create_dir_all(&group)?;
        }
        let rule = format!("{} {}", self.machine.device()?, writes.unwrap_or(0));
        if group.exists() {
            std::fs::write(group.join("blkio.throttle.write_iops_device"), rule)?;
        }
        if let (Some(_), Some(child)) = (writes, &self.child) {
            std::fs::write(group.join("cgroup.procs"), child.id().to_string())?;
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.kill();
        let _ = std::fs::remove_dir(self.throttle_group());
    }
}
