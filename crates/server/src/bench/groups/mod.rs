//! `plimsoll bench groups`: what coordinators of groups do for many members, many groups, and after a fault.
mod ask;
mod board;
mod classic;
mod commit;
mod consumer;
mod join;
mod loaded;
mod pulse;
mod route;

#[cfg(test)]
use super::BrokerArgs;
use super::frames::now_ms;
use clap::Subcommand;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupsCommand {
    /// Many members join one group at once: the time until each has its share.
    Join(join::JoinArgs),
    /// OffsetCommit over many groups at --rate; or, with --once, one commit of each group, which fills a coordinator.
    Commit(commit::CommitArgs),
    /// Ask for offsets of many groups until each is answered, waiting for the broker to start.
    Loaded(loaded::LoadedArgs),
    /// Heartbeats and commits of one member through whatever happens to its coordinator: gaps and errors.
    Pulse(pulse::PulseArgs),
}

impl GroupsCommand {
    /// Which broker, and how to print.
    #[cfg(test)]
    pub(super) fn broker(&self) -> &BrokerArgs {
        match self {
            GroupsCommand::Join(args) => &args.topic.broker,
            GroupsCommand::Commit(args) => &args.topic.broker,
            GroupsCommand::Loaded(args) => &args.topic.broker,
            GroupsCommand::Pulse(args) => &args.topic.broker,
        }
    }
}

/// Runs a measurement and prints its figures.
pub(super) fn run(command: &GroupsCommand) -> anyhow::Result<()> {
    match command {
        GroupsCommand::Join(args) => join::run(args),
        GroupsCommand::Commit(args) => commit::run(args),
        GroupsCommand::Loaded(args) => loaded::run(args),
        GroupsCommand::Pulse(args) => pulse::run(args),
    }
}
