//! One connection against brokers that misbehave.
#![allow(clippy::unwrap_used, missing_docs)]
use bytes::BytesMut;
use client_lite::{Client, ClientError, ClientOptions, Conn, ConnOptions};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wire::{
    ApiKey, ApiVersionsResponse, DescribeClusterRequest, DescribeClusterResponse, RequestHeader,
    ResponseBody, Str, encode_response,
};

/// Runs `broker` on the first connection, and says where.
async fn broker<F: Future<Output = ()> + Send + 'static>(
    broker: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { broker(listener.accept().await.unwrap().0).await });
    address
}

async fn receive(stream: &mut TcpStream) -> RequestHeader {
    let length = stream.read_u32().await.unwrap() as usize;
    let mut frame = BytesMut::zeroed(length);
    stream.read_exact(&mut frame).await.unwrap();
    wire::decode_request_header(frame).unwrap().0
}

async fn send(stream: &mut TcpStream, version: i16, id: i32, body: impl Into<ResponseBody>) {
    for piece in encode_response(version, id, &body.into()).unwrap() {
        stream.write_all(&piece).await.unwrap();
    }
}

/// Answers ApiVersions with what this workspace serves.
async fn greet(stream: &mut TcpStream) {
    let header = receive(stream).await;
    send(stream, header.api_version, header.correlation_id, wire::api_versions_response()).await;
}

fn options() -> ConnOptions {
    ConnOptions { request_timeout: Duration::from_millis(100), ..ConnOptions::default() }
}

fn cluster_named(name: &str) -> DescribeClusterResponse {
    DescribeClusterResponse { cluster_id: Str::from(name), ..Default::default() }
}

#[tokio::test]
async fn answers_find_their_callers_in_any_order() {
    let address = broker(|mut stream| async move {
        greet(&mut stream).await;
        let first = receive(&mut stream).await;
        let second = receive(&mut stream).await;
        for (header, name) in [(second, "second"), (first, "first")] {
            send(&mut stream, header.api_version, header.correlation_id, cluster_named(name)).await;
        }
        // Until the client hangs up.
        let _ = stream.read_u8().await;
    });
    let conn = Conn::connect(&address.await, ConnOptions::default()).await.unwrap();
    let version = conn.version(ApiKey::DescribeCluster).unwrap();
    let first = conn.begin_at(DescribeClusterRequest::default(), version).await.unwrap();
    let second = conn.begin_at(DescribeClusterRequest::default(), version).await.unwrap();
    assert_eq!(first.wait().await.unwrap().cluster_id, "first");
    assert_eq!(second.wait().await.unwrap().cluster_id, "second");
}

#[tokio::test]
async fn a_broker_without_the_newest_api_versions_is_asked_again() {
    let address = broker(|mut stream| async move {
        let header = receive(&mut stream).await;
        let error_code = model::ErrorCode::UnsupportedVersion.code();
        let mut api_keys = wire::api_versions_response().api_keys;
        api_keys.iter_mut().filter(|v| v.api_key == 18).for_each(|v| v.max_version = 3);
        let refusal = ApiVersionsResponse { error_code, api_keys, ..Default::default() };
        send(&mut stream, 0, header.correlation_id, refusal).await;
        let header = receive(&mut stream).await;
        assert_eq!(header.api_version, 3);
        send(&mut stream, 3, header.correlation_id, wire::api_versions_response()).await;
        let _ = stream.read_u8().await;
    });
    let conn = Conn::connect(&address.await, ConnOptions::default()).await.unwrap();
    assert_eq!(conn.version(ApiKey::Fetch).unwrap(), ApiKey::Fetch.api().max);
    assert_eq!(conn.version_up_to(ApiKey::Fetch, 12).unwrap(), 12);
}

#[tokio::test]
async fn an_api_that_the_broker_lacks_is_told_with_both_ranges() {
    let address = broker(|mut stream| async move {
        let header = receive(&mut stream).await;
        let mut answer = wire::api_versions_response();
        answer.api_keys.retain(|v| v.api_key != ApiKey::Fetch.code());
        answer.api_keys.iter_mut().filter(|v| v.api_key == 0).for_each(|v| v.max_version = 2);
        send(&mut stream, header.api_version, header.correlation_id, answer).await;
        let _ = stream.read_u8().await;
    });
    let conn = Conn::connect(&address.await, ConnOptions::default()).await.unwrap();
    let lacking = conn.version(ApiKey::Fetch).unwrap_err().to_string();
    assert!(lacking.contains("Fetch") && lacking.contains("none"), "{lacking}");
    let too_old = conn.version(ApiKey::Produce).unwrap_err().to_string();
    assert!(too_old.contains("3 to 13") && too_old.contains("0 to 2"), "{too_old}");
}

#[tokio::test]
async fn a_late_answer_gives_the_connection_up() {
    let address = broker(|mut stream| async move {
        greet(&mut stream).await;
        receive(&mut stream).await;
        let _ = stream.read_u8().await;
    });
    let conn = Conn::connect(&address.await, options()).await.unwrap();
    let error = conn.request(DescribeClusterRequest::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { what: "DescribeCluster", .. }), "{error}");
    assert!(conn.is_closed());
    let error = conn.request(DescribeClusterRequest::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Closed { .. }), "{error}");
}

#[tokio::test]
async fn callers_learn_that_the_broker_hung_up() {
    let address = broker(|mut stream| async move {
        greet(&mut stream).await;
        receive(&mut stream).await;
    });
    let conn = Conn::connect(&address.await, ConnOptions::default()).await.unwrap();
    let error = conn.request(DescribeClusterRequest::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Closed { .. }) && error.is_retriable(), "{error}");
}

#[tokio::test]
async fn an_answer_of_an_impossible_length_ends_the_connection() {
    for length in [i32::MAX, -1] {
        let address = broker(move |mut stream| async move {
            greet(&mut stream).await;
            receive(&mut stream).await;
            stream.write_all(&length.to_be_bytes()).await.unwrap();
            let _ = stream.read_u8().await;
        });
        let conn = Conn::connect(&address.await, ConnOptions::default()).await.unwrap();
        let error = conn.request(DescribeClusterRequest::default()).await.unwrap_err();
        assert!(matches!(error, ClientError::Closed { .. }), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_decoded_is_told() {
    let address = broker(|mut stream| async move {
        greet(&mut stream).await;
        let header = receive(&mut stream).await;
        stream.write_all(&5u32.to_be_bytes()).await.unwrap();
        stream.write_all(&header.correlation_id.to_be_bytes()).await.unwrap();
        stream.write_all(&[0]).await.unwrap();
        let _ = stream.read_u8().await;
    });
    let conn = Conn::connect(&address.await, ConnOptions::default()).await.unwrap();
    let error = conn.request(DescribeClusterRequest::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Decode { .. }), "{error}");
}

#[tokio::test]
async fn no_broker_at_all_is_told_with_every_address() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = Client::connect(&unused.to_string(), ClientOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains(&unused.to_string()), "{error}");
}

/// An address that takes connections and says nothing, as that of a stopped process.
async fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    address
}

fn hasty() -> ClientOptions {
    let conn = ConnOptions { handshake_timeout: Duration::from_millis(200), ..ConnOptions::default() };
    ClientOptions { conn, ..ClientOptions::default() }
}

#[tokio::test]
async fn a_silent_address_does_not_hold_up_the_next_one() {
    let answers = broker(|mut stream| async move {
        greet(&mut stream).await;
        let _ = stream.read_u8().await;
    })
    .await;
    let both = format!("{},{answers}", silent().await);
    let client = tokio::time::timeout(Duration::from_secs(20), Client::connect(&both, hasty())).await;
    assert_eq!(client.unwrap().unwrap().any().await.unwrap().address(), answers);
}

#[tokio::test]
async fn when_no_address_serves_the_error_says_what_became_of_each() {
    let (silent, gone) = (silent().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let closed = gone.local_addr().unwrap().to_string();
    drop(gone);
    let error = Client::connect(&format!("{silent},{closed}"), hasty()).await.unwrap_err().to_string();
    assert!(error.contains(&format!("ApiVersions was not answered by {silent} within 200 ms; ")), "{error}");
    assert!(error.contains(&format!("cannot connect to {closed}: ")), "{error}");
}
