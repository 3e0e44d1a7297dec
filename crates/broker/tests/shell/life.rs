use crate::rig::{batch, fetch, produce, start, values};
use broker::Stopped;
use std::time::Duration;
use wire::{ApiKey, MetadataRequest, ResponseBody};

#[test]
fn a_stopped_broker_starts_again_with_everything_it_had() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    let topic = client.create("t", 1);
    client.ask(ApiKey::Produce, 9, produce("t", -1, vec![(0, batch(&["kept"]))]));
    assert_eq!(broker.stop(), Stopped::Clean);
    assert!(client.is_closed());
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    let ResponseBody::Fetch(answer) = client.ask(ApiKey::Fetch, 16, fetch(topic, &[(0, 0)], 0)) else {
        panic!()
    };
    assert_eq!(values(&answer.responses[0].partitions[0].records.as_ref().unwrap().to_bytes()), ["kept"]);
}

#[test]
fn a_long_poll_does_not_hold_up_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    let topic = client.create("t", 1);
    client.ask(ApiKey::Fetch, 16, fetch(topic, &[(0, 0)], 0));
    let id = client.send(ApiKey::Fetch, 16, fetch(topic, &[(0, 0)], 60_000));
    let begun = std::time::Instant::now();
    assert_eq!(broker.stop(), Stopped::Clean);
    assert!(begun.elapsed() < Duration::from_secs(9));
    client.receive(ApiKey::Fetch, 16, id);
    assert!(client.is_closed());
}

#[test]
fn metrics_and_health_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    client.ask(ApiKey::Metadata, 12, MetadataRequest::default());
    let metrics = broker.http("/metrics");
    assert!(metrics.contains("plimsoll_connections{listener=\"PLAINTEXT\"} 1\n"), "{metrics}");
    assert!(metrics.contains("plimsoll_requests_total{api=\"Metadata\"} 1\n"), "{metrics}");
    assert!(broker.http("/readyz").starts_with("HTTP/1.1 200"));
    assert!(broker.http("/healthz").starts_with("HTTP/1.1 200"));
    assert!(broker.http("/nothing").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_second_broker_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _broker = start(dir.path(), |_| {});
    let second = std::panic::catch_unwind(|| start(dir.path(), |_| {}));
    assert!(second.is_err());
}
