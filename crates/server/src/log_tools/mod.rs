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
