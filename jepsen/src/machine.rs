//! A file system of its own for one broker, and the plug to pull.
//!
//! The power cut is ext4's own shutdown without a log flush: everything that was not synced is gone, what
//! was synced is there after the next mount.
use anyhow::{Context, Result, bail};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const IMAGE_BYTES: u64 = 4 << 30;

/// The disk of a machine under test.
#[derive(Debug)]
pub struct Machine {
    image: PathBuf,
    mount: PathBuf,
}

/// Runs a command to its end; an error has what it complained of.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

impl Machine {
    /// As [`Machine::with_bytes`], 4 GiB.
    pub fn new(dir: &Path) -> Result<Machine> {
        Machine::with_bytes(dir, IMAGE_BYTES)
    }

    /// Makes a sparse image with an empty ext4 and mounts it. Needs root and a loop device.
    pub fn with_bytes(dir: &Path, bytes: u64) -> Result<Machine> {
        let machine = Machine { image: dir.join("disk.img"), mount: dir.join("mnt") };
        let _ = run(Command::new("umount").arg("-l").arg(&machine.mount));
        std::fs::create_dir_all(&machine.mount)?;
        let image = std::fs::File::create(&machine.image)?;
        image.set_len(bytes)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&machine.image))?;
        machine.mount()?;
        Ok(machine)
    }

    fn mount(&self) -> Result<()> {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mount))
    }

    /// Where the broker's data goes.
    pub fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// The root of the file system.
    pub fn root(&self) -> &Path {
        &self.mount
    }

    /// The number of its block device, `major:minor`.
    pub fn device(&self) -> Result<String> {
        let device = std::fs::metadata(&self.mount)?.dev();
        Ok(format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device)))
    }

    /// Cuts the power: the caller has killed everything that has files open here.
    pub fn cut_power(&self) -> Result<()> {
        self.pull_the_plug()?;
        self.power_on()
    }

    /// From now on nothing reaches the disk any more, and what was not synced never will.
    pub fn pull_the_plug(&self) -> Result<()> {
        let root = std::fs::File::open(&self.mount)?;
        shutdown_without_flush(&root)
    }

    /// Mounts what is left after [`Machine::pull_the_plug`]; nobody has files open here.
    pub fn power_on(&self) -> Result<()> {
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
