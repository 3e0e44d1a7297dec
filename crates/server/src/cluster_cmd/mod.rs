//! `plimsoll cluster`: several nodes at once.
mod status;
mod up;

use clap::Subcommand;

/// The commands of `plimsoll cluster`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    Up(up::UpArgs),
    Status(status::StatusArgs),
}

/// Runs one command.
pub(crate) fn run(command: ClusterCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = match command {
        ClusterCommand::Up(args) => runtime.block_on(up::run(args)),
        ClusterCommand::Status(args) => runtime.block_on(status::run(args)),
    };
    // A name that is still being looked up must not outlast --timeout.
    runtime.shutdown_background();
    match done {
        Err(error) if crate::admin::format::is_broken_pipe(&error) => Ok(()),
        done => done,
    }
}
