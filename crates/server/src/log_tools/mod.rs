//! `plimsoll log`: data files looked at offline, while no broker uses them. Nothing is ever changed.
mod dump;
mod export;
mod names;
mod offline;
mod verify;

use clap::Subcommand;

/// Look at data files while the broker is stopped.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Print what a data file holds, entry by entry.
    Dump(dump::DumpArgs),
    /// Read every byte of a data directory and report damage.
    Verify(verify::VerifyArgs),
    /// Write partitions as segment files of another system.
    Export(export::ExportArgs),
}

/// Runs one command. `verify` fails when it finds damage.
pub(crate) fn run(command: LogCommand) -> anyhow::Result<()> {
    let done = match command {
        LogCommand::Dump(args) => dump::run(&args),
        LogCommand::Verify(args) => verify::run(&args),
        LogCommand::Export(args) => export::run(&args),
    };
    match done {
        Err(error) if crate::admin::format::is_broken_pipe(&error) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::offline::{DataDir, Offline};
    use std::fs::{self, File};
    use storage::frame::encode_header;
    use storage::inspect::frames;
    use storage::{DiskRead, EntryHead, EntryKind};

    fn frame(index: u64, payload: &[u8], chain: u32) -> (Vec<u8>, u32) {
        let head = EntryHead {
            index,
            term: 1,
            kind: EntryKind::Command,
            flags: 0,
            offset_count: 0,
            base_offset: 0,
            append_time: 0,
        };
        let (header, crc) = encode_header(&head, payload, chain);
        ([&header[..], payload].concat(), crc)
    }

    #[test]
    fn what_follows_in_a_file_is_walked_and_what_is_left_over_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (first, chain) = frame(2, b"one", 7);
        let (second, _) = frame(3, b"two", chain);
        let (stale, _) = frame(9, b"old", 1);
        fs::write(dir.path().join("2.log"), [first, second, stale].concat()).unwrap();
        let disk = Offline::new(dir.path());
        let found: Vec<bool> = frames(&disk, "2.log").unwrap().map(|next| next.unwrap().follows).collect();
        assert_eq!(found, [true, true, false]);
    }

    #[test]
    fn reads_end_at_the_end_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), b"abc").unwrap();
        let disk = Offline::new(dir.path());
        assert_eq!(&disk.read("a", 1, 100).unwrap()[..], b"bc");
        assert_eq!(&disk.read("a", 9, 100).unwrap()[..], b"");
        assert_eq!((disk.len("a").unwrap(), disk.len("b").unwrap()), (Some(3), None));
        assert!(disk.read("b", 0, 1).is_err());
        assert_eq!(disk.list("none").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_directory_in_use_or_without_data_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(DataDir::open(dir.path()).is_err());
        fs::create_dir(dir.path().join("groups")).unwrap();
        assert!(DataDir::open(dir.path()).is_ok());
        let lock = File::create(dir.path().join("lock")).unwrap();
        assert!(DataDir::open(dir.path()).is_ok());
        lock.lock().unwrap();
        assert!(DataDir::open(dir.path()).is_err());
    }
}
