//! Damaged data: what clients, the log and the metrics page say of it.
use crate::commands::{plimsoll, said};
use crate::server::{Server, wait_for};
use crate::wire_client::value_batch;
use model::{ErrorCode, TopicId};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use wire::{ApiKey, ListOffsetsRequest, ResponseBody};

/// A broker that stopped cleanly after it took 20 batches for a topic `t`; where they are.
fn filled(data: &Path) -> (TopicId, PathBuf) {
    let mut server = Server::start(data, &[]);
    let mut client = server.client();
    let topic = client.create("t", 1, &[]);
    for _ in 0..20 {
        assert_eq!(client.produce("t", 0, value_batch(&[b'v'; 1000])).unwrap().code, 0);
    }
    server.ask_to_stop();
    assert!(server.ended().success());
    let files = std::fs::read_dir(data.join("groups")).unwrap().flat_map(|group| {
        let group = group.unwrap().path();
        std::fs::read_dir(group).unwrap().map(|file| file.unwrap().path())
    });
    let logs = files.filter(|path| path.extension().is_some_and(|e| e == "log"));
    (topic, logs.max_by_key(|path| path.metadata().unwrap().len()).unwrap())
}

/// The code that ListOffsets answers for `t-0`.
fn list_offsets(server: &Server) -> i16 {
    let partition = ListOffsetsPartition { timestamp: -1, current_leader_epoch: -1, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: "t".into(), partitions: vec![partition] }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    let ResponseBody::ListOffsets(answer) = server.client().ask(ApiKey::ListOffsets, 7, request) else {
        panic!()
    };
    answer.topics[0].partitions[0].error_code
}

#[test]
#[ignore = "needs a broker"]
fn a_damaged_range_is_logged_once_and_ends_consume_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (topic, log) = filled(&data);
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let server = Server::start(&data, &[]);
    let mut client = server.client();
    let corrupt = ErrorCode::CorruptMessage.code();
    let damaged = (0..20).find(|offset| client.fetch(topic, 0, *offset).0 == corrupt).unwrap();
    for _ in 0..500 {
        assert_eq!(client.fetch(topic, 0, damaged).0, corrupt);
    }
    let begun = Instant::now();
    let output = plimsoll(&server, &["consume", "t", "-e", "--timeout", "30"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(20), "it is final: {:?}", begun.elapsed());
    for part in ["fetch from t-0 at offset ", "CORRUPT_MESSAGE", "plimsoll log verify"] {
        assert!(said(&output).contains(part), "{part}: {}", said(&output));
    }
    assert!(server.metric("plimsoll_file_reads_total{result=\"damaged\"}") > 500);
    assert_eq!(server.log().matches("damaged data was asked for").count(), 1, "{}", server.log());
    assert_eq!(server.metric("plimsoll_offline_partitions"), 0);
}

#[test]
#[ignore = "needs a broker"]
fn a_partition_that_is_offline_by_damage_shows_as_such_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (_, log) = filled(&data);
    let file = std::fs::File::options().write(true).open(&log).unwrap();
    file.set_len(log.metadata().unwrap().len() / 2).unwrap();
    let server = Server::start(&data, &[]);
    assert_eq!(
        server.client().produce("t", 0, value_batch(b"v")).unwrap().code,
        ErrorCode::KafkaStorageError.code()
    );
    wait_for("the gauge", || (server.metric("plimsoll_offline_partitions") == 1).then_some(()));
    assert_eq!(list_offsets(&server), ErrorCode::KafkaStorageError.code());
    let shown = plimsoll(&server, &["topic", "describe", "t"], "");
    assert!(String::from_utf8_lossy(&shown.stdout).contains("0  offline "), "{shown:?}");
    let status = plimsoll(&server, &["cluster", "status"], "");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    let row = status.lines().find(|line| line.contains("failed: groups/"));
    assert!(row.is_some_and(|row| row.contains(".log at byte ")), "the reason names the file: {status}");
    for command in [&["consume", "t", "-e"][..], &["topic", "trim", "t", "--before", "1"]] {
        let begun = Instant::now();
        let output = plimsoll(&server, &[command, &["--timeout", "2"]].concat(), "");
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{command:?}: {:?}", begun.elapsed());
        let said = said(&output);
        assert!(said.contains("t-0") && said.contains("offline"), "{command:?}: {said}");
        assert!(!said.contains("temporary"), "{command:?}: {said}");
    }
}
