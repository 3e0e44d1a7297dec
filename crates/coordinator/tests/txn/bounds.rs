//! What is bounded, and what is said and counted when it is full.
use crate::bench::*;
use coordinator::txn::*;
use model::ErrorCode;
use std::sync::Arc;

fn init_as(b: &mut Bench, id: &str, principal: &str) -> ErrorCode {
    let principal = Some(Arc::from(principal));
    let transactional_id = id.to_owned();
    let token = b.ask_init(InitRequest { transactional_id, principal, ..init_request(None) });
    b.reply(token).error()
}

fn refusals(b: &Bench) -> Vec<Bound> {
    let bound = |e: &TxnEvent| match e {
        TxnEvent::Refused { bound, .. } => Some(*bound),
        _ => None,
    };
    b.events.iter().filter_map(bound).collect()
}

#[test]
fn ids_of_a_coordinator() {
    let mut b = Bench::with(TxnConfig { max_ids: 2, ..TxnConfig::default() });
    assert_eq!(init_as(&mut b, "a", "p"), ErrorCode::None);
    assert_eq!(init_as(&mut b, "b", "p"), ErrorCode::None);
    assert_eq!(init_as(&mut b, "c", "p"), ErrorCode::PolicyViolation);
    assert_eq!(init_as(&mut b, "a", "p"), ErrorCode::None, "an id that is there is never refused");
    assert_eq!(refusals(&b), [Bound::Ids]);
}

#[test]
fn ids_of_a_principal() {
    let config = TxnConfig { max_ids_per_principal: 2, id_expiration_ms: 10_000, ..TxnConfig::default() };
    let mut b = Bench::with(config);
    assert_eq!(init_as(&mut b, "a", "p"), ErrorCode::None);
    assert_eq!(init_as(&mut b, "b", "p"), ErrorCode::None);
    assert_eq!(init_as(&mut b, "c", "p"), ErrorCode::PolicyViolation);
    assert_eq!(init_as(&mut b, "c", "q"), ErrorCode::None);
    // An id that changes hands counts for the new one.
    assert_eq!(init_as(&mut b, "a", "q"), ErrorCode::None);
    assert_eq!(init_as(&mut b, "d", "p"), ErrorCode::None);
    assert_eq!(init_as(&mut b, "e", "q"), ErrorCode::PolicyViolation);
    assert_eq!(refusals(&b), [Bound::IdsPerPrincipal; 2]);
    let who = |e: &TxnEvent| match e {
        TxnEvent::Refused { principal, .. } => principal.as_deref().map(str::to_owned),
        _ => None,
    };
    assert_eq!(b.events.iter().filter_map(who).collect::<Vec<_>>(), ["p", "q"]);
    // Ids that expire count no more.
    b.wait(3_600_000);
    assert_eq!(init_as(&mut b, "e", "q"), ErrorCode::None);
}

#[test]
fn partitions_of_a_transaction() {
    let mut b = Bench::with(TxnConfig { max_partitions: 2, ..TxnConfig::default() });
    let who = b.init();
    assert_eq!(b.add(who, 0), ErrorCode::None);
    assert_eq!(b.add(who, 1), ErrorCode::None);
    assert_eq!(b.add(who, 2), ErrorCode::PolicyViolation);
    assert_eq!(b.add(who, 1), ErrorCode::None);
    assert_eq!(b.value().partitions.len(), 2);
    assert_eq!(refusals(&b), [Bound::Partitions]);
}

#[test]
fn requests_that_wait_for_a_producer_id() {
    let mut b = Bench::with(TxnConfig { max_waiting: 1, ..TxnConfig::default() });
    b.auto_ids = false;
    b.ask_init(init_request(None));
    let second = b.ask_init(InitRequest { transactional_id: "b".into(), ..init_request(None) });
    assert_eq!(b.reply(second).error(), ErrorCode::CoordinatorLoadInProgress);
    assert_eq!(refusals(&b), [Bound::Waiting]);
}

#[test]
fn timers_of_one_tick() {
    let mut b = Bench::with(TxnConfig { timers_per_tick: 3, ..TxnConfig::default() });
    for n in 0..5 {
        let id = format!("id-{n}");
        let token = b.ask_init(InitRequest { transactional_id: id.clone(), ..init_request(None) });
        let (_, producer_id, producer_epoch) = producer(&b.reply(token));
        let token = b.token();
        let request = AddPartitionsRequest {
            transactional_id: id,
            producer_id,
            producer_epoch,
            verify_only: false,
            version: TxnVersion::V2,
            partitions: vec![tp("t", n)],
        };
        b.step(|c, now, fx| c.add_partitions(now, token, request, fx));
    }
    assert_eq!(b.c.open_count(), 5);
    b.now_ms = 60_000;
    b.step(|c, now, fx| c.tick(now, fx));
    assert_eq!(b.sent.len(), 3);
    assert!(b.c.next_deadline().unwrap() <= b.now().mono, "the others are due at once");
    b.step(|c, now, fx| c.tick(now, fx));
    assert_eq!(b.sent.len(), 5);
}
