use crate::rig::{batch, fetch, produce, start, values};
use std::time::{Duration, Instant};
use wire::{ApiKey, MetadataRequest, ResponseBody};

#[test]
fn what_is_produced_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    let id = client.create("t", 2);
    let request = produce("t", -1, vec![(0, batch(&["a", "b"])), (1, batch(&["c"]))]);
    let ResponseBody::Produce(answer) = client.ask(ApiKey::Produce, 11, request) else { panic!() };
    assert!(answer.responses[0].partition_responses.iter().all(|p| p.error_code == 0), "{answer:?}");
    let ResponseBody::Fetch(answer) = client.ask(ApiKey::Fetch, 16, fetch(id, &[(0, 0), (1, 0)], 0)) else {
        panic!()
    };
    let got: Vec<Vec<String>> = answer.responses[0]
        .partitions
        .iter()
        .map(|p| values(&p.records.as_ref().unwrap().to_bytes()))
        .collect();
    assert_eq!(got, [vec!["a", "b"], vec!["c"]]);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    client.create("t", 1);
    let mut sent = Vec::new();
    for i in 0..50 {
        sent.push((
            ApiKey::Produce,
            9,
            client.send(ApiKey::Produce, 9, produce("t", -1, vec![(0, batch(&["v"]))])),
        ));
        if i % 10 == 0 {
            sent.push((ApiKey::Metadata, 12, client.send(ApiKey::Metadata, 12, MetadataRequest::default())));
        }
    }
    let mut offsets = Vec::new();
    for (key, version, id) in sent {
        if let ResponseBody::Produce(answer) = client.receive(key, version, id) {
            let partition = &answer.responses[0].partition_responses[0];
            assert_eq!(partition.error_code, 0);
            offsets.push(partition.base_offset);
        }
    }
    assert_eq!(offsets, (0..50).collect::<Vec<i64>>());
}

#[test]
fn a_long_poll_ends_when_data_comes_or_its_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut producer = broker.client();
    let topic = producer.create("t", 1);
    producer.ask(ApiKey::Produce, 9, produce("t", -1, vec![(0, batch(&["first"]))]));
    let mut consumer = broker.client();
    let begun = Instant::now();
    let ResponseBody::Fetch(empty) = consumer.ask(ApiKey::Fetch, 16, fetch(topic, &[(0, 1)], 300)) else {
        panic!()
    };
    assert!(empty.responses[0].partitions[0].records.as_ref().unwrap().is_empty());
    assert!(begun.elapsed() >= Duration::from_millis(290));
    let id = consumer.send(ApiKey::Fetch, 16, fetch(topic, &[(0, 1)], 15_000));
    let begun = Instant::now();
    producer.ask(ApiKey::Produce, 9, produce("t", -1, vec![(0, batch(&["second"]))]));
    let ResponseBody::Fetch(full) = consumer.receive(ApiKey::Fetch, 16, id) else { panic!() };
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(values(&full.responses[0].partitions[0].records.as_ref().unwrap().to_bytes()), ["second"]);
}

#[test]
fn a_fetch_session_answers_with_news_only() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    let topic = client.create("t", 3);
    let mut request = fetch(topic, &[(0, 0), (1, 0), (2, 0)], 0);
    request.session_epoch = 0;
    let ResponseBody::Fetch(full) = client.ask(ApiKey::Fetch, 16, request) else { panic!() };
    assert_ne!(full.session_id, 0);
    assert_eq!(full.responses[0].partitions.len(), 3);
    client.ask(ApiKey::Produce, 9, produce("t", -1, vec![(1, batch(&["x"]))]));
    let mut request = fetch(topic, &[], 1_000);
    request.topics.clear();
    (request.session_id, request.session_epoch) = (full.session_id, 1);
    let ResponseBody::Fetch(news) = client.ask(ApiKey::Fetch, 16, request.clone()) else { panic!() };
    let partitions: Vec<i32> = news.responses[0].partitions.iter().map(|p| p.partition_index).collect();
    assert_eq!((news.session_id, partitions), (full.session_id, vec![1]));
    let ResponseBody::Fetch(again) = client.ask(ApiKey::Fetch, 16, request) else { panic!() };
    assert_eq!(again.error_code, 71, "an epoch is used once");
}

fn sizes(answer: &wire::FetchResponse) -> Vec<usize> {
    let partitions = answer.responses.iter().flat_map(|t| &t.partitions);
    partitions.map(|p| p.records.as_ref().map_or(0, wire::Records::len)).collect()
}

#[test]
fn only_the_first_batch_of_an_answer_may_exceed_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    let topic = client.create("t", 3);
    let text = "x".repeat(1_000);
    let all = (0..3).map(|p| (p, batch(&[&text]))).collect();
    client.ask(ApiKey::Produce, 9, produce("t", -1, all));
    let size = batch(&[&text]).len();
    let mut request = fetch(topic, &[(0, 0), (1, 0), (2, 0)], 0);
    request.max_bytes = 1;
    let ResponseBody::Fetch(answer) = client.ask(ApiKey::Fetch, 16, request.clone()) else { panic!() };
    assert_eq!(sizes(&answer), [size, 0, 0]);
    request.max_bytes = (2 * size + 1) as i32;
    let ResponseBody::Fetch(answer) = client.ask(ApiKey::Fetch, 16, request) else { panic!() };
    assert_eq!(sizes(&answer), [size, size, 0]);
}

#[test]
fn what_left_memory_is_read_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    let topic = client.create("t", 1);
    for i in 0..20 {
        client.ask(ApiKey::Produce, 9, produce("t", -1, vec![(0, batch(&[&format!("v{i}")]))]));
    }
    drop(client);
    broker.stop();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    let mut request = fetch(topic, &[(0, 7)], 0);
    request.topics[0].partitions[0].partition_max_bytes = 300;
    let ResponseBody::Fetch(answer) = client.ask(ApiKey::Fetch, 16, request) else { panic!() };
    let got = values(&answer.responses[0].partitions[0].records.as_ref().unwrap().to_bytes());
    assert!(!got.is_empty() && got.len() < 13, "{got:?}");
    assert_eq!(got[0], "v7");
}
