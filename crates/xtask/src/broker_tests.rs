//! Tests of the workspace that need a running broker: started here, run against each kind.
//!
//! They are marked `#[ignore = "needs a broker"]`, so that a plain `cargo test` passes without one.
use anyhow::Result;

use crate::brokers::{Broker, Kind, target_dir};
use crate::cargo_cmd::cargo;
use crate::process;
use crate::suites::tests;
use crate::test_runner::{Context, Outcome, Share};

/// The reason by which such a test is known.
pub(crate) const NEEDS_A_BROKER: &str = "needs a broker";

/// The small client of the command line, the tests and the benches.
pub(crate) fn client_lite(context: &Context) -> Result<Outcome> {
    let test = Tests {
        package: "plimsoll-client-lite",
        name: "against_a_broker",
        variable: "CLIENT_LITE_BOOTSTRAP",
        widest: "a_group_reads_commits_and_resumes",
    };
    let transactions = Tests {
        name: "transactions",
        widest: "transactions_of_the_new_protocol_count_all_or_not_at_all",
        ..test
    };
    let mut outcome = against_each(context, &test)?;
    outcome.add(against_each(context, &transactions)?);
    Ok(outcome)
}

/// The admin commands, which speak only the Kafka protocol.
pub(crate) fn admin_commands(context: &Context) -> Result<Outcome> {
    let test = Tests {
        package: "plimsoll-server",
        name: "admin_commands",
        variable: "ADMIN_BOOTSTRAP",
        widest: "a_group_reads_on_and_is_moved_back",
    };
    against_each(context, &test)
}

/// A test binary of the workspace.
struct Tests {
    package: &'static str,
    name: &'static str,
    /// The environment variable that takes the broker's addresses.
    variable: &'static str,
    /// The test that covers most: the default tier runs only this one against three nodes.
    widest: &'static str,
}

/// What passes against one kind and fails against the other shows where the fault lies: the full tier runs
/// all of them.
fn against_each(context: &Context, test: &Tests) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let kinds = [
        (Kind::Plimsoll, context.ours),
        (Kind::Apache, context.apache),
        (Kind::ThreeNodes, context.three_nodes != Share::None),
    ];
    for (kind, _) in kinds.into_iter().filter(|(_, wanted)| *wanted) {
        let broker = Broker::start(context, kind, test.name)?;
        let mut command = cargo(&["test", "--package", test.package, "--test", test.name, "--"]);
        command.args(["--ignored", "--format=pretty"]).env(test.variable, broker.bootstrap());
        if kind == Kind::ThreeNodes && context.three_nodes == Share::One {
            command.arg(test.widest);
        }
        let mut ran = tests(&mut command)?;
        for failure in &mut ran.failures {
            *failure = format!("{} against {kind:?}: {failure}", test.name);
        }
        if !ran.failures.is_empty() {
            println!("{}", broker.log_tails());
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
