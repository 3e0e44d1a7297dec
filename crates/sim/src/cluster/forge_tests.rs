use super::run::{ClusterOutcome, run_seed};

/// A seed in which a replica took a batch that it was not sent.
const FORGED: u64 = 38;

fn forged() -> ClusterOutcome {
    run_seed(FORGED, 10_000, 3)
}

#[test]
fn a_replaced_batch_with_every_checksum_right_is_found_by_comparison_and_healed() {
    let outcome = forged();
    assert_eq!(outcome.violations, []);
    assert!(outcome.faults.forgeries > 0, "{:?}", outcome.faults);
    assert!(outcome.sometimes.differed > 0 && outcome.sometimes.suspect > 0, "{:?}", outcome.sometimes);
}

#[test]
fn and_by_nothing_else() {
    model::planted::plant(Some(model::planted::Bug::ChainsNotCompared));
    let outcome = forged();
    model::planted::plant(None);
    assert_eq!(outcome.violations.first().map(|v| v.checker), Some("logs-differ"));
    assert_eq!(outcome.sometimes.suspect, 0, "nobody noticed");
}
