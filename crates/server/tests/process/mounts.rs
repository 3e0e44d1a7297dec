//! Small file systems of one test: images on loop devices, memory, and ways to break them.
use crate::server::Server;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// An ext4 or tmpfs of its own, unmounted when dropped.
pub(crate) struct SmallDisk {
    dir: TempDir,
    /// What the image lies on, when that is a file system of its own.
    below: Option<PathBuf>,
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl SmallDisk {
    /// Of so many MiB.
    pub(crate) fn new(mib: u64) -> SmallDisk {
        SmallDisk { dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), below: None }.filled(mib)
    }

    /// The same in memory: its pages are given out one by one, and a sync costs nothing.
    pub(crate) fn in_memory(mib: u64) -> SmallDisk {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let disk = SmallDisk { dir, below: None };
        std::fs::create_dir(disk.mount_point()).unwrap();
        let size = format!("size={mib}m");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(disk.mount_point()));
        disk
    }

    /// One that claims `mib` MiB and has only `real` behind it: beyond them what was written cannot be
    /// synced.
    pub(crate) fn thin(mib: u64, real: u64) -> SmallDisk {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let below = dir.path().join("below");
        std::fs::create_dir(&below).unwrap();
        let size = format!("size={real}m");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&below));
        SmallDisk { dir, below: Some(below) }.filled(mib)
    }

    fn filled(self, mib: u64) -> SmallDisk {
        let image = self.image();
        File::create(&image).unwrap().set_len(mib << 20).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
        std::fs::create_dir(self.mount_point()).unwrap();
        self.mount();
        self
    }

    fn image(&self) -> PathBuf {
        self.below.as_deref().unwrap_or(self.dir.path()).join("image")
    }

    fn mount_point(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.mount_point()));
    }

    /// A broker with its data here and its log elsewhere.
    pub(crate) fn serve(&self) -> Server {
        Server::start_with(&self.mount_point().join("data"), &self.log_path(), &["log.pool.bytes=0"])
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("broker.log")
    }

    /// What brokers here have logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Takes away what the broker keeps back for a full disk.
    pub(crate) fn lose_ballast(&self) {
        // There is none while the disk is nearly full.
        let _ = std::fs::remove_file(self.mount_point().join("data/ballast"));
    }

    /// Takes every byte that is left.
    pub(crate) fn fill(&self) {
        let mut filler = File::options().create(true).append(true).open(self.filler()).unwrap();
        for piece in [1 << 20, 64 << 10, 4 << 10] {
            while filler.write_all(&vec![0x5a; piece]).is_ok() {}
        }
        // Delayed allocation: what was promised must be there.
        filler.sync_all().unwrap();
    }

    /// Gives back what [`SmallDisk::fill`] took.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.mount_point().join("filler")
    }

    /// Bytes that the device was given so far. What a process is said to have written counts whole folios,
    /// however little of them changed.
    pub(crate) fn device_bytes(&self) -> f64 {
        rustix::fs::syncfs(File::open(self.mount_point()).unwrap()).unwrap();
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let wanted = self.mount_point();
        let mut words = mounts.lines().map(|line| line.split(' '));
        let device = words.find_map(|mut words| {
            let device = words.next()?;
            (Path::new(words.next()?) == wanted).then_some(device)
        });
        let name = device.unwrap().trim_start_matches("/dev/");
        let stat = std::fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
        stat.split_whitespace().nth(6).unwrap().parse::<f64>().unwrap() * 512.0
    }

    /// From here on every write and sync fails, as on a device that went away.
    pub(crate) fn fail(&self) {
        shutdown(&File::open(self.mount_point()).unwrap());
    }

    /// Unmounts and mounts again: the device is back.
    pub(crate) fn mend(&self) {
        run(Command::new("umount").arg(self.mount_point()));
        self.mount();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmount = |path: &Path| Command::new("umount").arg("-l").arg(path).output();
        let _ = unmount(&self.mount_point());
        if let Some(below) = &self.below {
            let _ = unmount(below);
        }
    }
}

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_LOGFLUSH`: what was committed is kept, no more is taken.
#[allow(unsafe_code)]
fn shutdown(root: &File) {
    use rustix::ioctl::{Opcode, Setter, ioctl};
    const EXT4_IOC_SHUTDOWN: Opcode = 0x8004_587D;
    const LOG_FLUSH: u32 = 1;
    // SAFETY: the opcode reads one u32 behind the pointer, which `Setter` provides.
    unsafe { ioctl(root, Setter::<EXT4_IOC_SHUTDOWN, u32>::new(LOG_FLUSH)) }.unwrap();
}
