//! A file system of its own for each broker, so that one's write-back is not the other's.
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const IMAGE_BYTES: u64 = 24 << 30;

/// A mounted image; unmounted and removed when dropped.
pub(crate) struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

impl Disk {
    pub(crate) fn new(dir: &Path, name: &str) -> Result<Disk> {
        let disk = Disk { image: dir.join(format!("{name}.img")), mount: dir.join(format!("{name}.mnt")) };
        let _ = run(Command::new("umount").arg("-l").arg(&disk.mount));
        std::fs::create_dir_all(&disk.mount)?;
        std::fs::File::create(&disk.image)?.set_len(IMAGE_BYTES)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&disk.image).arg(&disk.mount))?;
        Ok(disk)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.mount.join(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("-l").arg(&self.mount));
        let _ = std::fs::remove_file(&self.image);
    }
}
