//! Record sets: taken off a request to be changed in place, put into a response without a copy.
use bytes::{Bytes, BytesMut};
use wire::fetch_response::{FetchableTopicResponse, PartitionData};
use wire::produce_request::{PartitionProduceData, TopicProduceData};
use wire::{
    ApiKey, FetchResponse, ProduceRequest, Records, Request, RequestHeader, ResponseBody, decode_request,
    decode_response, encode_request, encode_response,
};

fn produce_frame(version: i16) -> BytesMut {
    let records = |fill: u8| Some(BytesMut::from(&[fill; 100][..]));
    let topic = |name: &str, fill: u8| TopicProduceData {
        name: name.into(),
        partition_data: vec![
            PartitionProduceData { index: 0, records: records(fill) },
            PartitionProduceData { index: 1, records: None },
            PartitionProduceData { index: 2, records: records(fill + 1) },
        ],
        ..Default::default()
    };
    let body =
        ProduceRequest { topic_data: vec![topic("first", 10), topic("second", 20)], ..Default::default() };
    let header =
        RequestHeader { api_key: ApiKey::Produce, api_version: version, correlation_id: 1, client_id: None };
    let pieces = encode_request(&header, &body.into()).unwrap();
    BytesMut::from(&pieces[0][4..])
}

#[test]
fn record_sets_of_a_request_are_the_frames_own_bytes_and_can_be_changed_apart() {
    for version in [3, 12] {
        let frame = produce_frame(version);
        let (start, end) = (frame.as_ptr() as usize, frame.as_ptr() as usize + frame.len());
        let (_, Request::Produce(mut request)) = decode_request(frame).unwrap() else {
            panic!("another body")
        };
        let names: Vec<_> = request.topic_data.iter().map(|topic| topic.name.clone()).collect();
        let mut sets = 0;
        for partition in request.topic_data.iter_mut().flat_map(|topic| &mut topic.partition_data) {
            let Some(records) = &mut partition.records else { continue };
            let at = records.as_ptr() as usize;
            assert!(start <= at && at + records.len() <= end, "v{version}: copied");
            records.fill(0xee);
            sets += 1;
        }
        assert_eq!(sets, 4);
        assert_eq!(names, ["first", "second"], "changing records changed a name");
        let (_, Request::Produce(fresh)) = decode_request(produce_frame(version)).unwrap() else {
            panic!("another body")
        };
        assert_eq!(fresh.topic_data[1].partition_data[2].records.as_deref(), Some(&[21; 100][..]));
    }
}

fn fetch_response(sizes: &[usize]) -> (ResponseBody, Vec<Bytes>) {
    let pieces: Vec<Bytes> = sizes.iter().map(|size| Bytes::from(vec![7; *size])).collect();
    let partition =
        |piece: &Bytes| PartitionData { records: Some(piece.clone().into()), ..Default::default() };
    let topic =
        FetchableTopicResponse { partitions: pieces.iter().map(partition).collect(), ..Default::default() };
    (FetchResponse { responses: vec![topic], ..Default::default() }.into(), pieces)
}

#[test]
fn large_record_sets_leave_as_the_same_memory_and_small_ones_are_gathered() {
    let (body, pieces) = fetch_response(&[100_000, 50_000]);
    let frame = encode_response(16, 1, &body).unwrap();
    for piece in &pieces {
        assert!(frame.iter().any(|sent| sent.as_ptr() == piece.as_ptr() && sent.len() == piece.len()));
    }
    let (small, _) = fetch_response(&[1000; 20]);
    assert_eq!(encode_response(16, 1, &small).unwrap().len(), 1);
    for body in [body, small] {
        let frame = encode_response(16, 1, &body).unwrap();
        let joined: BytesMut = frame.iter().flat_map(|piece| piece.iter().copied()).collect();
        let stated = i32::from_be_bytes(*joined.first_chunk().unwrap()) as usize;
        assert_eq!(stated, joined.len() - 4);
        let (_, again) = decode_response(ApiKey::Fetch, 16, BytesMut::from(&joined[4..])).unwrap();
        assert_eq!(again, body);
    }
}

#[test]
fn cuts_between_pieces_are_not_part_of_a_record_set() {
    let whole = Records::from(Bytes::from_static(b"abcdef"));
    let cut = Records::from_iter([Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"def")]);
    assert_eq!((&cut, cut.len(), cut.pieces().len()), (&whole, 6, 2));
}
