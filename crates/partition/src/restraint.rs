//! A replica that may have lost what it acknowledged.
use crate::api::PartitionFx;
use crate::partition::Partition;
use consensus::Freed;
use storage::{Directory, UNKNOWN_FLOOR};

impl Partition {
    /// It neither votes nor leads until it holds again what it may have acknowledged, up to `floor` where that is known.
    pub(crate) fn restrain(&mut self, floor: u64, dir: &mut Directory) {
        self.group.restrain(if floor == UNKNOWN_FLOOR { 0 } else { floor });
        if !self.group.is_restrained() {
            // All of its group, and nothing is missing: what is here is what there is.
            dir.lift_floor(self.key);
        }
    }

    /// Whether it may have lost what it acknowledged, and does not vote until it holds it again.
    pub fn is_restrained(&self) -> bool {
        self.group.is_restrained()
    }

    /// While its members come, what a replica writes that was made all of its group is synced, whatever is configured:
    /// were it to forget them, it would believe to be alone.
    pub fn set_strict(&mut self, strict: bool) {
        self.strict = strict;
    }

    pub(crate) fn freed(&mut self, freed: Freed, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        dir.lift_floor(self.key);
        fx.push(PartitionFx::Freed { lost: freed == Freed::Leads });
    }

    /// Whether `write.caching` has an effect. Not with a witness: restrained replicas are freed by what each voter tells
    /// in its requests for votes, and a witness makes none.
    pub(crate) fn may_relax(&self) -> bool {
        self.cfg.write_caching && !self.strict && !self.group.membership().has_witness()
    }

    /// Whether entries that are appended now count as persisted once they are written (`write.caching`).
    pub(crate) fn relaxes(&self) -> bool {
        // Alone, the first write of a term is synced all the same: the term must not be used twice. With others
        // the term is synced with the vote.
        self.may_relax() && (self.leader_epoch().is_some() || !self.group.is_alone())
    }
}
