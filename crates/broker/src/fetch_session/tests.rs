use super::*;

fn key(partition: i32) -> PartitionRef {
    PartitionRef { topic: TopicRef::Id(TopicId([7; 16])), partition }
}

fn want(offset: i64) -> Want {
    Want { offset, max_bytes: 1 << 20, current_leader_epoch: -1, last_fetched_epoch: -1 }
}

fn quiet(high_watermark: i64) -> Told {
    Told { high_watermark, log_start: 0, must_tell: false, has_records: false, is_error: false }
}

fn request(id: i32, epoch: i32, wants: &[(i32, i64)], forget: &[i32]) -> SessionRequest {
    SessionRequest {
        id,
        epoch,
        by_id: true,
        wants: wants.iter().map(|(p, o)| (key(*p), want(*o))).collect(),
        forget: forget.iter().map(|p| key(*p)).collect(),
    }
}

fn secs(s: u64) -> Mono {
    Mono(s * 1_000_000_000)
}

fn session_of(cache: &mut SessionCache, now: Mono, partitions: i32) -> i32 {
    let list: Vec<_> = (0..partitions).map(|p| (key(p), want(0), quiet(5))).collect();
    cache.create(now, true, list.into_iter())
}

#[test]
fn an_incremental_answer_holds_only_what_changed() {
    let mut cache = SessionCache::new(10, 42);
    let id = session_of(&mut cache, secs(0), 3);
    assert_ne!(id, NO_SESSION);
    let plan = cache.begin(secs(1), request(id, 1, &[], &[])).unwrap();
    assert!(plan.incremental);
    assert_eq!(plan.partitions.len(), 3);
    assert!(!cache.is_news(id, &key(0), quiet(5)));
    assert!(cache.is_news(id, &key(1), quiet(6)));
    assert!(!cache.is_news(id, &key(1), quiet(6)));
}

#[test]
fn partitions_with_data_go_to_the_end_of_the_order() {
    let mut cache = SessionCache::new(10, 42);
    let id = session_of(&mut cache, secs(0), 3);
    cache.begin(secs(1), request(id, 1, &[], &[])).unwrap();
    let told = Told { must_tell: true, has_records: true, ..quiet(9) };
    assert!(cache.is_news(id, &key(0), told));
    let plan = cache.begin(secs(1), request(id, 2, &[], &[])).unwrap();
    let order: Vec<i32> = plan.partitions.iter().map(|(k, _)| k.partition).collect();
    assert_eq!(order, [1, 2, 0]);
}

#[test]
fn an_error_is_told_and_its_end_too() {
    let mut cache = SessionCache::new(10, 42);
    let id = session_of(&mut cache, secs(0), 1);
    let error =
        Told { high_watermark: -1, log_start: -1, must_tell: true, has_records: false, is_error: true };
    assert!(cache.is_news(id, &key(0), error));
    assert!(cache.is_news(id, &key(0), quiet(5)));
    assert!(!cache.is_news(id, &key(0), quiet(5)));
}

#[test]
fn epochs_must_follow_one_another() {
    let mut cache = SessionCache::new(10, 42);
    let id = session_of(&mut cache, secs(0), 1);
    assert_eq!(cache.begin(secs(0), request(id, 2, &[], &[])).err(), Some(SessionError::WrongEpoch));
    assert!(cache.begin(secs(0), request(id, 1, &[], &[])).is_ok());
    assert_eq!(cache.begin(secs(0), request(id, 1, &[], &[])).err(), Some(SessionError::WrongEpoch));
    assert_eq!(cache.begin(secs(0), request(id ^ 1, 2, &[], &[])).err(), Some(SessionError::NotFound));
    let mut by_name = request(id, 2, &[], &[]);
    by_name.by_id = false;
    assert_eq!(cache.begin(secs(0), by_name).err(), Some(SessionError::TopicIdMismatch));
}

#[test]
fn a_session_is_changed_by_additions_and_forgotten_partitions() {
    let mut cache = SessionCache::new(10, 42);
    let id = session_of(&mut cache, secs(0), 2);
    let plan = cache.begin(secs(0), request(id, 1, &[(1, 70), (5, 50)], &[0])).unwrap();
    let got: Vec<(i32, i64)> = plan.partitions.iter().map(|(k, w)| (k.partition, w.offset)).collect();
    assert_eq!(got, [(1, 70), (5, 50)]);
    assert_eq!(cache.partitions(), 2);
    let plan = cache.begin(secs(0), request(id, 2, &[], &[1, 5])).unwrap();
    assert_eq!(plan.session, NO_SESSION);
    assert_eq!((cache.len(), cache.partitions()), (0, 0));
    let id = session_of(&mut cache, secs(0), 1);
    let plan = cache.begin(secs(0), request(id, 1, &[(0, 3)], &[0])).unwrap();
    assert_eq!((plan.session, plan.partitions.len(), cache.len()), (NO_SESSION, 1, 0));
}

#[test]
fn a_full_request_ends_the_session_it_names() {
    let mut cache = SessionCache::new(10, 42);
    let id = session_of(&mut cache, secs(0), 2);
    let plan = cache.begin(secs(0), request(id, FINAL_EPOCH, &[(0, 0)], &[])).unwrap();
    assert!(!plan.create && !plan.incremental);
    assert_eq!(cache.len(), 0);
}

#[test]
fn a_full_cache_evicts_the_stale_and_keeps_the_fresh() {
    let mut cache = SessionCache::new(2, 42);
    let a = session_of(&mut cache, secs(0), 2);
    let b = session_of(&mut cache, secs(0), 2);
    assert_eq!(session_of(&mut cache, secs(1), 2), NO_SESSION);
    cache.begin(secs(100), request(b, 1, &[], &[])).unwrap();
    let c = session_of(&mut cache, secs(130), 1);
    assert_ne!(c, NO_SESSION);
    assert_eq!(cache.begin(secs(131), request(a, 1, &[], &[])).err(), Some(SessionError::NotFound));
    assert_eq!(cache.evictions(), 1);
    assert!(cache.begin(secs(131), request(b, 2, &[], &[])).is_ok());
}

#[test]
fn a_larger_session_takes_the_place_of_a_smaller_old_one() {
    let mut cache = SessionCache::new(1, 42);
    let small = session_of(&mut cache, secs(0), 1);
    cache.begin(secs(125), request(small, 1, &[], &[])).unwrap();
    assert_eq!(session_of(&mut cache, secs(126), 1), NO_SESSION);
    assert_ne!(session_of(&mut cache, secs(126), 2), NO_SESSION);
}
