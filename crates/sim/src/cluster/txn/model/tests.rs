//! Every rule of the model is seen to fail, and not to fail where all is well.
use super::*;
use coordinator::txn::ProducerReply;
use model::TopicId;
use partition::{AppendError, Appended};

const KEY: GroupKey = GroupKey { topic: TopicId([7; 16]), partition: 0 };
const FIRST: Producer = (9, 4);

fn found(oracle: &mut Oracle) -> Vec<&'static str> {
    std::mem::take(&mut oracle.violations).into_iter().map(|v| v.checker).collect()
}

fn plain(value: Value) -> Op {
    ("t".to_owned(), Some(value))
}

/// A transaction of producer 9 at epoch 4 with value 70 acknowledged at offset 20, and an offset.
fn with_one(v2: bool) -> (Model, Oracle) {
    let (mut model, mut oracle) = (Model::default(), Oracle::default());
    let number = model.begin(0, FIRST, v2, true);
    let write = model.write(number, KEY, vec![plain(70)]);
    answer(&mut model, &mut oracle, 1, What::Produce(number, write), Some(FIRST), &appended(20));
    (model, oracle)
}

fn answer(
    model: &mut Model,
    oracle: &mut Oracle,
    call: u64,
    what: What,
    producer: Option<Producer>,
    reply: &Reply,
) {
    model.sent(call, Sent { client: call as usize, id: 0, producer, what });
    model.answered(oracle, call, call, reply);
}

fn appended(base_offset: Offset) -> Reply {
    let (last_offset, duplicate) = (base_offset, false);
    Reply::Produce(Ok(Appended { base_offset, last_offset, log_append_time: -1, log_start: 0, duplicate }))
}

fn init(id: i64, epoch: i16) -> Reply {
    Reply::Transaction(TxnReply::Init(ProducerReply::of(id, epoch)))
}

fn ended(id: i64, epoch: i16) -> Reply {
    Reply::Transaction(TxnReply::End(ProducerReply::of(id, epoch)))
}

fn ask_end(model: &mut Model, commit: bool) {
    model.sent(50, Sent { client: 0, id: 0, producer: Some(FIRST), what: What::End(0, commit) });
}

#[test]
fn a_record_is_visible_only_when_its_client_asked_for_a_commit_that_is_decided() {
    let (mut model, mut oracle) = with_one(true);
    model.seen(&mut oracle, KEY, 20, 70);
    assert_eq!(found(&mut oracle), ["txn-open-read"], "nobody ended it");
    ask_end(&mut model, true);
    model.seen(&mut oracle, KEY, 20, 70);
    assert_eq!(found(&mut oracle), ["txn-open-read"], "its end is not decided");
    model.decided.insert((9, 5), true);
    model.seen(&mut oracle, KEY, 20, 70);
    model.seen(&mut oracle, KEY, 3, 71);
    assert_eq!(found(&mut oracle), [""; 0], "and a value of no transaction is anybody's");
    model.decided.insert((9, 5), false);
    model.seen(&mut oracle, KEY, 20, 70);
    assert_eq!(found(&mut oracle), ["txn-aborted-read"]);
}

#[test]
fn a_record_whose_client_asked_for_an_abort_alone_is_never_visible() {
    for v2 in [true, false] {
        let (mut model, mut oracle) = with_one(v2);
        ask_end(&mut model, false);
        model.seen(&mut oracle, KEY, 20, 70);
        assert_eq!(found(&mut oracle), ["txn-aborted-read"]);
        assert_eq!(model.fate(&model.all[0]), Some(false));
    }
}

#[test]
fn an_end_without_an_answer_may_be_either_before_epochs_tell() {
    let (mut model, mut oracle) = with_one(false);
    ask_end(&mut model, true);
    ask_end(&mut model, false);
    assert_eq!(model.fate(&model.all[0]), None, "a commit was asked for at some time");
    model.seen(&mut oracle, KEY, 20, 70);
    assert_eq!(found(&mut oracle), [""; 0]);
}

#[test]
fn the_last_stable_offset_stays_below_what_is_open_and_does_not_go_back() {
    let (mut model, mut oracle) = with_one(true);
    model.told(&mut oracle, KEY, Some(3), (0, 20, 25));
    assert_eq!(found(&mut oracle), [""; 0]);
    model.told(&mut oracle, KEY, None, (0, 21, 25));
    assert_eq!(found(&mut oracle), ["lso-too-high"], "a follower's too");
    model.told(&mut oracle, KEY, None, (24, 24, 25));
    assert_eq!(found(&mut oracle), [""; 0], "records that are deleted hold nothing back");
    model.decided.insert((9, 5), true);
    model.told(&mut oracle, KEY, Some(3), (0, 25, 25));
    model.told(&mut oracle, KEY, Some(2), (0, 22, 25));
    model.told(&mut oracle, KEY, None, (0, 22, 25));
    assert_eq!(found(&mut oracle), [""; 0], "a leader of before, or a follower, may be late");
    model.told(&mut oracle, KEY, Some(4), (0, 24, 25));
    assert_eq!(found(&mut oracle), ["lso-regressed"]);
    model.told(&mut oracle, KEY, Some(4), (0, 26, 25));
    assert_eq!(found(&mut oracle), ["lso-too-high"]);
}

#[test]
fn what_a_fenced_producer_sent_later_must_be_refused() {
    let (mut model, mut oracle) = with_one(true);
    let another = model.begin(0, FIRST, true, false);
    let write = model.write(another, KEY, vec![plain(72)]);
    // Sent before the other one was initialised.
    model.sent(2, Sent { client: 2, id: 0, producer: Some(FIRST), what: What::Produce(another, write) });
    answer(&mut model, &mut oracle, 3, What::Init, None, &init(9, 6));
    model.answered(&mut oracle, 2, 3, &appended(30));
    assert_eq!(found(&mut oracle), [""; 0]);
    let refused = Reply::Produce(Err(AppendError::bare(model::ErrorCode::InvalidProducerEpoch)));
    answer(&mut model, &mut oracle, 4, What::Produce(another, write), Some(FIRST), &refused);
    assert_eq!((found(&mut oracle), model.refused_fenced), (Vec::new(), 1));
    answer(&mut model, &mut oracle, 5, What::Produce(another, write), Some(FIRST), &appended(31));
    assert_eq!(found(&mut oracle)[0], "txn-fenced-came-back");
    answer(&mut model, &mut oracle, 6, What::End(another, true), Some((9, 5)), &ended(9, 6));
    assert_eq!(found(&mut oracle), ["txn-fenced-came-back"]);
    answer(&mut model, &mut oracle, 7, What::End(another, true), Some((9, 6)), &ended(9, 7));
    answer(&mut model, &mut oracle, 8, What::Again, Some(FIRST), &appended(31));
    assert_eq!(found(&mut oracle), [""; 0], "a batch that was there before is answered as it was");
    assert!(!model.is_newest(0, Some((9, 5))) && model.is_newest(0, Some((9, 6))));
}

#[test]
fn a_groups_offset_is_that_of_a_committed_transaction_and_never_goes_back() {
    let (mut model, mut oracle) = with_one(true);
    let commit = coordinator::Reply::Commit(coordinator::CommitReply { topics: Vec::new() });
    answer(&mut model, &mut oracle, 2, What::Offsets(0), Some(FIRST), &Reply::Group(commit));
    model.offset_read(&mut oracle, 0, model.floor(0), -1);
    assert_eq!(found(&mut oracle), [""; 0]);
    model.offset_read(&mut oracle, 0, -1, 1);
    assert_eq!(found(&mut oracle), ["txn-offsets"], "nobody ended it");
    answer(&mut model, &mut oracle, 3, What::End(0, true), Some(FIRST), &ended(9, 5));
    assert_eq!(model.floor(0), 1);
    model.offset_read(&mut oracle, 0, 1, 1);
    assert_eq!(found(&mut oracle), [""; 0]);
    model.offset_read(&mut oracle, 0, 1, -1);
    assert_eq!(found(&mut oracle), ["txn-offsets"]);
    model.offset_read(&mut oracle, 0, 1, 2);
    assert_eq!(found(&mut oracle), ["txn-offsets"], "no transaction had it");
}

#[test]
fn a_commit_that_was_answered_is_no_abort() {
    let (mut model, mut oracle) = with_one(true);
    model.decided.insert((9, 5), false);
    answer(&mut model, &mut oracle, 2, What::End(0, true), Some(FIRST), &ended(9, 5));
    assert_eq!(found(&mut oracle), ["txn-torn"]);
}

/// A transaction that sets `own-0-1`, acknowledged at this offset, and what its client asked for in the end.
fn with_own_key(
    model: &mut Model,
    oracle: &mut Oracle,
    at: Offset,
    value: Option<Value>,
    ended: Option<bool>,
) {
    let number = model.begin(0, FIRST, false, false);
    let write = model.write(number, KEY, vec![("own-0-1".to_owned(), value)]);
    answer(model, oracle, at as u64, What::Produce(number, write), Some(FIRST), &appended(at));
    if let Some(commit) = ended {
        let what = What::End(number, commit);
        model.sent(1_000 + at as u64, Sent { client: 0, id: 0, producer: Some(FIRST), what });
    }
    model.all[number].committed = ended == Some(true);
}

#[test]
fn a_key_of_transactions_shows_what_the_last_committed_one_did() {
    let (mut model, mut oracle) = (Model::default(), Oracle::default());
    with_own_key(&mut model, &mut oracle, 10, Some(80), Some(true));
    with_own_key(&mut model, &mut oracle, 20, Some(81), Some(false));
    let own = model.own_keys(KEY)["own-0-1"].clone();
    assert!(own.allows(Some(Some(80)), true));
    assert!(!own.allows(Some(Some(81)), false) && !own.allows(None, false) && !own.allows(Some(None), false));
    with_own_key(&mut model, &mut oracle, 30, None, Some(true));
    let own = model.own_keys(KEY)["own-0-1"].clone();
    assert!(own.allows(Some(None), true) && !own.allows(None, true) && own.allows(None, false));
    assert!(!own.allows(Some(Some(80)), false), "a deleted key lives again");
    // One whose end nobody knows may count, or not.
    with_own_key(&mut model, &mut oracle, 40, Some(82), Some(true));
    model.all.last_mut().unwrap().committed = false;
    let own = model.own_keys(KEY)["own-0-1"].clone();
    assert!(own.allows(Some(Some(82)), true) && own.allows(Some(None), true) && !own.allows(None, true));
    assert_eq!(found(&mut oracle), [""; 0]);
}

#[test]
fn an_end_that_uses_up_the_epochs_hands_its_producer_another_id() {
    let (mut model, mut oracle) = (Model::default(), Oracle::default());
    let last = (9, i16::MAX - 1);
    answer(&mut model, &mut oracle, 1, What::Init, None, &init(last.0, last.1));
    let number = model.begin(0, last, true, false);
    answer(&mut model, &mut oracle, 2, What::End(number, true), Some(last), &ended(11, 0));
    assert_eq!(model.ids_used_up, 1);
    // It goes on under that id, which no Init told anybody.
    let next = model.begin(0, (11, 0), true, false);
    let write = model.write(next, KEY, vec![plain(90)]);
    answer(&mut model, &mut oracle, 3, What::Produce(next, write), Some((11, 0)), &appended(50));
    assert_eq!(found(&mut oracle), [""; 0]);
    // Nobody else does.
    let other = model.write(next, KEY, vec![plain(91)]);
    answer(&mut model, &mut oracle, 4, What::Produce(next, other), Some((7, 0)), &appended(60));
    assert_eq!(found(&mut oracle), ["txn-fenced-came-back"]);
}
