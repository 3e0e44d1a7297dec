//! Seeds that once found a fault. They show it for as long as nothing changes what seeds draw; then they are seeds like
//! others, and the tests beside each mended part remain.
use super::run::run_seed;

/// A damaged replica led alone, as the only member of an old checkpoint (364); a replica was opened before its node
/// knew that the topic is deleted (1234); a deleted replica that was found damaged while it was opened stayed (4630); a
/// cluster whose first leader was lost between its id and its feature levels never had these (4681); two ids waited one
/// after the other for the same deleted partition (5017); a late commit for a partition that its member had given up was
/// taken when another member had it (1128); a command that the log did not take made the leader forget those that it took,
/// and two requests for one topic were both answered as made (8484); what an install of a topic that was deleted meanwhile had
/// put aside was kept for ten minutes, to go on (4670); a late marker had a replica begin anew before its node knew that the
/// topic is deleted (7421); epochs that a full disk had no room for were told, and clients did not go back to lower ones (3376); a replica
/// that was alone still while others were to join it gave up on a full disk, and nobody had it elect itself again (6775).
const SEEDS: [u64; 11] = [364, 1128, 1234, 3376, 4630, 4670, 4681, 5017, 6775, 7421, 8484];

/// The same of five nodes. A heartbeat that was long on its way took what its member was to read to a connection that it
/// had given up (666, 845).
const SEEDS_OF_FIVE: [u64; 2] = [666, 845];

#[test]
fn seeds_that_found_a_fault_are_clean() {
    for seed in SEEDS {
        assert_eq!(run_seed(seed, 10_000, 3).violations, [], "seed {seed}");
    }
    for seed in SEEDS_OF_FIVE {
        assert_eq!(run_seed(seed, 10_000, 5).violations, [], "seed {seed} of five nodes");
    }
}
