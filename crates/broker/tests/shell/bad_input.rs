use crate::rig::{batch, produce, start};
use std::io::Write;
use wire::find_coordinator_response::Coordinator;
use wire::{
    ApiKey, ApiVersionsRequest, FindCoordinatorRequest, InitProducerIdRequest, MetadataRequest, ResponseBody,
    Str,
};

#[test]
fn an_api_versions_of_the_future_is_answered_in_version_0_with_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    // Key 18, version 99, correlation id 7, no client id.
    client.socket.write_all(&[0, 0, 0, 10, 0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff]).unwrap();
    let ResponseBody::ApiVersions(answer) = client.receive(ApiKey::ApiVersions, 0, 7) else { panic!() };
    assert_eq!(answer.error_code, 35);
    let produce = answer.api_keys.iter().find(|row| row.api_key == 0).unwrap();
    assert_eq!((produce.min_version, produce.max_version), (0, 13), "old librdkafka must see Produce 0");
    let request = ApiVersionsRequest {
        client_software_name: Str::from_static("rig"),
        client_software_version: Str::from_static("1"),
        ..Default::default()
    };
    let ResponseBody::ApiVersions(answer) = client.ask(ApiKey::ApiVersions, 4, request) else { panic!() };
    assert_eq!(answer.error_code, 0, "the connection goes on");
}

#[test]
fn frames_that_are_no_requests_close_their_own_connection_only() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut good = broker.client();
    good.ask(ApiKey::Metadata, 12, MetadataRequest::default());
    let frames: [&[u8]; 6] = [
        &[0xff, 0xff, 0xff, 0xff],                             // negative length
        &[0x7f, 0xff, 0xff, 0xff],                             // 2 GiB
        &[0, 8, 0, 1, 0, 18],                                  // over 512 KiB before the first valid request
        &[0, 0, 0, 10, 3, 0xe8, 0, 0, 0, 0, 0, 1, 0xff, 0xff], // unknown API
        &[0, 0, 0, 10, 0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff],    // Produce 2 is refused
        &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff], // array of 2^31 topics
    ];
    for frame in frames {
        let mut bad = broker.client();
        bad.socket.write_all(frame).unwrap();
        assert!(bad.is_closed(), "{frame:?}");
    }
    let ResponseBody::Metadata(answer) = good.ask(ApiKey::Metadata, 12, MetadataRequest::default()) else {
        panic!()
    };
    assert_eq!(answer.brokers.len(), 1);
    let metrics = broker.http("/metrics");
    assert!(metrics.contains("plimsoll_connections_closed_total{reason=\"too_large\"} 3\n"), "{metrics}");
    assert!(metrics.contains("plimsoll_connections_closed_total{reason=\"unknown_api\"} 2\n"), "{metrics}");
    assert!(metrics.contains("plimsoll_connections_closed_total{reason=\"malformed\"} 1\n"), "{metrics}");
}

#[test]
fn acks_0_has_no_answer_and_its_error_closes_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    client.create("t", 1);
    client.send(ApiKey::Produce, 9, produce("t", 0, vec![(0, batch(&["a"]))]));
    let id = client.send(ApiKey::Metadata, 12, MetadataRequest::default());
    client.receive(ApiKey::Metadata, 12, id);
    client.send(ApiKey::Produce, 9, produce("t", 0, vec![(5, batch(&["a"]))]));
    assert!(client.is_closed());
}

#[test]
fn a_transaction_with_a_timeout_above_the_maximum_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    let request = FindCoordinatorRequest {
        key_type: 1,
        coordinator_keys: vec![Str::from_static("tx")],
        ..Default::default()
    };
    let ResponseBody::FindCoordinator(answer) = client.ask(ApiKey::FindCoordinator, 6, request) else {
        panic!()
    };
    let [Coordinator { error_code: 0, .. }] = answer.coordinators.as_slice() else { panic!("{answer:?}") };
    let mut init = |transaction_timeout_ms| {
        let request = InitProducerIdRequest {
            transactional_id: Some(Str::from_static("tx")),
            transaction_timeout_ms,
            producer_id: -1,
            producer_epoch: -1,
        };
        let ResponseBody::InitProducerId(answer) = client.ask(ApiKey::InitProducerId, 4, request) else {
            panic!()
        };
        answer.error_code
    };
    assert_eq!(init(900_001), 50, "INVALID_TRANSACTION_TIMEOUT");
    assert_eq!(init(60_000), 0);
}

#[test]
fn a_bad_batch_fails_its_partition_alone() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    client.create("t", 3);
    let mut torn = batch(&["broken"]);
    let last = torn.len() - 1;
    torn[last] ^= 1;
    let request =
        produce("t", -1, vec![(0, batch(&["a"])), (1, torn), (2, batch(&["c"])), (9, batch(&["x"]))]);
    let ResponseBody::Produce(answer) = client.ask(ApiKey::Produce, 9, request) else { panic!() };
    let codes: Vec<i16> = answer.responses[0].partition_responses.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [0, 2, 0, 3]);
}
