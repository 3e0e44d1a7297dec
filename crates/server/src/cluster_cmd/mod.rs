//! `plimsoll cluster`: several nodes at once.
mod add;
mod drain;
pub(crate) mod quorum;
mod rebalance;
mod replace_node;
mod status;
mod unregister;
mod up;
mod voters;

use clap::Subcommand;

/// The commands of `plimsoll cluster`.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    Up(up::UpArgs),
    Status(status::StatusArgs),
    Add(add::AddArgs),
    Voters(voters::VotersArgs),
    Drain(drain::DrainArgs),
    Rebalance(rebalance::RebalanceArgs),
    ReplaceNode(replace_node::ReplaceNodeArgs),
    Unregister(unregister::UnregisterArgs),
}

/// Runs one command.
pub(crate) fn run(command: ClusterCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = match command {
        ClusterCommand::Up(args) => runtime.block_on(up::run(args)),
        ClusterCommand::Status(args) => runtime.block_on(status::run(args)),
        ClusterCommand::Add(args) => runtime.block_on(add::run(args)),
        ClusterCommand::Voters(args) => runtime.block_on(voters::run(args)),
        ClusterCommand::Drain(args) => runtime.block_on(drain::run(args)),
        ClusterCommand::Rebalance(args) => runtime.block_on(rebalance::run(args)),
        ClusterCommand::ReplaceNode(args) => runtime.block_on(replace_node::run(args)),
        ClusterCommand::Unregister(args) => runtime.block_on(unregister::run(args)),
    };
    // A name that is still being looked up must not outlast --timeout.
    runtime.shutdown_background();
    match done {
        Err(error) if crate::admin::format::is_broken_pipe(&error) => Ok(()),
        done => done,
    }
}
