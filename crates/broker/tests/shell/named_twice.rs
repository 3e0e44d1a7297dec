//! What a request names twice, or names without saying what of it.
use crate::rig::{batch, fetch, produce, start};
use model::TopicId;
use wire::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use wire::delete_topics_request::DeleteTopicState;
use wire::describe_log_dirs_request::DescribableLogDirTopic;
use wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use wire::metadata_request::MetadataRequestTopic;
use wire::offset_commit_request::OffsetCommitRequestTopic;
use wire::{
    ApiKey, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeLogDirsRequest,
    MetadataRequest, OffsetCommitRequest, ResponseBody, Str,
};

const T: Str = Str::from_static("t");

#[test]
fn list_offsets_refuses_once_what_is_named_twice() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    client.create("t", 2);
    let of = |partition_index| ListOffsetsPartition { partition_index, timestamp: -1, ..Default::default() };
    let named = |partitions| ListOffsetsTopic { name: T, partitions };
    let topics = vec![named(vec![of(0), of(1), of(0)]), named(vec![of(0)])];
    let request = wire::ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    let ResponseBody::ListOffsets(answer) = client.ask(ApiKey::ListOffsets, 7, request) else { panic!() };
    assert_eq!(answer.topics.len(), 1);
    let codes = answer.topics[0].partitions.iter().map(|p| (p.partition_index, p.error_code));
    assert_eq!(codes.collect::<Vec<_>>(), [(0, 42), (1, 0)]);
    let request =
        wire::ListOffsetsRequest { replica_id: -1, topics: vec![named(vec![])], ..Default::default() };
    let ResponseBody::ListOffsets(answer) = client.ask(ApiKey::ListOffsets, 7, request) else { panic!() };
    assert_eq!(answer.topics, []);
    let topics = vec![named(vec![of(0)])];
    let request = wire::ListOffsetsRequest { isolation_level: 7, topics, ..Default::default() };
    let ResponseBody::ListOffsets(answer) = client.ask(ApiKey::ListOffsets, 7, request) else { panic!() };
    assert_eq!(answer.topics[0].partitions[0].error_code, 42);
}

#[test]
fn delete_records_moves_once_to_the_last_offset() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    client.create("t", 1);
    client.ask(ApiKey::Produce, 9, produce("t", -1, vec![(0, batch(&["a", "b", "c"]))]));
    let to = |offset| DeleteRecordsTopic {
        name: T,
        partitions: vec![DeleteRecordsPartition { partition_index: 0, offset }],
    };
    let request = DeleteRecordsRequest { topics: vec![to(3), to(1)], timeout_ms: 10_000 };
    let ResponseBody::DeleteRecords(answer) = client.ask(ApiKey::DeleteRecords, 2, request) else { panic!() };
    assert_eq!((answer.topics.len(), answer.topics[0].partitions.len()), (1, 1));
    let row = &answer.topics[0].partitions[0];
    assert_eq!((row.error_code, row.low_watermark), (0, 1));
}

#[test]
fn describe_log_dirs_and_delete_groups_tell_once() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    client.create("t", 2);
    let of = |partitions: &[i32]| DescribableLogDirTopic { topic: T, partitions: partitions.to_vec() };
    let request = DescribeLogDirsRequest { topics: Some(vec![of(&[0, 0]), of(&[1])]) };
    let ResponseBody::DescribeLogDirs(answer) = client.ask(ApiKey::DescribeLogDirs, 4, request) else {
        panic!()
    };
    let topics = &answer.results[0].topics;
    assert_eq!((topics.len(), topics[0].partitions.len()), (1, 2));
    let request = DeleteGroupsRequest { groups_names: vec![T, T] };
    let ResponseBody::DeleteGroups(answer) = client.ask(ApiKey::DeleteGroups, 2, request) else { panic!() };
    assert_eq!(answer.results.len(), 1);
}

#[test]
fn topics_without_partitions_are_not_answered() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    client.create("t", 1);
    let ResponseBody::Produce(answer) = client.ask(ApiKey::Produce, 9, produce("t", -1, vec![])) else {
        panic!()
    };
    assert_eq!(answer.responses, []);
    let topics = vec![OffsetCommitRequestTopic { name: T, ..Default::default() }];
    let request = OffsetCommitRequest { group_id: T, topics, ..Default::default() };
    let ResponseBody::OffsetCommit(answer) = client.ask(ApiKey::OffsetCommit, 8, request) else { panic!() };
    assert_eq!(answer.topics, []);
}

#[test]
fn metadata_goes_by_ids_alone_where_there_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    let id = client.create("t", 1);
    client.create("u", 1);
    let mut names = |topics| {
        let request = MetadataRequest { topics: Some(topics), ..Default::default() };
        let ResponseBody::Metadata(answer) = client.ask(ApiKey::Metadata, 12, request) else { panic!() };
        answer.topics.into_iter().map(|t| (t.error_code, t.name.map(|n| n.to_string()))).collect::<Vec<_>>()
    };
    let told = vec![(0, Some("t".to_owned()))];
    let u = || Some(Str::from_static("u"));
    assert_eq!(names(vec![MetadataRequestTopic { topic_id: id, name: u() }]), told);
    let by_name = MetadataRequestTopic { topic_id: TopicId::ZERO, name: u() };
    assert_eq!(names(vec![by_name, MetadataRequestTopic { topic_id: id, name: None }]), told);
}

#[test]
fn a_timeout_of_zero_does_not_hurry_who_waits_for_the_leader_alone() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    client.create("t", 1);
    let request = wire::ProduceRequest { timeout_ms: 0, ..produce("t", 1, vec![(0, batch(&["a"]))]) };
    let ResponseBody::Produce(answer) = client.ask(ApiKey::Produce, 9, request) else { panic!() };
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

#[test]
fn only_the_first_batch_of_a_fetch_may_be_above_its_partitions_limit() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    let id = client.create("t", 2);
    client.ask(ApiKey::Produce, 9, produce("t", -1, vec![(0, batch(&["a"])), (1, batch(&["b"]))]));
    let mut request = fetch(id, &[(0, 0), (1, 0)], 0);
    request.topics[0].partitions.iter_mut().for_each(|p| p.partition_max_bytes = 1);
    let ResponseBody::Fetch(answer) = client.ask(ApiKey::Fetch, 16, request) else { panic!() };
    let [first, second] = answer.responses[0].partitions.as_slice() else { panic!("{answer:?}") };
    let size = |p: &wire::fetch_response::PartitionData| p.records.as_ref().map_or(0, |r| r.len());
    assert!(size(first) > 1 && size(second) == 0, "{answer:?}");
}

#[test]
fn each_refused_deletion_is_answered_under_its_own_name() {
    let dir = tempfile::tempdir().unwrap();
    let broker = start(dir.path(), |_| {});
    let mut client = broker.client();
    let id = client.create("t", 1);
    let named = |name: &'static str| DeleteTopicState { name: Some(name.into()), topic_id: TopicId::ZERO };
    let by_id = DeleteTopicState { name: None, topic_id: id };
    let mut delete = |topics| {
        let request = DeleteTopicsRequest { topics, timeout_ms: 10_000, ..Default::default() };
        let ResponseBody::DeleteTopics(answer) = client.ask(ApiKey::DeleteTopics, 6, request) else {
            panic!()
        };
        let row = |r: wire::delete_topics_response::DeletableTopicResult| {
            (r.name.map(|name| name.to_string()), r.topic_id, r.error_code)
        };
        answer.responses.into_iter().map(row).collect::<Vec<_>>()
    };
    let row = |name: &str, id, code| (Some(name.to_owned()), id, code);
    let answers = delete(vec![named("t"), named("t"), named("nowhere")]);
    assert_eq!(answers, [row("t", TopicId::ZERO, 42), row("nowhere", TopicId::ZERO, 3)]);
    assert_eq!(delete(vec![by_id, named("t")]), [row("t", id, 42)]);
}
