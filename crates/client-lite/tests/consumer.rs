//! A consumer against a broker that refuses partitions.
#![allow(clippy::unwrap_used, missing_docs)]
use bytes::BytesMut;
use client_lite::{Client, ClientOptions, Consumer, FetchOptions};
use model::ErrorCode;
use records::{BatchBuilder, NewRecord};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wire::fetch_response::{FetchableTopicResponse, PartitionData};
use wire::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use wire::{ApiKey, FetchResponse, MetadataResponse, ResponseBody, Str, encode_response};

/// What fetch number n finds in partitions 0 and 1 of topic `t`: records, or why there are none.
type Script = fn(i64) -> [Result<BytesMut, ErrorCode>; 2];

/// A broker of these partitions: where, and how many fetches it answered.
async fn broker(script: Script) -> (String, Arc<AtomicI64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let fetches = Arc::new(AtomicI64::new(0));
    let count = fetches.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, port, script, count.clone()));
        }
    });
    (format!("127.0.0.1:{port}"), fetches)
}

async fn serve(mut stream: TcpStream, port: u16, script: Script, fetches: Arc<AtomicI64>) {
    // Until the client hangs up.
    while let Ok(length) = stream.read_u32().await {
        let mut frame = BytesMut::zeroed(length as usize);
        stream.read_exact(&mut frame).await.unwrap();
        let header = wire::decode_request_header(frame).unwrap().0;
        let body: ResponseBody = match header.api_key {
            ApiKey::Metadata => metadata(port).into(),
            ApiKey::Fetch => fetched(script(fetches.fetch_add(1, Ordering::SeqCst))).into(),
            _ => wire::api_versions_response().into(),
        };
        for piece in encode_response(header.api_version, header.correlation_id, &body).unwrap() {
            stream.write_all(&piece).await.unwrap();
        }
    }
}

fn metadata(port: u16) -> MetadataResponse {
    let host = Str::from("127.0.0.1");
    let broker = MetadataResponseBroker { node_id: 1, host, port: i32::from(port), rack: None };
    let led =
        |partition_index| MetadataResponsePartition { partition_index, leader_id: 1, ..Default::default() };
    let name = Some(Str::from("t"));
    let topic = MetadataResponseTopic { name, partitions: (0..2).map(led).collect(), ..Default::default() };
    MetadataResponse { brokers: vec![broker], topics: vec![topic], ..Default::default() }
}

fn fetched(found: [Result<BytesMut, ErrorCode>; 2]) -> FetchResponse {
    let rows = found.into_iter().zip(0..).map(|(found, partition_index)| {
        let error_code = found.as_ref().err().map_or(0, |code| code.code());
        let records = Some(found.into_iter().map(BytesMut::freeze).collect());
        PartitionData { partition_index, error_code, records, ..Default::default() }
    });
    let topic =
        FetchableTopicResponse { topic: "t".into(), partitions: rows.collect(), ..Default::default() };
    FetchResponse { responses: vec![topic], ..Default::default() }
}

fn one_record(offset: i64) -> BytesMut {
    let mut batch = BatchBuilder::new().base_offset(offset);
    batch.push(NewRecord::new(0, None, Some(b"v")));
    batch.finish().unwrap()
}

fn consumer(address: &str, retry_for: Duration) -> Consumer {
    let client = Client::new(address, ClientOptions { retry_for, ..ClientOptions::default() });
    let positions = (0..2).map(|partition| (("t".to_owned(), partition), 0)).collect();
    Consumer::assigned(Arc::new(client), positions, FetchOptions::default())
}

#[tokio::test]
async fn damage_ends_reading_at_once_after_what_came_with_it() {
    let (address, fetches) = broker(|n| [Err(ErrorCode::CorruptMessage), Ok(one_record(n))]).await;
    let mut consumer = consumer(&address, Duration::from_secs(600));
    let seen = consumer.poll().await.unwrap();
    assert_eq!(seen.iter().map(|one| one.partition).collect::<Vec<_>>(), [1]);
    let error = consumer.poll().await.unwrap_err().to_string();
    assert!(error.contains("fetch from t-0 at offset 0: CORRUPT_MESSAGE"), "{error}");
    assert_eq!(fetches.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_may_pass_is_tried_again_with_pauses_until_time_is_up() {
    let (address, fetches) = broker(|_| [Err(ErrorCode::KafkaStorageError), Ok(BytesMut::new())]).await;
    let begun = Instant::now();
    let error = consumer(&address, Duration::from_millis(400)).poll().await.unwrap_err().to_string();
    assert!(error.contains("fetch from t-0 at offset 0: KAFKA_STORAGE_ERROR"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    // At once, then after 50, 100 and 200 ms.
    assert!((1..=4).contains(&fetches.load(Ordering::SeqCst)), "{fetches:?}");
}

#[tokio::test]
async fn a_partition_that_cannot_be_read_is_told_although_others_go_on() {
    let (address, _) = broker(|n| [Err(ErrorCode::KafkaStorageError), Ok(one_record(n))]).await;
    let mut consumer = consumer(&address, Duration::from_millis(200));
    let mut seen = 0;
    let error = loop {
        match consumer.poll().await {
            Ok(records) => seen += records.len(),
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("t-0") && seen > 1, "{seen}: {error}");
}

#[tokio::test]
async fn a_partition_that_can_be_read_again_is_no_trouble() {
    let (address, _) = broker(|n| {
        let passing = if n < 2 { Err(ErrorCode::NotLeaderOrFollower) } else { Ok(one_record(0)) };
        [passing, Ok(BytesMut::new())]
    })
    .await;
    let seen = consumer(&address, Duration::from_secs(600)).poll().await.unwrap();
    assert_eq!(seen.len(), 1);
}
