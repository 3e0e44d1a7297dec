//! A file system of its own for one broker, and the plug to pull.
//!
//! The power cut is ext4's own shutdown without a log flush: everything that was not synced is gone, what
//! was synced is there after the next mount.
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

const IMAGE_BYTES: u64 = 4 << 30;

/// The disk of the machine under test.
pub(crate) struct Machine {
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

impl Machine {
    /// Makes an image with an empty ext4 and mounts it. Needs root and a loop device.
    pub(crate) fn new(dir: &Path) -> Result<Machine> {
        let machine = Machine { image: dir.join("disk.img"), mount: dir.join("mnt") };
        let _ = run(Command::new("umount").arg("-l").arg(&machine.mount));
        std::fs::create_dir_all(&machine.mount)?;
        let image = std::fs::File::create(&machine.image)?;
        image.set_len(IMAGE_BYTES)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&machine.image))?;
        machine.mount()?;
        Ok(machine)
    }

    fn mount(&self) -> Result<()> {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mount))
    }

    /// Where the broker's data goes.
    pub(crate) fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// Cuts the power: the caller has killed everything that has files open here.
    pub(crate) fn cut_power(&self) -> Result<()> {
        let root = std::fs::File::open(&self.mount)?;
        shutdown_without_flush(&root)?;
        drop(root);
        run(Command::new("umount").arg(&self.mount))?;
        self.mount()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("-l").arg(&self.mount));
        let _ = std::fs::remove_file(&self.image);
    }
}

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`.
#[allow(unsafe_code)]
fn shutdown_without_flush(root: &std::fs::File) -> Result<()> {
    use rustix::ioctl::{Setter, ioctl};
    const EXT4_IOC_SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587D;
    const NO_LOG_FLUSH: u32 = 2;
    // SAFETY: the opcode reads one u32 behind the pointer, which `Setter` provides.
    unsafe { ioctl(root, Setter::<EXT4_IOC_SHUTDOWN, u32>::new(NO_LOG_FLUSH)) }.context("EXT4_IOC_SHUTDOWN")
}
