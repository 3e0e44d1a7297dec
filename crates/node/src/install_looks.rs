//! What looks at an install's files find, and when everything is to be pulled anew.
use storage::MissingPart;

/// So often may what was pulled not be what the checkpoint says.
const MOST_IN_VAIN: u32 = 8;

/// The looks of one install.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Looks {
    /// What the last look missed was pulled since, all of it.
    pulled: bool,
    /// The last look missed data files, and not the checkpoint.
    files: bool,
    in_vain: u32,
}

/// What follows from a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pull,
    /// What the leader sent of a data file is not what its checkpoint says: it should know, and try again.
    PullAgain,
    GiveUp,
}

impl Looks {
    /// Everything that was missing is here.
    pub(crate) fn pulled(&mut self) {
        self.pulled = true;
    }

    /// The leader does not have what its checkpoint names any more. It may have taken another one at the same index, when
    /// files could go that had been kept before: the checkpoint has to be pulled again too. Whether the leader is to be
    /// told: it happened before, and perhaps it cannot read its own files.
    pub(crate) fn gone(&mut self) -> bool {
        self.in_vain += 1;
        self.in_vain > 1
    }

    /// A look misses these. One that was interrupted, by a leader that went or for lack of room, does not count.
    pub(crate) fn miss(&mut self, parts: &[MissingPart]) -> Verdict {
        let files = parts.iter().any(|part| part.file > 0);
        let in_vain = std::mem::take(&mut self.pulled) && (self.files || !files);
        self.files = files;
        self.in_vain += u32::from(in_vain);
        match in_vain && files {
            _ if self.in_vain > MOST_IN_VAIN => Verdict::GiveUp,
            true => Verdict::PullAgain,
            false => Verdict::Pull,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(file: u64) -> [MissingPart; 1] {
        [MissingPart { file, good: 0, size: 100 }]
    }

    #[test]
    fn an_install_that_is_interrupted_any_number_of_times_goes_on() {
        let mut looks = Looks::default();
        for _ in 0..100 {
            assert_eq!(looks.miss(&part(0)), Verdict::Pull);
        }
        looks.pulled();
        assert_eq!(looks.miss(&part(7)), Verdict::Pull, "the checkpoint came and names a file");
        for _ in 0..100 {
            assert_eq!(looks.miss(&part(7)), Verdict::Pull, "there was no room");
        }
    }

    #[test]
    fn what_was_pulled_and_is_wrong_is_told_and_in_the_end_given_up() {
        let mut looks = Looks::default();
        looks.miss(&part(7));
        for _ in 0..MOST_IN_VAIN {
            looks.pulled();
            assert_eq!(looks.miss(&part(7)), Verdict::PullAgain);
        }
        looks.pulled();
        assert_eq!(looks.miss(&part(7)), Verdict::GiveUp);
        let mut looks = Looks::default();
        looks.miss(&part(0));
        for _ in 0..MOST_IN_VAIN {
            looks.pulled();
            assert_eq!(looks.miss(&part(0)), Verdict::Pull, "a checkpoint that was replaced meanwhile");
        }
        looks.pulled();
        assert_eq!(looks.miss(&part(0)), Verdict::GiveUp);
    }

    #[test]
    fn a_leader_whose_files_go_again_and_again_is_not_asked_for_ever() {
        let mut looks = Looks::default();
        let mut tries = 0;
        while looks.miss(&part(7)) != Verdict::GiveUp {
            assert_eq!(looks.gone(), tries > 0, "it may have removed them in good order, once");
            tries += 1;
        }
        assert_eq!(tries, MOST_IN_VAIN + 1);
    }
}
