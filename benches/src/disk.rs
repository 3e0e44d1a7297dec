//! A file system of its own for each broker, so that one's write-back is not the other's.
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const IMAGE_BYTES: u64 = 32 << 30;
/// What all images may come to hold at a time: under load, and in rows that write little.
pub(crate) const ROOM: u64 = 40 << 30;
pub(crate) const LITTLE_ROOM: u64 = 12 << 30;

/// A mounted ext4 image; unmounted and removed when dropped. Where images cannot be mounted, a directory on
/// the disk of the workspace, which the report says.
pub(crate) struct Disk {
    image: PathBuf,
    mount: PathBuf,
    /// Whether it is a file system of its own.
    pub(crate) own: bool,
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Refuses to begin where the images could not grow: writing to one then fails, and a broker of either kind
/// breaks off connections, which says nothing of the reason.
pub(crate) fn check_room(dir: &Path, room: u64) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let stat = rustix::fs::statvfs(dir)?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < room {
        let gb = |bytes| bytes / 1_000_000_000;
        let dir = dir.display();
        bail!(
            "{dir}: {} GB are free, the bench needs {}: the brokers' file systems are files there",
            gb(free),
            gb(room)
        );
    }
    Ok(())
}

impl Disk {
    pub(crate) fn new(dir: &Path, name: &str) -> Result<Disk> {
        let (image, mount) = (dir.join(format!("{name}.img")), dir.join(format!("{name}.mnt")));
        let mut disk = Disk { image, mount, own: false };
        disk.clear();
        std::fs::create_dir_all(&disk.mount)?;
        match disk.mount() {
            Ok(()) => disk.own = true,
            Err(error) => eprintln!("  no file system of its own for {name}: {error:#}"),
        }
        Ok(disk)
    }

    fn mount(&self) -> Result<()> {
        std::fs::File::create(&self.image)?.set_len(IMAGE_BYTES)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&self.image))?;
        // Inode tables zeroed in the background would be work that no broker asked for.
        run(Command::new("mount").args(["-o", "loop,noinit_itable"]).arg(&self.image).arg(&self.mount))
    }

    /// The root: it is the data directory, so that a broker that syncs file systems concerns nobody else.
    pub(crate) fn root(&self) -> &Path {
        &self.mount
    }

    /// Removes everything; `lost+found` too, which Kafka would take for a partition.
    pub(crate) fn empty(&self) -> Result<()> {
        for entry in std::fs::read_dir(&self.mount)? {
            let path = entry?.path();
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) }
                .with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Everything written is on the medium and what was deleted is given back to it: no run pays for the
    /// one before, and two images need no more room than the files in them.
    pub(crate) fn settle(&self) {
        let _ = run(Command::new("sync").arg("-f").arg(&self.mount));
        if self.own {
            let _ = run(Command::new("fstrim").arg(&self.mount));
        }
    }

    /// What a run that was broken off left.
    fn clear(&self) {
        let _ = run(Command::new("umount").arg("-l").arg(&self.mount));
        let _ = std::fs::remove_file(&self.image);
        let _ = std::fs::remove_dir_all(&self.mount);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.clear();
    }
}
