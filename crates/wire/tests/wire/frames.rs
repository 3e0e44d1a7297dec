//! Whole frames: headers, the API table, what is refused before a body is read.
use bytes::{Bytes, BytesMut};
use wire::describe_log_dirs_response::{DescribeLogDirsResult, DescribeLogDirsTopic};
use wire::frame::{Split, split};
use wire::{
    ApiKey, ApiVersionsResponse, DescribeLogDirsResponse, FetchRequest, Message, MetadataRequest,
    MetadataResponse, OffsetCommitKey, OffsetCommitValue, Request, RequestError, RequestHeader,
    RequestMessage, ResponseBody, decode_request, decode_response, encode_request, encode_response,
};

fn joined(pieces: &[Bytes]) -> BytesMut {
    let mut frame: BytesMut = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
    assert_eq!(split(&frame, usize::MAX), Split::Frame(frame.len() - 4));
    frame.split_off(4)
}

fn header(api_key: ApiKey, api_version: i16) -> RequestHeader {
    RequestHeader { api_key, api_version, correlation_id: 7, client_id: Some("cli".into()) }
}

#[test]
fn empty_requests_and_responses_of_every_version_survive_the_trip() {
    for api in wire::served() {
        for version in api.min..=api.max {
            let key = api.key;
            let body = match key {
                ApiKey::Metadata => {
                    Request::Metadata(MetadataRequest { topics: Some(vec![]), ..Default::default() })
                }
                _ => default_request(key),
            };
            let Ok(frame) = encode_request(&header(key, version), &body) else { continue };
            let (head, decoded) = decode_request(joined(&frame)).unwrap();
            assert_eq!((head, &decoded), (header(key, version), &body), "{key:?} v{version}");
        }
    }
}

fn default_request(key: ApiKey) -> Request {
    macro_rules! defaults {
        ($($name:ident: $body:ident),*) => {
            match key { $(ApiKey::$name => Request::$name(wire::$body::default()),)* }
        };
    }
    defaults!(
        Produce: ProduceRequest, Fetch: FetchRequest, ListOffsets: ListOffsetsRequest,
        Metadata: MetadataRequest, OffsetCommit: OffsetCommitRequest, OffsetFetch: OffsetFetchRequest,
        FindCoordinator: FindCoordinatorRequest, JoinGroup: JoinGroupRequest, Heartbeat: HeartbeatRequest,
        LeaveGroup: LeaveGroupRequest, SyncGroup: SyncGroupRequest, DescribeGroups: DescribeGroupsRequest,
        ListGroups: ListGroupsRequest, ApiVersions: ApiVersionsRequest, CreateTopics: CreateTopicsRequest,
        DeleteTopics: DeleteTopicsRequest, DeleteRecords: DeleteRecordsRequest,
        InitProducerId: InitProducerIdRequest, OffsetForLeaderEpoch: OffsetForLeaderEpochRequest,
        DescribeConfigs: DescribeConfigsRequest, AlterConfigs: AlterConfigsRequest,
        AlterReplicaLogDirs: AlterReplicaLogDirsRequest, ElectLeaders: ElectLeadersRequest,
        DescribeLogDirs: DescribeLogDirsRequest, CreatePartitions: CreatePartitionsRequest,
        DeleteGroups: DeleteGroupsRequest, IncrementalAlterConfigs: IncrementalAlterConfigsRequest,
        OffsetDelete: OffsetDeleteRequest,
        AlterPartitionReassignments: AlterPartitionReassignmentsRequest,
        ListPartitionReassignments: ListPartitionReassignmentsRequest,
        UnregisterBroker: UnregisterBrokerRequest, DescribeQuorum: DescribeQuorumRequest,
        UpdateFeatures: UpdateFeaturesRequest, AddRaftVoter: AddRaftVoterRequest,
        RemoveRaftVoter: RemoveRaftVoterRequest, DescribeCluster: DescribeClusterRequest,
        DescribeProducers: DescribeProducersRequest, ListConfigResources: ListConfigResourcesRequest,
        DescribeTopicPartitions: DescribeTopicPartitionsRequest,
        AddPartitionsToTxn: AddPartitionsToTxnRequest, AddOffsetsToTxn: AddOffsetsToTxnRequest,
        EndTxn: EndTxnRequest, WriteTxnMarkers: WriteTxnMarkersRequest,
        TxnOffsetCommit: TxnOffsetCommitRequest, DescribeTransactions: DescribeTransactionsRequest,
        ListTransactions: ListTransactionsRequest, ConsumerGroupHeartbeat: ConsumerGroupHeartbeatRequest,
        ConsumerGroupDescribe: ConsumerGroupDescribeRequest
    )
}

#[test]
fn client_id_is_never_compact() {
    let frame = encode_request(&header(ApiKey::Metadata, 13), &MetadataRequest::default().into()).unwrap();
    let expected = [0, 3, 0, 13, 0, 0, 0, 7, 0, 3, b'c', b'l', b'i', 0];
    assert_eq!(joined(&frame)[..expected.len()], expected);
}

#[test]
fn api_versions_answers_with_header_0_and_others_by_flexibility() {
    let body = ResponseBody::ApiVersions(ApiVersionsResponse { error_code: 35, ..Default::default() });
    assert_eq!(joined(&encode_response(3, 9, &body).unwrap())[..6], [0, 0, 0, 9, 0, 35]);
    let body = ResponseBody::Metadata(MetadataResponse { throttle_time_ms: 1, ..Default::default() });
    assert_eq!(joined(&encode_response(8, 9, &body).unwrap())[..8], [0, 0, 0, 9, 0, 0, 0, 1]);
    assert_eq!(joined(&encode_response(9, 9, &body).unwrap())[..9], [0, 0, 0, 9, 0, 0, 0, 0, 1]);
    for version in [8, 9] {
        let frame = joined(&encode_response(version, 9, &body).unwrap());
        let (id, ResponseBody::Metadata(again)) = decode_response(ApiKey::Metadata, version, frame).unwrap()
        else {
            panic!("another body")
        };
        assert_eq!((id, again.throttle_time_ms), (9, 1));
    }
}

#[test]
fn unknown_apis_and_versions_are_told_apart() {
    let frame = |key: i16, version: i16| {
        BytesMut::from_iter([key.to_be_bytes(), version.to_be_bytes(), [0, 0], [0, 5], [0xff, 0xff]].concat())
    };
    let unserved =
        |api_key, api_version| RequestError::UnservedVersion { api_key, api_version, correlation_id: 5 };
    assert_eq!(
        decode_request(frame(999, 0)).unwrap_err(),
        RequestError::UnknownApi { api_key: 999, api_version: 0 }
    );
    assert_eq!(
        decode_request(frame(-1, 0)).unwrap_err(),
        RequestError::UnknownApi { api_key: -1, api_version: 0 }
    );
    assert_eq!(decode_request(frame(18, 6)).unwrap_err(), unserved(ApiKey::ApiVersions, 6));
    assert_eq!(decode_request(frame(0, 2)).unwrap_err(), unserved(ApiKey::Produce, 2));
    assert_eq!(decode_request(frame(1, -1)).unwrap_err(), unserved(ApiKey::Fetch, -1));
}

#[test]
fn produce_is_advertised_from_0_and_served_from_3() {
    let table = wire::api_versions_response();
    let produce = table.api_keys.iter().find(|api| api.api_key == 0).unwrap();
    assert_eq!((produce.min_version, produce.max_version), (0, 13));
    assert!(!ApiKey::Produce.serves(2) && ApiKey::Produce.serves(3));
    assert!(table.api_keys.windows(2).all(|pair| pair[0].api_key < pair[1].api_key));
}

#[test]
fn a_field_that_changes_the_meaning_is_not_dropped_from_a_request() {
    let topic = wire::fetch_request::ForgottenTopic { topic: "t".into(), ..Default::default() };
    let request = FetchRequest { forgotten_topics_data: vec![topic], ..Default::default() };
    let error = request.encode(4).unwrap_err();
    assert_eq!(error.field, "FetchRequest.forgotten_topics_data");
    assert_eq!(<FetchRequest as RequestMessage>::KEY, ApiKey::Fetch);
}

#[test]
fn offset_records_have_kafkas_bytes() {
    let key = OffsetCommitKey { group: "g".into(), topic: "t".into(), partition: 2 };
    let bytes = key.encode_versioned(1).unwrap();
    assert_eq!(bytes[..], [0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 2]);
    assert_eq!(OffsetCommitKey::decode_versioned(BytesMut::from(&bytes[..])).unwrap(), (1, key));
    let value = OffsetCommitValue { offset: 5, leader_epoch: 3, commit_timestamp: 9, ..Default::default() };
    let bytes = value.encode_versioned(3).unwrap();
    assert_eq!(bytes[..], [0, 3, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
}

#[test]
fn fields_of_our_own_stand_behind_kafkas_and_only_when_they_say_something() {
    use wire::describe_log_dirs_response::DescribeLogDirsPartition as Row;
    let answer = |row: Row| {
        let topics = vec![DescribeLogDirsTopic { name: "t".into(), partitions: vec![row] }];
        let results = vec![DescribeLogDirsResult { topics, ..Default::default() }];
        DescribeLogDirsResponse { results, ..Default::default() }
    };
    let well = Row { partition_size: 7, ..Row::default() };
    let troubled = Row { bytes_left: 5, trouble: Some("suspect: x".into()), ..well.clone() };
    for version in 0..=5 {
        let bytes = answer(troubled.clone()).encode(version).unwrap();
        let back = DescribeLogDirsResponse::decode(BytesMut::from(&bytes[..]), version).unwrap();
        let kept = if version >= 2 { &troubled } else { &well };
        assert_eq!(back.results[0].topics[0].partitions[0], *kept, "{version}");
        let plain = answer(well.clone()).encode(version).unwrap();
        let tags = if version >= 2 { 2 + 1 + 8 + 2 + 1 + 11 } else { 0 };
        assert_eq!(bytes.len(), plain.len() + tags, "{version}");
    }
}
