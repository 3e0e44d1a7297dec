//! Histories that break each rule, and such as only look so.
use super::super::oracle::Oracle;
use super::client::Step;
use super::model::{Answer, Model, Sent, Teller};
use super::{Kind, Part};
use ::model::ErrorCode;
use coordinator::ConsumerHeartbeatReply;
use std::collections::{BTreeMap, BTreeSet};

const LEADS: Teller = Teller { reign: 5, is_newest: true };
const DEPOSED: Teller = Teller { reign: 4, is_newest: false };

#[derive(Default)]
struct Bench {
    model: Model,
    oracle: Oracle,
    calls: u64,
}

fn part() -> Part {
    ("topic-0".to_owned(), 0)
}

fn parts() -> BTreeSet<Part> {
    BTreeSet::from([part()])
}

fn commit(offset: i64) -> Step {
    Step::Commit(BTreeMap::from([(part(), offset)]))
}

fn beat(owned: BTreeSet<Part>) -> Step {
    Step::Consumer { owned, whole: false }
}

fn told(epoch: i32, parts: Option<BTreeSet<Part>>) -> Answer {
    let reply = ConsumerHeartbeatReply::refused(ErrorCode::None, None);
    Answer::Told(ConsumerHeartbeatReply { member_epoch: epoch, ..reply }, parts)
}

impl Bench {
    fn send(&mut self, kind: Kind, member: &str, epoch: i32, step: Step) -> u64 {
        self.calls += 1;
        let (member, instance) = (member.to_owned(), None);
        self.model.sent(self.calls, Sent { group: 0, kind, member, instance, epoch, step });
        self.calls
    }

    fn answer(&mut self, call: u64, by: Teller, answer: &Answer) {
        self.model.answered(&mut self.oracle, call, by, answer);
    }

    fn ask(&mut self, kind: Kind, member: &str, epoch: i32, step: Step, by: Teller, answer: &Answer) {
        let call = self.send(kind, member, epoch, step);
        self.model.arrived(call);
        self.answer(call, by, answer);
    }

    /// A member of a classic group gets the partition in a generation.
    fn sync(&mut self, member: &str, generation: i32) {
        let step = Step::Sync(Vec::new());
        self.ask(Kind::Classic, member, generation, step, LEADS, &Answer::Synced(parts()));
    }

    /// A member of KIP-848 is told to have these.
    fn tell(&mut self, member: &str, epoch: i32, parts: BTreeSet<Part>, by: Teller) {
        self.ask(Kind::Consumer, member, epoch, beat(BTreeSet::new()), by, &told(epoch, Some(parts)));
    }

    fn found(&self) -> Vec<&'static str> {
        self.oracle.violations.iter().map(|v| v.checker).collect()
    }
}

#[test]
fn a_commit_of_who_had_the_partition_before_must_not_be_taken() {
    let mut bench = Bench::default();
    bench.tell("a", 3, parts(), LEADS);
    bench.tell("b", 4, parts(), LEADS);
    bench.ask(Kind::Consumer, "b", 4, commit(1), LEADS, &Answer::Done);
    bench.ask(
        Kind::Consumer,
        "a",
        3,
        commit(2),
        LEADS,
        &Answer::Refused(ErrorCode::StaleMemberEpoch, String::new()),
    );
    assert_eq!(bench.found(), [""; 0]);
    bench.ask(Kind::Consumer, "a", 3, commit(3), LEADS, &Answer::Done);
    assert_eq!(bench.found(), ["group-two-owners"]);
}

#[test]
fn a_commit_that_came_before_the_next_owner_was_told_may_be_taken_at_any_time() {
    let mut bench = Bench::default();
    bench.tell("a", 3, parts(), LEADS);
    let call = bench.send(Kind::Consumer, "a", 3, commit(1));
    bench.model.arrived(call);
    bench.tell("b", 4, parts(), LEADS);
    bench.answer(call, DEPOSED, &Answer::Done);
    // What the one who was deposed says of the past changes nothing.
    bench.tell("a", 3, parts(), DEPOSED);
    bench.ask(Kind::Consumer, "b", 4, commit(2), LEADS, &Answer::Done);
    assert_eq!(bench.found(), [""; 0]);
}

#[test]
fn no_two_members_are_given_one_partition_at_one_epoch() {
    let mut bench = Bench::default();
    bench.sync("a", 3);
    bench.sync("b", 3);
    assert_eq!(bench.found(), ["group-two-owners"]);
    let mut bench = Bench::default();
    bench.tell("a", 3, parts(), LEADS);
    bench.tell("b", 2, parts(), LEADS);
    assert_eq!(bench.found(), ["group-two-owners"]);
}

#[test]
fn who_keeps_a_partition_that_another_has_is_no_member_any_more() {
    let mut bench = Bench::default();
    bench.tell("a", 3, parts(), LEADS);
    bench.tell("b", 4, parts(), LEADS);
    bench.ask(Kind::Consumer, "a", 3, beat(parts()), DEPOSED, &told(3, None));
    assert_eq!(bench.found(), [""; 0]);
    bench.ask(Kind::Consumer, "a", 3, beat(parts()), LEADS, &told(3, None));
    assert_eq!(bench.found(), ["group-two-owners"]);
}

#[test]
fn offsets_are_not_below_what_was_committed_and_not_above_what_was_tried() {
    let mut bench = Bench::default();
    bench.model.tried.entry(0).or_default().insert(part(), 7);
    bench.tell("a", 3, parts(), LEADS);
    let early = bench.send(Kind::Consumer, "a", 3, Step::Fetch(parts()));
    bench.model.arrived(early);
    bench.ask(Kind::Consumer, "a", 3, commit(6), LEADS, &Answer::Done);
    let read = |offset| Answer::Read(BTreeMap::from([(part(), offset)]));
    bench.answer(early, LEADS, &read(5));
    bench.ask(Kind::Consumer, "a", 3, Step::Fetch(parts()), LEADS, &read(7));
    assert_eq!(bench.found(), [""; 0]);
    bench.ask(Kind::Consumer, "a", 3, Step::Fetch(parts()), LEADS, &read(5));
    bench.ask(Kind::Consumer, "a", 3, Step::Fetch(parts()), LEADS, &read(8));
    assert_eq!(bench.found(), ["group-offset-back", "group-offset-back"]);
}

#[test]
fn who_was_told_that_it_is_out_is_not_let_in_again_as_it_was() {
    let out = Answer::Refused(ErrorCode::UnknownMemberId, String::new());
    let mut bench = Bench::default();
    bench.ask(Kind::Consumer, "a", 3, beat(parts()), DEPOSED, &out);
    bench.ask(Kind::Consumer, "a", 3, beat(parts()), LEADS, &told(3, None));
    assert_eq!(bench.found(), [""; 0], "the one who was deposed cannot know");
    bench.ask(Kind::Consumer, "a", 3, beat(parts()), LEADS, &out);
    bench.ask(Kind::Consumer, "a", 3, beat(parts()), LEADS, &told(3, None));
    assert_eq!(bench.found(), ["group-fenced-stays-fenced"]);
    bench.ask(Kind::Consumer, "a", 3, commit(1), DEPOSED, &Answer::Done);
    assert_eq!(bench.found().len(), 2);
    // It has joined again.
    bench.ask(Kind::Consumer, "a", 0, beat(BTreeSet::new()), LEADS, &told(3, None));
    bench.ask(Kind::Consumer, "a", 3, beat(BTreeSet::new()), LEADS, &told(3, None));
    assert_eq!(bench.found().len(), 2);
}

/// Both were long on their way, while their member went on to later epochs.
#[test]
fn a_commit_of_an_older_epoch_is_fine_where_only_a_heartbeat_of_that_epoch_was_refused() {
    let out = Answer::Refused(ErrorCode::FencedMemberEpoch, String::new());
    let mut bench = Bench::default();
    bench.tell("a", 3, parts(), LEADS);
    bench.tell("a", 5, parts(), LEADS);
    bench.ask(Kind::Consumer, "a", 3, beat(parts()), LEADS, &out);
    bench.ask(Kind::Consumer, "a", 3, commit(1), LEADS, &Answer::Done);
    assert_eq!(bench.found(), [""; 0]);
    bench.ask(Kind::Consumer, "a", 3, beat(parts()), LEADS, &told(5, None));
    assert_eq!(bench.found(), ["group-fenced-stays-fenced"]);
}

#[test]
fn an_old_generation_is_over_when_a_newer_one_was_assigned() {
    let mut bench = Bench::default();
    bench.sync("a", 3);
    bench.ask(Kind::Classic, "a", 3, Step::Beat, LEADS, &Answer::Done);
    bench.sync("b", 4);
    bench.ask(Kind::Classic, "a", 3, Step::Beat, DEPOSED, &Answer::Done);
    assert_eq!(bench.found(), [""; 0]);
    bench.ask(Kind::Classic, "a", 3, Step::Beat, LEADS, &Answer::Done);
    assert_eq!(bench.found(), ["group-fenced-stays-fenced"]);
}
