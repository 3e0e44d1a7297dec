//! Tests of the workspace that need a running broker: started here, run against each kind.
//!
//! They are marked `#[ignore = "needs a broker"]`, so that a plain `cargo test` passes without one.
use anyhow::Result;

use crate::brokers::{Broker, Kind, target_dir};
use crate::cargo_cmd::cargo;
use crate::process;
use crate::suites::tests;
use crate::test_runner::{Context, Outcome};

/// The reason by which such a test is known.
pub(crate) const NEEDS_A_BROKER: &str = "needs a broker";

/// The small client of the command line, the tests and the benches.
pub(crate) fn client_lite(context: &Context) -> Result<Outcome> {
    against_each(context, "plimsoll-client-lite", "against_a_broker", "CLIENT_LITE_BOOTSTRAP")
}

/// The admin commands, which speak only the Kafka protocol.
pub(crate) fn admin_commands(context: &Context) -> Result<Outcome> {
    against_each(context, "plimsoll-server", "admin_commands", "ADMIN_BOOTSTRAP")
}

/// What passes against one kind and fails against the other shows where the fault lies: the full tier runs
/// both.
fn against_each(context: &Context, package: &str, test: &str, variable: &str) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let kinds = [(Kind::Plimsoll, context.ours), (Kind::Apache, context.apache)];
    for (kind, _) in kinds.into_iter().filter(|(_, wanted)| *wanted) {
        let broker = Broker::start(context, kind, test)?;
        let mut command = cargo(&["test", "--package", package, "--test", test, "--"]);
        command.args(["--ignored", "--format=pretty"]).env(variable, broker.bootstrap());
        let mut ran = tests(&mut command)?;
        for failure in &mut ran.failures {
            *failure = format!("{test} against {kind:?}: {failure}");
        }
        outcome.add(ran);
        broker.stop()?;
    }
    Ok(outcome)
}

/// The same requests to two brokers, the answers compared field by field. The full tier also compares Apache
/// Kafka with itself: what differs there is the script's own noise.
pub(crate) fn differential(context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for (kind, _) in
        [(Kind::Plimsoll, context.ours), (Kind::Apache, context.apache)].iter().filter(|(_, on)| *on)
    {
        let what = format!("differential, {kind:?} and Apache");
        outcome.add(match compare(context, *kind) {
            Ok(()) => Outcome::of(true, &what),
            Err(error) => Outcome::of(false, &format!("{what}: {error:#}")),
        });
    }
    Ok(outcome)
}

fn compare(context: &Context, kind: Kind) -> Result<()> {
    let ours = Broker::start(context, kind, "differential-ours")?;
    let theirs = Broker::start(context, Kind::Apache, "differential-theirs")?;
    let mut command = cargo(&["run", "--quiet", "--package", "plimsoll-differential", "--"]);
    command.args(["--ours", &ours.bootstrap(), "--theirs", &theirs.bootstrap()]);
    let report = target_dir(&context.root).join(format!("differential-{kind:?}.txt").to_lowercase());
    command.arg("--report").arg(report);
    if kind == Kind::Apache {
        command.arg("--alike");
    }
    let result = process::run(&mut command);
    theirs.stop()?;
    ours.stop()?;
    result
}
