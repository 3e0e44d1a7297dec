use super::*;

#[test]
fn the_defaults_are_kafkas() {
    let config = ConsumerConfig::default();
    assert_eq!((config.session_timeout("g"), config.heartbeat_interval("g")), (45_000, 5_000));
    assert_eq!((config.assignment_interval("g"), config.default_assignor()), (1_000, Assignor::Uniform));
}

#[test]
fn what_a_group_has_set_holds_within_the_brokers_limits() {
    let own = |session, heartbeat, interval| GroupOverrides {
        session_timeout_ms: session,
        heartbeat_interval_ms: heartbeat,
        assignment_interval_ms: interval,
    };
    let set = BTreeMap::from([("g".to_owned(), own(Some(60_000), Some(15_000), Some(9_000)))]);
    let mut config = ConsumerConfig { overrides: Arc::new(set), ..ConsumerConfig::default() };
    assert_eq!((config.session_timeout("g"), config.heartbeat_interval("g")), (60_000, 15_000));
    assert_eq!((config.session_timeout("h"), config.assignment_interval("g")), (45_000, 9_000));
    // The broker's limits have changed since: they bound what the group set.
    config.max_session_timeout_ms = 50_000;
    assert_eq!(config.session_timeout("g"), 50_000);
    (config.min_session_timeout_ms, config.max_session_timeout_ms) = (10_000, 10_000);
    assert_eq!(config.heartbeat_interval("g"), 9_999, "nobody is fenced for what it was told to do");
}

#[test]
fn policies_have_kafkas_names_in_any_case() {
    assert_eq!(MigrationPolicy::parse("Upgrade"), Some(MigrationPolicy::Upgrade));
    assert_eq!(MigrationPolicy::parse("sideways"), None);
    let all = ["disabled", "upgrade", "downgrade", "bidirectional"].map(|name| {
        let policy = MigrationPolicy::parse(name).unwrap();
        (policy.may_upgrade(), policy.may_downgrade())
    });
    assert_eq!(all, [(false, false), (true, false), (false, true), (true, true)]);
}
