//! Running cargo from the workspace's root, and reading our own flags.
use crate::codegen_proto::root;
use crate::process;
use anyhow::{Context, Result, bail};
use std::process::Command;

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
        bail!("{name} needs a value");
    }
    args.remove(at);
    Ok(Some(args.remove(at)))
}

/// Takes a number out of `args`.
pub(crate) fn take_number(args: &mut Vec<String>, name: &str, otherwise: u64) -> Result<u64> {
    let Some(text) = take(args, name)? else { return Ok(otherwise) };
    text.parse().with_context(|| format!("{name} {text}: not a number"))
}

/// Fails when flags are left that nobody took.
pub(crate) fn none_left(args: &[String], usage: &str) -> Result<()> {
    if args.is_empty() { Ok(()) } else { bail!("{}: not known here\nusage: {usage}", args.join(" ")) }
}
