//! Running cargo from the workspace's root, and reading our own flags.
use crate::codegen_proto::root;
use crate::process;
use anyhow::Result;
use std::fmt;
use std::process::Command;

/// A flag that is not known, or a value that it does not take; told together with the usage.
#[derive(Debug)]
pub(crate) struct BadFlags(pub(crate) String);

impl fmt::Display for BadFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadFlags {}

/// A cargo invocation at the root.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(args);
    command
}

/// Builds the broker in release mode.
pub(crate) fn build_broker() -> Result<()> {
    process::run(&mut cargo(&["build", "--release", "-p", "plimsoll-server"]))
}

/// The broker that [`build_broker`] built.
pub(crate) fn broker() -> String {
    let target = crate::brokers::target_dir(&root());
    target.join("release/plimsoll").display().to_string()
}

/// Takes `name VALUE` out of `args`.
pub(crate) fn take(args: &mut Vec<String>, name: &str) -> Result<Option<String>> {
    let Some(at) = args.iter().position(|arg| arg == name) else { return Ok(None) };
    if at + 1 >= args.len() {
        return Err(BadFlags(format!("{name} needs a value")).into());
    }
    args.remove(at);
    Ok(Some(args.remove(at)))
}

/// Takes a number out of `args`.
pub(crate) fn take_number(args: &mut Vec<String>, name: &str, otherwise: u64) -> Result<u64> {
    let Some(text) = take(args, name)? else { return Ok(otherwise) };
    text.parse().map_err(|_| BadFlags(format!("{name} {text}: not a number")).into())
}

/// Fails when flags are left that nobody took.
pub(crate) fn none_left(args: &[String]) -> Result<()> {
    if args.is_empty() { Ok(()) } else { Err(BadFlags(format!("{}: not known here", args.join(" "))).into()) }
}
