//! DescribeTransactions, ListTransactions, counts.
use crate::bench::*;
use coordinator::txn::*;
use model::ErrorCode;

/// `orders-1` is open since 0 ms, `orders-2` is empty, `bills` is complete since 10,000 ms; all at 20,000 ms.
fn three() -> Bench {
    let mut b = Bench::new();
    b.auto_markers = true;
    let start = |b: &mut Bench, id: &str| {
        let token = b.ask_init(InitRequest { transactional_id: id.into(), ..init_request(None) });
        producer(&b.reply(token)).1
    };
    let add = |b: &mut Bench, id: &str, producer_id: i64| {
        let token = b.token();
        let request = AddPartitionsRequest {
            transactional_id: id.into(),
            producer_id,
            producer_epoch: 0,
            verify_only: false,
            version: TxnVersion::V2,
            partitions: vec![tp("t", 1), tp("t", 0), tp("u", 3)],
        };
        b.step(|c, now, fx| c.add_partitions(now, token, request, fx));
    };
    let first = start(&mut b, "orders-1");
    add(&mut b, "orders-1", first);
    start(&mut b, "orders-2");
    b.wait(10_000);
    let bills = start(&mut b, "bills");
    add(&mut b, "bills", bills);
    let token = b.token();
    let request = EndRequest {
        transactional_id: "bills".into(),
        producer_id: bills,
        producer_epoch: 0,
        commit: true,
        version: TxnVersion::V2,
        connection: 0,
    };
    b.step(|c, now, fx| c.end_transaction(now, token, request, fx));
    b.wait(10_000);
    b
}

fn listed(b: &Bench, request: ListTxnsRequest) -> Vec<String> {
    let filter = ListFilter::new(&request).unwrap();
    b.c.list(b.now(), &filter).unwrap().into_iter().map(|row| row.transactional_id).collect()
}

fn matching(b: &Bench, pattern: &str) -> Vec<String> {
    listed(b, ListTxnsRequest { pattern: Some(pattern.into()), ..Default::default() })
}

#[test]
fn all_filters_of_list() {
    let b = three();
    let all = ["bills", "orders-1", "orders-2"];
    assert_eq!(listed(&b, ListTxnsRequest::default()), all);
    let states = |names: &[&str]| ListTxnsRequest {
        states: names.iter().map(|n| (*n).to_owned()).collect(),
        ..Default::default()
    };
    assert_eq!(listed(&b, states(&["Ongoing"])), ["orders-1"]);
    assert_eq!(listed(&b, states(&["Empty", "CompleteCommit"])), ["bills", "orders-2"]);
    assert_eq!(listed(&b, states(&["nonsense"])), [""; 0]);
    assert_eq!(listed(&b, states(&["Dead"])), [""; 0]);
    let unknown = ListFilter::new(&states(&["Ongoing", "ongoing", "Dead", "x"])).unwrap().unknown_states;
    assert_eq!(unknown, ["ongoing", "x"]);
    let of = ListTxnsRequest { producer_ids: vec![1001, 5], ..Default::default() };
    assert_eq!(listed(&b, of), ["orders-2"]);
    let older = |duration_ms| listed(&b, ListTxnsRequest { duration_ms, ..Default::default() });
    assert_eq!(older(9_999), all);
    assert_eq!(older(10_000), ["orders-1", "orders-2"], "what never began counts as old, as in Kafka");
    assert_eq!(older(20_000), ["orders-2"]);
    assert_eq!(older(-1), all);
}

#[test]
fn a_pattern_matches_whole_ids() {
    let b = three();
    assert_eq!(matching(&b, "orders-.*"), ["orders-1", "orders-2"]);
    assert_eq!(matching(&b, "orders"), [""; 0]);
    assert_eq!(matching(&b, "orders|bills"), ["bills"]);
    assert_eq!(matching(&b, "o.*1|bills"), ["bills", "orders-1"]);
    assert_eq!(matching(&b, "").len(), 3, "an empty pattern is none");
}

#[test]
fn a_pattern_that_does_not_parse_or_is_too_large_is_refused() {
    for pattern in ["(", "a)|(b", "[z-a]", r"(a)\1", "((a{1000}){1000}){1000}", r"\w{9999}{9999}"] {
        let request = ListTxnsRequest { pattern: Some(pattern.into()), ..Default::default() };
        assert_eq!(ListFilter::new(&request).err(), Some(ErrorCode::InvalidRegularExpression), "{pattern}");
    }
}

#[test]
fn describe_shows_what_is_committed() {
    let b = three();
    let d = b.c.describe("orders-1");
    assert_eq!((d.error, d.state, d.timeout_ms, d.start), (ErrorCode::None, "Ongoing", 60_000, START));
    assert_eq!((d.producer_id, d.producer_epoch), (1000, 0));
    assert_eq!(d.topics, [("t".into(), vec![0, 1]), ("u".into(), vec![3])]);
    let d = b.c.describe("bills");
    assert_eq!((d.state, d.producer_epoch, d.topics.len()), ("CompleteCommit", 1, 0));
    assert_eq!(b.c.describe("nobody").error, ErrorCode::TransactionalIdNotFound);
    assert_eq!(b.c.describe("").error, ErrorCode::InvalidRequest);
}

#[test]
fn describe_shows_whose_marker_is_missing() {
    let mut b = Bench::new();
    let who = b.init();
    assert_eq!(b.add(who, 0), ErrorCode::None);
    assert_eq!(b.add(who, 1), ErrorCode::None);
    b.end2(who, false);
    let markers = b.sent.remove(0);
    b.marker(&markers, &tp("t", 0), MarkerOutcome::Done);
    let d = b.c.describe(ID);
    assert_eq!((d.state, d.topics), ("PrepareAbort", vec![("t".into(), vec![1])]));
}

#[test]
fn what_is_open_or_ending_at_a_partition_is_known_at_whatever_epoch() {
    let mut b = Bench::new();
    let who = b.init();
    assert_eq!(b.add(who, 0), ErrorCode::None);
    let ask = |b: &Bench, id: &str, producer, p| b.c.open_there(id, producer, &tp("t", p));
    assert_eq!(ask(&b, ID, who.0, 0), ErrorCode::None);
    assert_eq!(ask(&b, ID, who.0, 1), ErrorCode::TransactionAbortable);
    assert_eq!(ask(&b, ID, who.0 + 1, 0), ErrorCode::InvalidProducerIdMapping);
    assert_eq!(ask(&b, "nobody", who.0, 0), ErrorCode::InvalidProducerIdMapping);
    // Its markers are on their way, under the next epoch.
    b.end2(who, true);
    assert_eq!(ask(&b, ID, who.0, 0), ErrorCode::None);
    b.finish_markers();
    assert_eq!(ask(&b, ID, who.0, 0), ErrorCode::TransactionAbortable);
    b.step(|c, now, fx| c.unload(now, fx));
    assert_eq!(ask(&b, ID, who.0, 0), ErrorCode::NotCoordinator, "who does not serve says nothing");
}

#[test]
fn markers_wait_from_the_decision_on_until_each_is_committed() {
    let mut b = Bench::new();
    let who = b.init();
    b.add(who, 0);
    b.add(who, 1);
    assert_eq!(b.c.markers_waiting(b.now()), MarkersWaiting::default());
    b.end2(who, true);
    b.wait(3_000);
    assert_eq!(b.c.markers_waiting(b.now()), MarkersWaiting { partitions: 2, oldest_ms: Some(3_000) });
    let markers = b.sent.remove(0);
    b.marker(&markers, &tp("t", 0), MarkerOutcome::Done);
    b.wait(1_000);
    assert_eq!(b.c.markers_waiting(b.now()), MarkersWaiting { partitions: 1, oldest_ms: Some(4_000) });
    // A new coordinator has asked nobody yet: all may be missing.
    b.fail_over();
    assert_eq!(b.c.markers_waiting(b.now()).partitions, 2);
    b.finish_markers();
    assert_eq!(b.c.markers_waiting(b.now()), MarkersWaiting::default());
}

#[test]
fn counts_and_ages_follow_every_step() {
    let mut b = three();
    let count = |b: &Bench, state| b.c.state_counts().into_iter().find(|(s, _)| *s == state).unwrap().1;
    assert_eq!(count(&b, TxnState::Empty), 1);
    assert_eq!(count(&b, TxnState::Ongoing), 1);
    assert_eq!(count(&b, TxnState::CompleteCommit), 1);
    assert_eq!((b.c.open_count(), b.c.has_open()), (1, true));
    assert_eq!(b.c.oldest_open(b.now()), Some((20_000, "orders-1")));
    assert_eq!(b.c.find_producer(1001).unwrap().0, "orders-2");
    assert!(b.c.find_producer(9).is_none());
    assert!(b.c.knows_open(1000, &tp("u", 3)) && !b.c.knows_open(1000, &tp("u", 4)));
    assert!(!b.c.knows_open(1002, &tp("u", 3)), "it is complete");
    b.wait(40_000);
    assert_eq!((count(&b, TxnState::CompleteAbort), b.c.open_count(), b.c.has_open()), (1, 0, false));
    assert_eq!(b.c.oldest_open(b.now()), None);
}
