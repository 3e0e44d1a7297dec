//! Disks that fill up and disks that fail.
use crate::costs::{judge, produce};
use crate::mounts::SmallDisk;
use crate::server::{Server, wait_for};
use crate::wire_client::{Client, value_batch};
use model::TopicId;
use std::time::Duration;

/// KAFKA_STORAGE_ERROR, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS, NOT_LEADER_OR_FOLLOWER: a client sends again.
const RETRIABLE: [i16; 4] = [56, 7, 19, 6];

fn value(number: usize) -> Vec<u8> {
    let mut value = vec![number as u8; 50_000];
    value[..8].copy_from_slice(&(number as u64).to_be_bytes());
    value
}

/// Values that were acknowledged, in order.
#[derive(Default)]
struct Acked(usize);

impl Acked {
    /// Sends the next value; its error code.
    fn send(&mut self, client: &mut Client, topic: &str) -> i16 {
        let produced = client.produce(topic, 0, value_batch(&value(self.0))).unwrap();
        if produced.code == 0 {
            self.0 += 1;
        }
        produced.code
    }

    /// All of them are there, in order; what was not acknowledged may stand between them, again.
    fn all_in(&self, values: &[Vec<u8>]) {
        let mut found = values.iter();
        for number in 0..self.0 {
            let wanted = value(number);
            assert!(found.any(|value| *value == wanted), "{number} of {} is lost", self.0);
        }
    }
}

fn committed(client: &mut Client, offset: i64) {
    assert_eq!(client.commit("group", "kept", 0, offset), 0);
    assert_eq!(client.committed("group", "kept", 0), offset);
}

#[test]
#[ignore = "needs a broker"]
fn a_full_disk_refuses_appends_only_and_heals_by_itself() {
    let disk = SmallDisk::new(192);
    let mut server = disk.serve();
    let mut client = server.client();
    let kept = client.create("kept", 1, &[]);
    client.create("doomed", 1, &[]);
    let (mut acked, mut doomed) = (Acked::default(), Acked::default());
    for _ in 0..20 {
        assert_eq!(acked.send(&mut client, "kept"), 0);
        assert_eq!(doomed.send(&mut client, "doomed"), 0);
    }
    committed(&mut client, 1);
    disk.fill();
    let refused = wait_for("a refusal", || Some(acked.send(&mut client, "kept")).filter(|code| *code != 0));
    assert!(RETRIABLE.contains(&refused), "{refused}");
    // Everybody else goes on, on this connection and on others.
    assert_eq!(client.metadata().0, 1);
    assert_eq!(server.client().metadata().0, 1);
    acked.all_in(&client.read_all(kept, 0));
    committed(&mut client, 2);
    assert_eq!(client.delete_records("kept", 0, 1), 0);
    assert_eq!(client.delete_records("kept", 0, 2), 0);
    assert_eq!(client.delete_topic("doomed"), 0);
    assert!(RETRIABLE.contains(&acked.send(&mut client, "kept")), "the disk is still full");
    committed(&mut client, 3);
    disk.free();
    wait_for("room again", || (acked.send(&mut client, "kept") == 0).then_some(()));
    for _ in 0..20 {
        assert_eq!(acked.send(&mut client, "kept"), 0);
    }
    committed(&mut client, 4);
    let check = |client: &mut Client, topic: TopicId| {
        let values = client.read_from(topic, 0, 2);
        let rest: Vec<Vec<u8>> = (0..2).map(value).chain(values).collect();
        acked.all_in(&rest);
        assert_eq!(client.committed("group", "kept", 0), 4);
    };
    check(&mut client, kept);
    server.kill();
    let server = disk.serve();
    check(&mut server.client(), kept);
    assert!(server.log().contains("disk full") && server.log().contains("disk has room again"));
}

#[test]
#[ignore = "needs a broker"]
fn a_full_disk_keeps_no_broker_from_stopping_nor_from_starting() {
    let disk = SmallDisk::new(192);
    let mut server = disk.serve();
    let mut client = server.client();
    let kept = client.create("kept", 1, &[]);
    let mut acked = Acked::default();
    assert_eq!(acked.send(&mut client, "kept"), 0);
    disk.fill();
    wait_for("a refusal", || (acked.send(&mut client, "kept") != 0).then_some(()));
    server.ask_to_stop();
    let status = server.ended();
    assert!(status.success(), "{status}");
    // It serves what needs no room, so that its clients can make some.
    let server = disk.serve();
    let mut client = server.client();
    acked.all_in(&client.read_all(kept, 0));
    disk.free();
    wait_for("room again", || (acked.send(&mut client, "kept") == 0).then_some(()));
    acked.all_in(&client.read_all(kept, 0));
}

#[test]
#[ignore = "needs a broker"]
fn a_start_that_finds_no_room_at_all_says_so_and_goes_on_when_there_is() {
    let disk = SmallDisk::new(64);
    let mut server = disk.serve();
    let mut client = server.client();
    let kept = client.create("kept", 1, &[]);
    let mut acked = Acked::default();
    assert_eq!(acked.send(&mut client, "kept"), 0);
    server.kill();
    disk.lose_ballast();
    disk.fill();
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| disk.serve());
        wait_for("word of it", || disk.log().contains("disk full").then_some(()));
        disk.free();
        let server = starting.join().unwrap();
        let mut client = server.client();
        acked.all_in(&client.read_all(kept, 0));
    });
}

/// After a failure: nothing more is acknowledged, the process says why and ends, and what it acknowledged is
/// there when the disk is back.
fn fenced(disk: &SmallDisk, mut server: Server, acked: &Acked, topic: TopicId) {
    let status = server.ended();
    assert_eq!(status.code(), Some(1), "{status}");
    let log = server.log();
    assert!(log.contains("data directory fenced"), "{log}");
    assert!(log.lines().last().unwrap().contains("error: the data directory failed: cannot "), "{log}");
    disk.mend();
    let server = disk.serve();
    let mut client = server.client();
    acked.all_in(&client.read_all(topic, 0));
    assert_eq!(client.produce("kept", 0, value_batch(b"after")).unwrap().code, 0);
}

#[test]
#[ignore = "needs a broker"]
fn a_disk_that_goes_away_fences_the_directory() {
    let disk = SmallDisk::new(64);
    let server = disk.serve();
    let mut client = server.client();
    let kept = client.create("kept", 1, &[]);
    let mut acked = Acked::default();
    for _ in 0..10 {
        assert_eq!(acked.send(&mut client, "kept"), 0);
    }
    disk.fail();
    client.socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let answer = client.produce("kept", 0, value_batch(b"lost"));
    // The connection may end first; what is answered is an error.
    assert!(answer.as_ref().map_or(true, |produced| produced.code != 0), "{answer:?}");
    fenced(&disk, server, &acked, kept);
}

#[test]
#[ignore = "needs a broker"]
fn a_sync_that_fails_fences_the_directory() {
    let disk = SmallDisk::thin(512, 48);
    let server = disk.serve();
    let mut client = server.client();
    client.create("kept", 1, &[]);
    let mut acked = Acked::default();
    // The file system has room, the device behind it has not: writes succeed until they are synced.
    while let Ok(produced) = client.produce("kept", 0, value_batch(&value(acked.0))) {
        if produced.code != 0 {
            break;
        }
        acked.0 += 1;
        assert!(acked.0 < 2_000, "100 MB on 48 MiB");
    }
    assert!(acked.0 > 10);
    let mut server = server;
    let status = server.ended();
    assert_eq!(status.code(), Some(1), "{status}");
    let log = server.log();
    assert!(log.contains("data directory fenced"), "{log}");
    assert!(log.lines().last().unwrap().contains("cannot sync "), "{log}");
}

#[test]
#[ignore = "needs a broker"]
fn a_produced_byte_is_written_once() {
    let disk = SmallDisk::new(512);
    let server = disk.serve();
    let mut client = server.client();
    client.create("t", 1, &[]);
    produce(&mut client, 50, 1_000);
    let before = disk.device_bytes();
    produce(&mut client, 320, 128 << 10);
    let large = disk.device_bytes() - before;
    let before = disk.device_bytes();
    produce(&mut client, 500, 100);
    let small = disk.device_bytes() - before;
    judge("device-bytes-per-large-byte", large / f64::from(320 * (128 << 10)));
    judge("device-bytes-per-small-produce", small / 500.0);
    assert!(large >= f64::from(320 * (128 << 10)), "{large}: more was appended");
}
