//! Bytes made to hurt, against a broker that others use at the same time.
use crate::bodies::{Body, PROTOCOL, body, bombs, varint};
use crate::server::{Server, wait_for};
use crate::wire_client::{Client, now_ms, value_batch};
use bytes::{BufMut, BytesMut};
use records::{BatchBuilder, Codec, NewRecord};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use wire::{ApiKey, ApiVersionsRequest, ResponseBody};

/// What the attack may cost.
const MEMORY: u64 = 64 << 20;
/// A request of a well-behaved client is never held up longer.
const DELAY: Duration = Duration::from_secs(10);
const ATTACKERS: usize = 4;
/// Bombs that are a valid request by chance may wait for something; so long they are looked at.
const LOOK: Duration = Duration::from_millis(300);
const FRAME_LIMIT: usize = 100 << 20;
const FIRST_FRAME_LIMIT: usize = 512 << 10;

/// A broker with clients that stay connected and go on asking while `attack` runs. Whatever it did: the
/// broker runs, none of them noticed, and memory did not grow.
fn under_attack(sets: &[&str], attack: impl FnOnce(&Server)) {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(&dir.path().join("data"), sets);
    let mut idle: Vec<Client> = (0..8).map(|_| server.client()).collect();
    let topic = idle[0].create("kept", 1, &[]);
    let produced = idle[0].produce("kept", 0, value_batch(b"kept")).unwrap();
    assert_eq!(produced.code, 0, "{produced:?}");
    idle.iter_mut().for_each(|client| assert_eq!(client.metadata().0, 1));
    let before = server.memory("VmHWM");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut busy = server.client();
        let done = &done;
        let asking = scope.spawn(move || {
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let begun = Instant::now();
                assert_eq!(busy.metadata().0, 1);
                longest = longest.max(begun.elapsed());
                std::thread::sleep(Duration::from_millis(2));
            }
            longest
        });
        let end = EndOnDrop(done);
        attack(&server);
        drop(end);
        let longest = asking.join().unwrap();
        assert!(longest < DELAY, "a client waited {longest:?}");
    });
    let grown = server.memory("VmHWM") - before;
    assert!(server.is_alive());
    for client in &mut idle {
        assert_eq!(client.metadata().0, 1);
    }
    assert_eq!(idle[0].read_all(topic, 0), [b"kept"]);
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert!(grown < MEMORY, "memory grew by {grown} bytes");
}

/// Tells the asking client to end also when the attack panics.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A request header in front of a body, the length in front of both.
fn frame(key: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.put_i16(key.code());
    frame.put_i16(version);
    frame.put_i32(1);
    frame.put_slice(&[0, 4]);
    frame.put_slice(b"bomb");
    if key.request_header_version(version) >= 2 {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    let length = frame.len() as u32 - 4;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// Every served API with every version that the broker advertises, and a whole body for it.
fn advertised(server: &Server) -> Vec<(ApiKey, i16, Body)> {
    let ask = ApiVersionsRequest::default();
    let ResponseBody::ApiVersions(table) = server.client().ask(ApiKey::ApiVersions, 0, ask) else { panic!() };
    let mut all = Vec::new();
    for row in &table.api_keys {
        let key = ApiKey::from_code(row.api_key).unwrap();
        let message = PROTOCOL.message(&format!("{}Request", key.name())).unwrap();
        for version in row.min_version..=row.max_version {
            // What is advertised and refused (Produce below 3) gets the nearest body.
            all.push((key, version, body(message, version.max(key.api().min))));
        }
    }
    assert!(all.len() > 150, "{}", all.len());
    all
}

/// Runs `attack` on every item, from several threads.
fn each<T: Sync>(items: &[T], attack: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| {
        for first in 0..ATTACKERS {
            let attack = &attack;
            scope.spawn(move || items.iter().skip(first).step_by(ATTACKERS).for_each(attack));
        }
    });
}

fn throw(address: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut client = Client::connect(address);
    client.send_raw(bytes);
    client.until_closed(LOOK)
}

#[test]
#[ignore = "needs a broker"]
fn lengths_and_counts_of_every_api_and_version_may_be_anything() {
    under_attack(&["max.connection.creation.rate=1000000"], |server| {
        let requests = advertised(server);
        for (key, version, body) in &requests {
            let mut client = server.client();
            client.send_raw(&frame(*key, *version, &body.bytes));
            let answered = client.frame().is_ok();
            assert_eq!(answered, key.serves(*version), "{key:?} {version} as it should be");
        }
        let thrown = AtomicU64::new(0);
        each(&requests, |(key, version, body)| {
            for place in &body.places {
                for bomb in bombs(place.form, body.bytes.len() - place.at.end) {
                    let mut bytes = body.bytes[..place.at.start].to_vec();
                    bytes.extend(bomb);
                    bytes.extend(&body.bytes[place.at.end..]);
                    throw(server.kafka, &frame(*key, *version, &bytes));
                    thrown.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let thrown = thrown.into_inner();
        let closed = server.metric("plimsoll_connections_closed_total{reason=\"malformed\"}");
        println!("{thrown} thrown, {closed} closed as malformed");
        // Null, or a length that ends where another field does, may make a valid request.
        assert!(thrown > 10_000 && closed > thrown / 2, "{thrown} thrown, {closed} closed as malformed");
    });
}

#[test]
#[ignore = "needs a broker"]
fn requests_cut_short_or_followed_by_rubbish_hurt_nobody() {
    under_attack(&["max.connection.creation.rate=1000000"], |server| {
        each(&advertised(server), |(key, version, body)| {
            for cut in (0..body.bytes.len()).step_by(7) {
                throw(server.kafka, &frame(*key, *version, &body.bytes[..cut]));
            }
            let mut bytes = frame(*key, *version, &body.bytes);
            bytes.extend([0xff; 64]);
            throw(server.kafka, &bytes);
        });
    });
}

#[test]
#[ignore = "needs a broker"]
fn what_is_no_kafka_frame_closes_its_connection() {
    under_attack(&[], |server| {
        let first = |length: usize| (length as u32).to_be_bytes().to_vec();
        let openings: Vec<Vec<u8>> = vec![
            b"GET / HTTP/1.1\r\nHost: broker:9092\r\nUser-Agent: curl/8.5.0\r\n\r\n".to_vec(),
            b"POST /topics HTTP/1.0\r\nContent-Length: 99999999\r\n\r\n".to_vec(),
            // A TLS 1.2 record with a hello of 508 bytes.
            [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x5a; 501]].concat(),
            b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
            vec![0; 4096],
            vec![0xff; 4096],
            first(FIRST_FRAME_LIMIT + 1),
            [first(FIRST_FRAME_LIMIT + 1), vec![0; FIRST_FRAME_LIMIT + 1]].concat(),
            first(FRAME_LIMIT + 1),
            first(i32::MAX as usize),
            first(1 << 31),
        ];
        each(&openings, |opening| {
            let mut client = Client::connect(server.kafka);
            client.send_raw(opening);
            // It stays open on our side: the broker closes of its own accord.
            let closed = client.frame().is_err();
            assert!(closed, "{:?}", &opening[..8.min(opening.len())]);
        });
        // The large limit holds once a valid request came, and what is beyond it is not read.
        let mut known = server.client();
        known.metadata();
        known.send_raw(&first(FRAME_LIMIT + 1));
        assert!(known.frame().is_err(), "a frame over the limit closes the connection");
    });
}

#[test]
#[ignore = "needs a broker"]
fn frames_that_are_announced_and_never_sent_hold_up_nobody() {
    under_attack(&[], |server| {
        // All of `queued.max.request.bytes`, to the last byte, and more.
        let exactly = std::iter::once(FRAME_LIMIT).chain([FIRST_FRAME_LIMIT; 56]);
        let mut waiting = Vec::new();
        for announced in exactly.chain([FRAME_LIMIT; 4]) {
            let mut client = server.client();
            client.metadata();
            client.send_raw(&(announced as u32).to_be_bytes());
            client.send_raw(&[0; 100]);
            waiting.push(client);
        }
        for _ in 0..100 {
            assert_eq!(server.client().metadata().0, 1);
        }
        // A request too large to come at once waits until the slow ones are shown the door.
        let mut client = server.client();
        client.create("large", 1, &[]);
        let begun = Instant::now();
        let produced = client.produce("large", 0, value_batch(&vec![7; 900_000])).unwrap();
        assert_eq!(produced.code, 0, "{produced:?}");
        assert!(begun.elapsed() < DELAY, "{:?}", begun.elapsed());
    });
}

/// `plain` under a codec, `times` over: what the codec's own concatenation makes of it.
fn packed(codec: Codec, plain: &[u8], times: usize) -> Vec<u8> {
    let once = records::compress(codec, None, plain).unwrap();
    match codec {
        // One header for all blocks.
        Codec::Snappy => [&once[..16], &once[16..].repeat(times)].concat(),
        _ => once.repeat(times),
    }
}

/// A batch whose header says one record, with this payload.
fn batch(codec: Codec, payload: &[u8]) -> BytesMut {
    let mut one = BatchBuilder::new();
    one.push(NewRecord::new(now_ms(), Some(b"k"), None));
    let mut batch = BytesMut::from(&one.finish().unwrap()[..records::HEADER_LEN]);
    batch.put_slice(payload);
    let length = (batch.len() - records::LENGTH_PREFIX) as u32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[22] = codec.id();
    let crc = records::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// The front of a record with a key whose value has `value` bytes, and its end.
fn record_around(value: usize) -> (Vec<u8>, Vec<u8>) {
    let signed = |n: usize| varint(n as u64 * 2);
    let mut head = vec![0, 0, 0, 2, b'k'];
    head.extend(signed(value));
    let mut front = signed(head.len() + value + 1);
    front.extend(head);
    (front, vec![0])
}

/// A whole record whose value is `value` zeros, under the codec.
fn honest(codec: Codec, value: usize) -> Vec<u8> {
    let (front, end) = record_around(value);
    let plain = [front, vec![0; value], end].concat();
    records::compress(codec, None, &plain).unwrap().to_vec()
}

#[test]
#[ignore = "needs a broker"]
fn decompression_bombs_of_every_codec_are_refused_at_no_cost() {
    under_attack(&["message.max.bytes=4194304", "log.tail.cache.bytes=4194304"], |server| {
        let mut client = server.client();
        let walked = client.create("walked", 1, &[("cleanup.policy", "compact")]);
        for target in Codec::ALL {
            client.create(&format!("to-{target}"), 1, &[("compression.type", compression(target))]);
        }
        for codec in Codec::ALL {
            let zeros = packed(codec, &vec![0; 16 << 20], if codec == Codec::None { 0 } else { 24 });
            let (lie, _) = record_around(i32::MAX as usize - 64);
            let claimed = records::compress(codec, None, &lie).unwrap();
            let large = if codec == Codec::None { 2 << 20 } else { 80 << 20 };
            let bombs =
                [zeros, claimed.to_vec(), vec![0xff; 1 << 20], vec![0; 1 << 20], honest(codec, large)];
            for (at, bomb) in bombs.into_iter().enumerate() {
                let bomb = batch(codec, &bomb);
                if bomb.len() > 4 << 20 {
                    continue;
                }
                let topics = Codec::ALL.map(|target| format!("to-{target}"));
                for topic in topics.iter().map(String::as_str).chain(["walked"]) {
                    let produced = client.produce(topic, 0, bomb.clone()).unwrap();
                    let kept = topic == format!("to-{codec}");
                    // What is not walked is taken as it is; what is whole may be taken.
                    assert!(kept || at == 4 || produced.code != 0, "{codec} {at} to {topic}: {produced:?}");
                }
            }
        }
        let (code, ..) = client.fetch(walked, 0, 0);
        assert_eq!(code, 0);
    });
}

/// The name of a codec as `compression.type` has it.
fn compression(codec: Codec) -> &'static str {
    if codec == Codec::None { "uncompressed" } else { codec.name() }
}

#[test]
#[ignore = "needs a broker"]
fn a_refused_connection_is_logged_with_the_config_that_limits_it() {
    for (key, value) in
        [("max.connections", "2"), ("max.connections.per.ip", "2"), ("max.connection.creation.rate", "0")]
    {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(&dir.path().join("data"), &[&format!("{key}={value}")]);
        let kept: Vec<_> = (0..3).map(|_| server.client()).collect();
        let wanted = format!("connection refused: {key} is reached");
        wait_for(&wanted, || server.log().contains(&wanted).then_some(()));
        drop(kept);
    }
}
