use crate::rig::{batch, fetch, produce, start};
use broker::Listener;
use bytes::BytesMut;
use model::TopicId;
use wire::metadata_request::MetadataRequestTopic;
use wire::{ApiKey, FindCoordinatorRequest, JoinGroupRequest, MetadataRequest, ResponseBody, Str};

#[test]
fn a_record_set_is_exactly_one_batch() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    client.create("t", 5);
    let whole = batch(&["a"]);
    let two = BytesMut::from(&[&whole[..], &whole[..]].concat()[..]);
    let cut = BytesMut::from(&whole[..whole.len() - 4]);
    let head = BytesMut::from(&whole[..30]);
    let torn_behind = BytesMut::from(&[&whole[..], &whole[..30]].concat()[..]);
    let sets = vec![(0, two), (1, cut), (2, head), (3, BytesMut::new()), (4, torn_behind)];
    let ResponseBody::Produce(answer) = client.ask(ApiKey::Produce, 9, produce("t", -1, sets)) else {
        panic!()
    };
    let rows = &answer.responses[0].partition_responses;
    assert_eq!(rows.iter().map(|p| p.error_code).collect::<Vec<_>>(), [87, 87, 87, 87, 0]);
    assert_eq!(rows.iter().map(|p| p.log_start_offset).collect::<Vec<_>>(), [-1, -1, -1, -1, 0]);
}

#[test]
fn produce_to_an_internal_topic_or_in_no_transaction_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    client.create("t", 1);
    let mut code = |topic: &str, records| {
        let request = produce(topic, -1, vec![(0, records)]);
        let ResponseBody::Produce(answer) = client.ask(ApiKey::Produce, 9, request) else { panic!() };
        let row = &answer.responses[0].partition_responses[0];
        (row.error_code, row.error_message.as_ref().map(ToString::to_string).unwrap_or_default())
    };
    let (refused, why) = code("__consumer_offsets", batch(&["a"]));
    assert_eq!(refused, 17);
    assert!(why.starts_with("an internal topic"), "{why}");
    let mut transactional = batch(&["a"]);
    transactional[22] |= 0x10;
    assert_eq!(code("t", transactional), (53, String::new()));
}

#[test]
fn a_listener_that_is_not_advertised_names_its_clients_no_brokers() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |settings| {
        let hidden = Listener { advertised: false, ..Listener::new("HIDDEN", "127.0.0.1", 0) };
        settings.listeners.push(hidden);
    });
    broker.client().create("t", 1);
    let mut hidden = broker.client_of(1);
    let mut ask = |version| {
        let topics =
            Some(vec![MetadataRequestTopic { name: Some(Str::from_static("t")), ..Default::default() }]);
        let request = MetadataRequest { topics, ..Default::default() };
        let ResponseBody::Metadata(answer) = hidden.ask(ApiKey::Metadata, version, request) else { panic!() };
        let partition = &answer.topics[0].partitions[0];
        (answer.brokers.len(), partition.leader_id, partition.error_code)
    };
    assert_eq!(ask(12), (0, -1, 72));
    assert_eq!(ask(5), (0, -1, 5), "a code that older clients know");
}

#[test]
fn metadata_answers_once_what_is_asked_twice_and_refuses_nameless_topics() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    let id = client.create("t", 1);
    let mut ask = |version, topics| {
        let request = MetadataRequest { topics: Some(topics), ..Default::default() };
        let ResponseBody::Metadata(answer) = client.ask(ApiKey::Metadata, version, request) else { panic!() };
        let codes: Vec<i16> = answer.topics.iter().map(|t| t.error_code).collect();
        (answer.brokers.len(), codes)
    };
    let named = MetadataRequestTopic { name: Some(Str::from_static("t")), ..Default::default() };
    assert_eq!(ask(12, vec![named.clone(), named]), (1, vec![0]));
    let by_id = MetadataRequestTopic { topic_id: id, name: None };
    assert_eq!(ask(12, vec![by_id.clone()]), (1, vec![0]));
    assert_eq!(ask(11, vec![by_id]), (0, vec![42]));
    assert_eq!(ask(12, vec![MetadataRequestTopic { topic_id: TopicId::ZERO, name: None }]), (0, vec![42]));
}

#[test]
fn a_fetch_error_tells_nothing_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    let id = client.create("t", 1);
    client.ask(ApiKey::Produce, 9, produce("t", -1, vec![(0, batch(&["a"]))]));
    let ResponseBody::Fetch(answer) = client.ask(ApiKey::Fetch, 16, fetch(id, &[(0, 99), (7, 0)], 0)) else {
        panic!()
    };
    let [past, missing] = answer.responses[0].partitions.as_slice() else { panic!("{answer:?}") };
    assert_eq!((past.error_code, past.high_watermark, past.log_start_offset), (1, -1, -1));
    assert_eq!(past.aborted_transactions, None);
    assert_eq!((missing.error_code, missing.aborted_transactions.as_deref()), (3, Some(&[][..])));
}

#[test]
fn fields_without_news_are_filled_as_kafka_fills_them() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    let request = FindCoordinatorRequest { key: Str::from_static("g"), ..Default::default() };
    let ResponseBody::FindCoordinator(answer) = client.ask(ApiKey::FindCoordinator, 3, request) else {
        panic!()
    };
    assert_eq!((answer.error_code, answer.error_message.as_deref()), (0, Some("NONE")));
    for (version, name) in [(6, Some("")), (7, None)] {
        let ResponseBody::JoinGroup(answer) =
            client.ask(ApiKey::JoinGroup, version, JoinGroupRequest::default())
        else {
            panic!()
        };
        assert_eq!((answer.error_code, answer.protocol_name.as_deref()), (24, name));
    }
}
