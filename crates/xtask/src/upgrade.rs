//! The program of the previous commit: built for the tests in which its nodes are upgraded to the present one.
use crate::brokers::target_dir;
use crate::cargo_cmd::cargo;
use crate::suites::{PROCESS, loop_mount, tests};
use crate::test_runner::{Context, Outcome, Tier};
use crate::{jepsen_cmd, process};
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What a program is made of. Commits that change nothing of it are not a version of their own.
const SOURCES: [&str; 10] = [
    "crates",
    "protocol",
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    ":!crates/xtask",
    ":!crates/sim",
    ":!crates/fuzz-targets",
    ":!crates/*/tests/*",
    ":!crates/*tests.rs",
];

/// The tests of `process` that need another build of the broker.
pub(crate) const TESTS: &str = "upgrade::";

/// Nodes of the previous commit are replaced one by one, under load. Without that commit, or where it does not
/// build, the suite is skipped.
pub(crate) fn suite(context: &Context) -> Result<Outcome> {
    let skipped = |why: String| Ok(Outcome { skipped: vec![why], ..Outcome::default() });
    let commit = match previous_commit(&context.root) {
        Ok(commit) => commit,
        Err(why) => return skipped(format!("upgrade: {why:#}")),
    };
    let previous = match build(&context.root, &commit) {
        Ok(previous) => previous,
        Err(why) => return skipped(format!("upgrade/build: {commit} does not build: {why:#}")),
    };
    println!("   upgraded from {commit}");
    let mut command = cargo(&PROCESS);
    command.args(["--ignored", "--format=pretty", "--test-threads", "1", TESTS]);
    if context.tier == Tier::Full {
        command.env("PLIMSOLL_ROUNDS", "5");
    }
    let mut outcome = tests(command.env("PLIMSOLL_PREVIOUS", &previous))?;
    if outcome.passed == 0 && outcome.failures.is_empty() {
        outcome.failures.push(format!("upgrade: no test begins with {TESTS}"));
    }
    if context.tier == Tier::Full {
        match loop_mount(context) {
            Ok(()) => outcome.add(rig(context, &previous)?),
            Err(why) => {
                outcome.skipped.push(format!("jepsen/upgrade-and-downgrade: no loop mount here: {why:#}"))
            }
        }
    }
    Ok(outcome)
}

/// The rig's clients of other families see it too.
fn rig(context: &Context, previous: &Path) -> Result<Outcome> {
    let previous = previous.display().to_string();
    let args = ["--scenario", "upgrade-and-downgrade", "--older", &previous];
    jepsen_cmd::suite(context, &args, Duration::from_secs(1800))
}

fn git(root: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    let output = command.current_dir(root).args(args).output().context("git")?;
    if !output.status.success() {
        bail!("git {}: {}", args[0], String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// The newest commit on this branch whose program is not the one in the working tree: HEAD where something is not
/// committed yet, else the one before the last change.
fn previous_commit(root: &Path) -> Result<String> {
    let with_sources = |args: &[&'static str]| git(root, &[args, &["--"], &SOURCES].concat());
    let changed = with_sources(&["status", "--porcelain"])?;
    let last = with_sources(&["rev-list", "--first-parent", "--max-count=1", "HEAD"])?;
    if last.is_empty() {
        bail!("no commit holds a program");
    }
    let wanted = if changed.is_empty() { format!("{last}^") } else { "HEAD".to_owned() };
    let what = format!("{wanted}^{{commit}}");
    let found = git(root, &["rev-parse", "--verify", "--quiet", &what]);
    found.with_context(|| format!("this copy's history holds nothing before {last}"))
}

/// Builds the broker of a commit without touching the working tree. Its files lie in one place for all commits, and
/// only those that differ are written, so that cargo builds no more than it must. It has a build directory of its own:
/// cargo takes crates of one name and version in two copies of a workspace for the same ones.
fn build(root: &Path, commit: &str) -> Result<PathBuf> {
    let dir = std::path::absolute(target_dir(root).join("upgrade"))?;
    let (tree, target) = (dir.join("tree"), dir.join("target"));
    std::fs::create_dir_all(&tree)?;
    let mut checkout = Command::new("git");
    checkout.current_dir(root).env("GIT_INDEX_FILE", dir.join("index")).arg("--work-tree").arg(&tree);
    process::run_quietly(checkout.args(["read-tree", "--reset", "-u", commit]))?;
    let mut command = cargo(&["build", "--locked", "-p", "plimsoll-server"]);
    command.current_dir(&tree).env("CARGO_TARGET_DIR", &target);
    // Nobody debugs it: without what a debugger needs it is built sooner and is smaller.
    process::run_quietly(command.env("CARGO_PROFILE_DEV_DEBUG", "0"))?;
    Ok(target.join("debug/plimsoll"))
}

#[cfg(test)]
mod tests {
    use super::previous_commit;
    use std::path::Path;
    use std::process::Command;

    fn git(dir: &Path, args: &[&str]) -> String {
        let mut command = Command::new("git");
        let who = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"];
        let output = command.current_dir(dir).args(who).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Writes a file and commits it; the commit.
    fn commit(dir: &Path, name: &str, text: &str) -> String {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        git(dir, &["add", "-A"]);
        git(dir, &["commit", "-q", "-m", name]);
        git(dir, &["rev-parse", "HEAD"])
    }

    #[test]
    fn the_previous_commit_is_the_newest_with_another_program() {
        let dir = std::env::temp_dir().join(format!("plimsoll-upgrade-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        git(&dir, &["init", "-q"]);
        assert!(previous_commit(&dir).is_err(), "there is none");
        let first = commit(&dir, "crates/a/src/lib.rs", "1");
        assert!(previous_commit(&dir).is_err(), "there is none before it");
        let second = commit(&dir, "crates/a/src/lib.rs", "2");
        assert_eq!(previous_commit(&dir).unwrap(), first);
        commit(&dir, "docs/page.md", "of no program");
        let last = commit(&dir, "crates/a/tests/process/main.rs", "of no program");
        assert_eq!(previous_commit(&dir).unwrap(), first, "{second} is the program that is there");
        std::fs::write(dir.join("crates/a/src/lib.rs"), "3").unwrap();
        assert_eq!(previous_commit(&dir).unwrap(), last, "the change is not committed");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
