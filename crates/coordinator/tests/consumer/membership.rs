//! Joining, leaving, epochs, revocation, fencing.
use crate::common::Bench;
use crate::group::*;
use coordinator::*;
use model::ErrorCode;

#[test]
fn a_first_heartbeat_must_say_everything() {
    let mut bench = bench(4);
    type Change = fn(&mut ConsumerHeartbeatRequest);
    let cases: [(Change, ErrorCode); 13] = [
        (|r| r.group_id = " ".into(), ErrorCode::InvalidRequest),
        (|r| r.member_id = String::new(), ErrorCode::InvalidRequest),
        (|r| r.instance_id = Some(String::new()), ErrorCode::InvalidRequest),
        (|r| r.rack_id = Some(" ".into()), ErrorCode::InvalidRequest),
        (|r| r.rebalance_timeout_ms = -1, ErrorCode::InvalidRequest),
        (|r| r.owned = None, ErrorCode::InvalidRequest),
        (|r| r.owned = Some(vec![(topic(1), vec![0])]), ErrorCode::InvalidRequest),
        (|r| r.topics = None, ErrorCode::InvalidRequest),
        (|r| r.member_epoch = -3, ErrorCode::InvalidRequest),
        (|r| r.member_epoch = -2, ErrorCode::InvalidRequest),
        (|r| r.assignor = Some("sticky".into()), ErrorCode::UnsupportedAssignor),
        (|r| r.regex = Some("(".into()), ErrorCode::InvalidRegularExpression),
        (|r| r.member_epoch = 1, ErrorCode::GroupIdNotFound),
    ];
    for (change, error) in cases {
        let mut request = join("a");
        change(&mut request);
        assert_eq!(bench.refused(request.clone()), error, "{request:?}");
    }
    assert!(bench.log.is_empty());
    assert_eq!(bench.consumers().error, ErrorCode::GroupIdNotFound);
    // Version 0 has its id from us.
    let reply = bench.beat(ConsumerHeartbeatRequest { must_have_id: false, ..join("") });
    assert_eq!(reply.error, ErrorCode::None);
    assert!(!reply.member_id.unwrap().is_empty());
}

#[test]
fn a_partition_goes_to_the_next_member_only_when_it_was_given_up() {
    let mut bench = bench(4);
    bench.ok(join("a"));
    assert_eq!(bench.ok(join("b")), (2, Some(Owned::new())));
    // What it says at the epoch before is no confirmation: it cannot know yet.
    assert_eq!(bench.ok(beat_with("a", 1, &[])).0, 2);
    assert_eq!(bench.consumers().state, "Reconciling");
    assert_eq!(bench.ok(beat("b", 2)), (2, None));
    // It still has 2, then none that it is to give up.
    assert_eq!(bench.ok(beat_with("a", 2, &[(1, &[0, 1, 2])])), (2, None));
    assert_eq!(bench.ok(beat("b", 2)), (2, None));
    // Missed the answer: it is told again, and what it still has is held for it.
    assert_eq!(bench.ok(beat_with("a", 1, &[(1, &[0, 1, 2, 3])])), (2, None));
    assert_eq!(bench.ok(beat("b", 2)), (2, None));
    assert_eq!(bench.ok(beat_with("a", 2, &[(1, &[0, 1])])), (2, None));
    assert_eq!(bench.ok(beat("b", 2)).1, Some(Owned::from([(topic(1), vec![2, 3])])));
    assert_eq!(bench.consumers().state, "Stable");
}

#[test]
fn an_answer_waits_for_its_commit_and_what_comes_meanwhile_is_decided_together() {
    let mut bench = bench(4);
    bench.auto = false;
    let first = bench.send_beat(join("a"));
    let second = bench.send_beat(join("b"));
    let third = bench.send_beat(join("c"));
    assert_eq!((bench.open.len(), bench.replies.len()), (1, 0));
    assert_eq!(bench.consumers().error, ErrorCode::GroupIdNotFound);
    bench.commit_one();
    assert_eq!(bench.beaten(first).member_epoch, 1);
    assert_eq!((bench.open.len(), bench.replies.len()), (1, 0));
    assert_eq!(bench.consumers().epoch, 1);
    bench.commit_one();
    assert_eq!(bench.beaten(second).member_epoch, 2);
    assert_eq!(bench.beaten(third).member_epoch, 3);
    assert!(bench.open.is_empty());
}

#[test]
fn a_failed_append_leaves_no_trace() {
    let mut bench = bench(4);
    bench.auto = false;
    let first = bench.send_beat(join("a"));
    let waits = bench.send_beat(join("b"));
    bench.fail_one(ErrorCode::NotEnoughReplicas);
    assert_eq!(bench.beaten(first).error, ErrorCode::CoordinatorNotAvailable);
    // The group is not there for b, so b makes it.
    bench.commit_all();
    assert_eq!(bench.beaten(waits).member_epoch, 1);
    let lost = bench.send_beat(join("c"));
    bench.fail_one(ErrorCode::NotEnoughReplicas);
    assert_eq!(bench.beaten(lost).error, ErrorCode::CoordinatorNotAvailable);
    let group = bench.consumers();
    assert_eq!((group.epoch, group.members.len()), (1, 1));
    bench.auto = true;
    // It is told all it has: what was undone may have had news for it.
    assert_eq!(bench.ok(beat("b", 1)), (1, Some(Owned::from([(topic(1), vec![0, 1, 2, 3])]))));
    assert_eq!(bench.ok(beat("b", 1)), (1, None));
    assert_eq!(bench.ok(join("c")).0, 2);
}

/// Each step of a rebalance waits for a heartbeat.
#[test]
fn members_come_sooner_while_there_may_be_news_for_them() {
    let mut bench = bench(4);
    let interval = |bench: &mut Bench, request| bench.beat(request).heartbeat_interval_ms;
    // Others are likely to follow the first.
    assert_eq!(interval(&mut bench, join("a")), 200);
    bench.pass(3_000);
    assert_eq!(interval(&mut bench, beat("a", 1)), 5_000);
    assert_eq!(interval(&mut bench, join("b")), 200);
    bench.pass(3_000);
    assert_eq!(interval(&mut bench, beat("a", 1)), 5_000, "it says itself when it has given up");
    assert_eq!(interval(&mut bench, beat("b", 2)), 200, "it waits for what a has");
    bench.beat(beat_with("a", 2, &[(1, &[0, 1])]));
    assert_eq!(interval(&mut bench, beat("b", 2)), 5_000);
}

/// The simulator found it: such a member had never taken its partitions, and nobody read them.
#[test]
fn who_comes_by_another_connection_is_told_what_it_has() {
    let mut bench = bench(4);
    let by = |connection: u64, request| ConsumerHeartbeatRequest { connection, ..request };
    bench.ok(by(1, join("a")));
    bench.ok(by(1, join("b")));
    bench.ok(by(1, beat_with("a", 1, &[])));
    assert_eq!(bench.ok(by(2, beat("b", 2))), (2, Some(Owned::new())));
    bench.ok(by(1, beat_with("a", 2, &[(1, &[0, 1])])));
    // A heartbeat that its first connection kept for long hears the news, and nobody reads that.
    let has = Some(Owned::from([(topic(1), vec![2, 3])]));
    assert_eq!(bench.ok(by(1, beat("b", 2))), (2, has.clone()));
    assert_eq!(bench.ok(by(2, beat("b", 2))), (2, has));
    assert_eq!(bench.ok(by(2, beat("b", 2))), (2, None));
}

#[test]
fn epochs_that_do_not_fit_are_fenced_but_a_missed_answer_is_told_again() {
    let mut bench = bench(4);
    let epoch = bench.pair();
    assert_eq!(bench.refused(beat("a", epoch + 1)), ErrorCode::FencedMemberEpoch);
    assert_eq!(bench.refused(beat("a", epoch - 1)), ErrorCode::FencedMemberEpoch);
    bench.c.topics_changed(image(2, &[6]));
    let got = Some(Owned::from([(topic(1), vec![0, 1, 4])]));
    assert_eq!(bench.ok(beat("a", epoch)), (epoch + 1, got.clone()));
    // With the epoch before and nothing that is not its own, it has only missed an answer.
    let mut again = beat_with("a", epoch, &[(1, &[0, 1])]);
    again.rebalance_timeout_ms = 30_000;
    again.topics = Some(vec!["t1".into()]);
    assert_eq!(bench.ok(again.clone()), (epoch + 1, got));
    again.owned = Some(vec![(topic(1), vec![0, 2])]);
    assert_eq!(bench.refused(again), ErrorCode::FencedMemberEpoch);
    assert_eq!(bench.refused(beat("a", epoch)), ErrorCode::FencedMemberEpoch);
    assert_eq!(bench.refused(beat("nobody", 1)), ErrorCode::UnknownMemberId);
    // A join that is told again: its answer was lost.
    assert_eq!(bench.ok(join("c")).0, 4);
    assert_eq!(bench.ok(join("c")), (4, Some(Owned::from([(topic(1), vec![5])]))));
}

#[test]
fn a_member_that_leaves_or_is_silent_frees_its_partitions() {
    let mut bench = bench(4);
    let epoch = bench.pair();
    let reply = bench.beat(beat("b", -1));
    assert_eq!((reply.error, reply.member_epoch), (ErrorCode::None, -1));
    assert_eq!(bench.refused(beat("b", epoch)), ErrorCode::UnknownMemberId);
    assert_eq!(bench.ok(beat("a", epoch)), (4 - 1, Some(Owned::from([(topic(1), vec![0, 1, 2, 3])]))));
    bench.pass(44_000);
    assert_eq!(bench.ok(beat("a", 3)), (3, None));
    bench.pass(45_000);
    assert_eq!(bench.refused(beat("a", 3)), ErrorCode::UnknownMemberId);
    let group = bench.consumers();
    assert_eq!((group.state, group.epoch), ("Empty", 4));
}

#[test]
fn a_member_that_does_not_give_up_in_time_is_fenced() {
    let mut bench = bench(4);
    bench.ok(join("a"));
    bench.ok(join("b"));
    bench.ok(beat("a", 1));
    bench.pass(29_000);
    assert_eq!(bench.ok(beat("a", 2)).0, 2);
    bench.ok(beat("b", 2));
    bench.pass(1_000);
    assert_eq!(bench.refused(beat("a", 2)), ErrorCode::UnknownMemberId);
    assert_eq!(bench.ok(beat("b", 2)).1, Some(Owned::from([(topic(1), vec![0, 1, 2, 3])])));
}

#[test]
fn a_static_member_finds_its_partitions_again() {
    let mut bench = bench(4);
    bench.ok(static_join("a", "i"));
    bench.ok(join("b"));
    bench.ok(beat("a", 1));
    let mut confirm = beat_with("a", 2, &[(1, &[0, 1])]);
    confirm.instance_id = Some("i".into());
    assert_eq!(bench.ok(confirm).0, 2);
    bench.ok(beat("b", 2));
    // While it is there, nobody takes its seat.
    assert_eq!(bench.refused(static_join("a2", "i")), ErrorCode::UnreleasedInstanceId);
    let away = ConsumerHeartbeatRequest { instance_id: Some("i".into()), ..beat("a", -2) };
    assert_eq!(bench.beat(away.clone()).member_epoch, -2);
    assert_eq!(bench.member("a").unwrap().member_epoch, -2);
    // It is the group's epoch that does not move: nobody else is disturbed.
    assert_eq!(bench.ok(static_join("a2", "i")), (2, Some(Owned::from([(topic(1), vec![0, 1])]))));
    assert_eq!(bench.ok(beat("b", 2)), (2, None));
    assert_eq!(bench.refused(away), ErrorCode::FencedInstanceId);
    let old = ConsumerHeartbeatRequest { instance_id: Some("i".into()), ..beat("a", 2) };
    assert_eq!(bench.refused(old.clone()), ErrorCode::FencedInstanceId);
    assert_eq!(bench.refused(beat("a", 2)), ErrorCode::UnknownMemberId);
    let unknown = ConsumerHeartbeatRequest { instance_id: Some("j".into()), ..old };
    assert_eq!(bench.refused(unknown), ErrorCode::UnknownMemberId);
}

#[test]
fn a_static_member_that_stays_away_is_fenced() {
    let mut bench = bench(4);
    bench.ok(static_join("a", "i"));
    bench.ok(join("b"));
    bench.beat(ConsumerHeartbeatRequest { instance_id: Some("i".into()), ..beat("a", -2) });
    bench.pass(30_000);
    bench.ok(beat("b", 2));
    assert_eq!(bench.has("b"), 0);
    bench.pass(15_000);
    assert_eq!(bench.ok(beat("b", 2)).1, Some(Owned::from([(topic(1), vec![0, 1, 2, 3])])));
}

#[test]
fn topics_that_come_grow_or_go_are_a_new_epoch() {
    let mut bench = bench(2);
    let both =
        |id: &str| ConsumerHeartbeatRequest { topics: Some(vec!["t1".into(), "t2".into()]), ..join(id) };
    assert_eq!(bench.ok(both("a")).1, Some(Owned::from([(topic(1), vec![0, 1])])));
    bench.c.topics_changed(image(2, &[3, 1]));
    let all = Owned::from([(topic(1), vec![0, 1, 2]), (topic(2), vec![0])]);
    assert_eq!(bench.ok(beat("a", 1)), (2, Some(all)));
    // What nobody subscribes to is no news.
    bench.c.topics_changed(image(3, &[3, 1, 7]));
    assert_eq!(bench.ok(beat("a", 2)), (2, None));
    bench.c.topics_changed(image(4, &[3]));
    let owned = [(1u8, &[0, 1, 2][..]), (2, &[0][..])];
    assert_eq!(bench.ok(beat_with("a", 2, &owned)), (3, Some(Owned::from([(topic(1), vec![0, 1, 2])]))));
    assert_eq!(bench.ok(beat_with("a", 3, &[(1, &[0, 1, 2])])), (3, None));
    // Racks count too (KIP-1101).
    let mut racks = TopicImage::new(5);
    racks.add("t1", topic(1), 3, &[vec!["r1".into()], vec![], vec![]]);
    bench.c.topics_changed(racks.into());
    assert_eq!(bench.ok(beat("a", 3)), (4, None));
}

#[test]
fn regular_expressions_find_what_the_client_may_see() {
    let mut bench = bench(1);
    let hides = |topic: &str| topic != "t2";
    let with = |id: &str, epoch: i32, regex: &str| ConsumerHeartbeatRequest {
        topics: None,
        regex: Some(regex.into()),
        visible: TopicFilter::new(hides),
        rebalance_timeout_ms: 1_000,
        ..beat_with(id, epoch, &[])
    };
    bench.c.topics_changed(image(1, &[1, 1]));
    let (_, got) = bench.ok(with("a", 0, "t[123]"));
    assert_eq!(got, Some(Owned::from([(topic(1), vec![0])])));
    // A topic that comes is found after ten seconds at the earliest.
    bench.c.topics_changed(image(2, &[1, 1, 1]));
    assert_eq!(bench.ok(beat("a", 1)), (1, None));
    bench.pass(10_000);
    let (_, got) = bench.ok(ConsumerHeartbeatRequest { visible: TopicFilter::new(hides), ..beat("a", 1) });
    assert_eq!(got, Some(Owned::from([(topic(1), vec![0]), (topic(3), vec![0])])));
    // One that goes is gone at once.
    bench.c.topics_changed(image(3, &[1, 1]));
    let got = bench.ok(beat_with("a", 2, &[(1, &[0]), (3, &[0])])).1;
    assert_eq!(got, Some(Owned::from([(topic(1), vec![0])])));
    assert_eq!(bench.ok(beat_with("a", 3, &[(1, &[0])])).0, 3);
    // An empty one ends it.
    let none = ConsumerHeartbeatRequest { regex: Some(String::new()), ..beat_with("a", 3, &[(1, &[0])]) };
    bench.ok(none);
    assert_eq!(bench.ok(beat_with("a", 4, &[])), (4, None));
    assert_eq!((bench.member("a").unwrap().regex, bench.has("a")), (None, 0));
    assert!(!bench.reloaded().c.live_records().any(|r| r.key.starts_with(&[0, 16])));
}

#[test]
fn a_group_has_its_largest_size_and_the_assignor_that_most_want() {
    let mut config = GroupConfig::default();
    config.consumer.max_size = 2;
    config.consumer.assignment_interval_ms = 0;
    let mut bench = Bench::with(config);
    bench.c.topics_changed(image(1, &[4]));
    let with = |id: &str| ConsumerHeartbeatRequest { assignor: Some("range".into()), ..join(id) };
    bench.ok(join("a"));
    assert_eq!(bench.consumers().assignor, "uniform");
    bench.ok(ConsumerHeartbeatRequest { instance_id: Some("i".into()), ..with("b") });
    assert_eq!(bench.consumers().assignor, "range");
    assert_eq!(bench.refused(with("c")), ErrorCode::GroupMaxSizeReached);
    // A static member that comes back is not one more.
    bench.beat(ConsumerHeartbeatRequest { instance_id: Some("i".into()), ..beat("b", -2) });
    bench.ok(ConsumerHeartbeatRequest { instance_id: Some("i".into()), ..with("b2") });
}

#[test]
fn assignments_keep_their_distance() {
    let mut config = GroupConfig::default();
    config.consumer.assignment_interval_ms = 1_000;
    let mut bench = Bench::with(config);
    bench.c.topics_changed(image(1, &[4]));
    assert_eq!(bench.ok(join("a")).0, 1);
    assert_eq!(bench.ok(join("b")), (1, Some(Owned::new())));
    assert_eq!((bench.consumers().state, bench.consumers().assignment_epoch), ("Assigning", 1));
    bench.pass(999);
    assert_eq!(bench.ok(beat("b", 1)), (1, None));
    bench.pass(1);
    assert_eq!(bench.ok(beat("b", 1)), (2, None));
    assert_eq!(bench.consumers().state, "Reconciling");
}

#[test]
fn a_group_goes_on_where_another_coordinator_left_it() {
    let mut bench = bench(4);
    bench.pair();
    bench.ok(join("c"));
    // b has the partition that c is to have.
    bench.ok(beat("b", 2));
    let mut next = bench.reloaded();
    assert_eq!(next.consumers().members.len(), 3);
    next.c.topics_changed(image(1, &[4]));
    // Why it rebalanced is in memory alone.
    let known = DescribedConsumerGroup { causes: Vec::new(), ..bench.consumers() };
    assert_eq!(next.consumers(), known);
    assert_eq!(bench.consumers().causes.len(), 3);
    next.pass(29_000);
    next.ok(beat("a", 2));
    next.ok(beat("c", 3));
    // The time to give up began anew with the lead.
    assert_eq!(next.ok(beat("b", 3)).0, 3);
    next.pass(1_000);
    assert_eq!(next.refused(beat("b", 3)), ErrorCode::UnknownMemberId);
    let snapshot = bench.c.snapshot();
    let mut copy = Bench::loading(bench.c.config().clone());
    copy.c.restore(&snapshot).unwrap();
    assert_eq!(copy.c.snapshot(), snapshot);
}

#[test]
fn what_waits_is_answered_when_the_lead_is_lost() {
    let mut bench = bench(4);
    bench.auto = false;
    let first = bench.send_beat(join("a"));
    let second = bench.send_beat(join("b"));
    let mut fx = Vec::new();
    bench.c.unload(bench.now(), &mut fx);
    bench.take(fx);
    for token in [first, second] {
        assert_eq!(bench.beaten(token).error, ErrorCode::NotCoordinator);
    }
    assert_eq!(bench.refused(join("a")), ErrorCode::NotCoordinator);
    bench.c.begin_loading();
    assert_eq!(bench.refused(join("a")), ErrorCode::CoordinatorLoadInProgress);
}

#[test]
fn classic_and_consumer_groups_take_turns_when_nobody_is_in_them() {
    let mut bench = bench(4);
    let (ids, _) = bench.stable(1);
    // What its members have cannot be read, so it stays what it is.
    assert_eq!(bench.refused(join("a")), ErrorCode::GroupIdNotFound);
    let token = bench.send_leave(&[(&ids[0], None)]);
    bench.left(token);
    assert_eq!(bench.ok(join("a")).0, 1);
    assert_eq!(bench.c.list(&ListRequest::default()).unwrap().len(), 1);
    let classic = bench.describe();
    assert_eq!((classic.error, classic.state), (ErrorCode::GroupIdNotFound, "Dead"));
    let other = JoinRequest { protocol_type: "connect".into(), ..crate::common::join("") };
    let token = bench.send_join(other);
    assert_eq!(bench.joined(token).error, ErrorCode::InconsistentGroupProtocol);
    bench.beat(beat("a", -1));
    // The classic member waits until the records of the consumer group are gone.
    let (_, generation) = bench.stable(1);
    assert_eq!(generation, 1);
    assert_eq!(bench.consumers().error, ErrorCode::GroupIdNotFound);
    let next = bench.reloaded();
    assert_eq!((next.describe().state, next.consumers().error), ("Stable", ErrorCode::GroupIdNotFound));
}

#[test]
fn a_group_that_could_not_take_the_place_of_another_leaves_it_there() {
    let mut bench = bench(4);
    assert_eq!(bench.commit(crate::common::simple_commit(0, 7)), ErrorCode::None);
    bench.auto = false;
    let token = bench.send_beat(join("a"));
    bench.fail_one(ErrorCode::NotEnoughReplicas);
    assert_eq!(bench.beaten(token).error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!((bench.state(), bench.offset(0)), ("Empty", 7));
    // A refused one changes nothing either.
    let refused = ConsumerHeartbeatRequest { member_epoch: 5, ..join("a") };
    assert_eq!(bench.refused(refused), ErrorCode::GroupIdNotFound);
    assert_eq!(bench.state(), "Empty");
}

#[test]
fn nothing_is_decided_before_the_topics_are_known() {
    let mut bench = bench(4);
    bench.pair();
    let mut next = bench.reloaded();
    assert_eq!(next.refused(beat("a", 2)), ErrorCode::CoordinatorLoadInProgress);
    assert_eq!(
        next.refused(ConsumerHeartbeatRequest { group_id: "h".into(), ..join("a") }),
        ErrorCode::CoordinatorLoadInProgress
    );
    let token = next.send_join(crate::common::join(""));
    assert_eq!(next.joined(token).error, ErrorCode::CoordinatorLoadInProgress);
    next.c.topics_changed(image(1, &[4]));
    assert_eq!(next.ok(beat("a", 2)), (2, Some(Owned::from([(topic(1), vec![0, 1])]))));
    assert_eq!(next.ok(beat("b", 2)), (2, Some(Owned::from([(topic(1), vec![2, 3])]))));
    assert_eq!(next.ok(beat("b", 2)), (2, None));
}

#[test]
fn a_group_with_too_many_waiting_requests_says_so() {
    let mut config = GroupConfig::default();
    config.consumer.max_queued = 1;
    let mut bench = Bench::with(config);
    bench.c.topics_changed(image(1, &[4]));
    bench.auto = false;
    let tokens = ["a", "b", "c"].map(|id| bench.send_beat(join(id)));
    assert_eq!(bench.beaten(tokens[2]).error, ErrorCode::CoordinatorLoadInProgress);
    bench.commit_all();
    assert_eq!(bench.beaten(tokens[0]).error, ErrorCode::None);
    assert_eq!(bench.beaten(tokens[1]).error, ErrorCode::None);
}
