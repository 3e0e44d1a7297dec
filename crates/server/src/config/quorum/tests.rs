use super::*;
use crate::config::listeners;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

const CONTROLLER: &str = "listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093";
const NAMES: &str = "controller.listener.names=CONTROLLER";

fn value(pairs: &[&str], key: &str) -> String {
    let set = pairs.iter().rev().filter_map(|pair| pair.split_once('='));
    let default = cluster::config_defs::broker_def(key).unwrap().default.unwrap_or_default();
    set.clone().find(|(name, _)| *name == key).map_or(default, |(_, value)| value).to_owned()
}

/// What is said of node 1, whether it may run or not.
fn behind(pairs: &[&str]) -> Result<Quorum, String> {
    let pairs: Vec<&str> = [CONTROLLER, NAMES].iter().chain(pairs).copied().collect();
    let text = |key: &str| value(&pairs, key);
    judge(parse(&text)?, &text, 1, &listeners::resolve(&text, "here").unwrap())
}

fn refused(pairs: &[&str], part: &str) {
    let said = behind(pairs).unwrap_err();
    assert!(said.contains(part), "{pairs:?}: {said}");
}

fn at(host: &str, port: u16) -> Address {
    Address { host: host.to_owned(), port }
}

fn secret_file(bytes: &[u8], mode: u32) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    let pair = format!("{SECRET}={}", path.display());
    (dir, pair)
}

#[test]
fn voters_come_in_order_of_their_ids() {
    let quorum = behind(&[
        "controller.quorum.voters= 3@localhost:9095 ,1@127.0.0.1:9093,2@[::1]:9094",
        "controller.quorum.bootstrap.servers=localhost:9093,127.0.0.2:9094",
    ]);
    let quorum = quorum.unwrap();
    let voters: Vec<_> = quorum.voters.iter().map(|voter| (voter.id, voter.address.clone())).collect();
    assert_eq!(voters, [(1, at("127.0.0.1", 9093)), (2, at("::1", 9094)), (3, at("localhost", 9095))]);
    assert_eq!(quorum.bootstrap, [at("localhost", 9093), at("127.0.0.2", 9094)]);
    assert_eq!(quorum.secret, None);
    assert_eq!(quorum.voters[1].to_string(), "2@[::1]:9094");
}

#[test]
fn ipv6_is_taken_with_and_without_brackets() {
    for (text, host) in [
        ("2@[2001:db8::7]:9093", "2001:db8::7"),
        ("2@2001:db8::7:9093", "2001:db8::7"),
        ("2@::1:9093", "::1"),
        ("2@[fe80::1%eth0]:9093", "fe80::1%eth0"),
        ("2@fe80::1%eth0:9093", "fe80::1%eth0"),
    ] {
        assert_eq!(voter(text), Ok(Voter { id: 2, address: at(host, 9093) }), "{text}");
    }
}

#[test]
fn what_is_no_voter_is_refused() {
    for bad in [
        "1",
        "1@",
        "@a:1",
        "a:1",
        "x@a:1",
        "-1@a:1",
        "1@a",
        "1@a:b",
        "1@a:65536",
        "1@a:1:2",
        "1@::1",
        "1@a@b:1",
        "1@[::1:9093",
        "1@a b:1",
        "99999999999@a:1",
    ] {
        let said = voter(bad).unwrap_err();
        assert!(
            said.starts_with(&format!("controller.quorum.voters: {bad:?} is not id@host:port")),
            "{said}"
        );
    }
    refused(&["controller.quorum.bootstrap.servers=a"], "bootstrap.servers: \"a\" is not host:port");
    refused(&["controller.quorum.bootstrap.servers=1@a:1:2"], "is not host:port");
}

#[test]
fn a_directory_id_is_named_as_what_it_is() {
    for at in ["localhost:9093", "[::1]:9093", "::1:9093"] {
        let said = voter(&format!("1@{at}:JEXY6aqzQY-32P5TStzaFg")).unwrap_err();
        assert!(said.contains("JEXY6aqzQY-32P5TStzaFg is a directory id, which"), "{said}");
    }
    let said = voter("1@a:JEXY6aqzQY-32P5TStzaFg").unwrap_err();
    assert!(!said.contains("directory id"), "there is no port: {said}");
}

#[test]
fn voters_that_contradict_each_other_are_refused() {
    let voters = |list: &str| format!("controller.quorum.voters={list}");
    refused(&[&voters("1@localhost:9093,2@a:1,1@b:1")], "1@localhost:9093 and 1@b:1 have the same id");
    refused(&[&voters("1@localhost:9093,1@b:1")], "have the same id");
    refused(&[&voters("1@localhost:9093,2@a:1,3@a:1")], "a:1 is the address of two voters");
    refused(&[&voters("1@localhost:9093,2@:1")], "cannot connect to 2@:1");
    refused(&[&voters("1@localhost:9093,2@0.0.0.0:1")], "cannot connect to 2@0.0.0.0:1");
    refused(&[&voters("1@localhost:9093,2@a:0")], "cannot connect to 2@a:0");
    refused(&["controller.quorum.bootstrap.servers=a:1,b:0"], "nobody can connect to b:0");
    let many = |count: u16| {
        let list: Vec<String> = (1..=count).map(|id| format!("{id}@localhost:{}", 9092 + id)).collect();
        voters(&list.join(","))
    };
    assert_eq!(behind(&[&many(9)]).unwrap().voters.len(), 9);
    refused(&[&many(10)], "names 10 voters, 9 at most");
}

#[test]
fn role_voters_and_listeners_of_this_node_must_agree() {
    let (two, both) = (
        "controller.quorum.voters=2@localhost:9094,3@localhost:9095",
        "controller.quorum.voters=1@localhost:9093,2@localhost:9094",
    );
    refused(&[two], "lacks node.id 1, though process.roles has controller; add 1@host:port");
    assert!(behind(&[two, "process.roles=broker"]).is_ok());
    refused(&[both, "process.roles=broker"], "process.roles: lacks controller, though");
    refused(
        &["controller.quorum.voters=1@localhost:9999,2@localhost:9094"],
        "1@localhost:9999 is this node, whose controller listener has port 9093",
    );
    refused(
        &[both, "listeners=PLAINTEXT://127.0.0.1:9092"],
        "controller.listener.names: names none of the listeners",
    );
    assert!(behind(&[both]).is_ok());
}

#[test]
fn the_listener_among_brokers_must_be_told_to_them() {
    let pairs = [
        "controller.quorum.voters=1@localhost:9093,2@localhost:9094",
        "listeners=IN://127.0.0.1:9091,OUT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093",
        "listener.security.protocol.map=IN:PLAINTEXT,OUT:PLAINTEXT",
        "inter.broker.listener.name=IN",
    ];
    assert!(behind(&pairs).is_ok());
    let hidden = [&pairs[..], &["advertised.listeners=OUT://127.0.0.1:9092"]].concat();
    refused(&hidden, "inter.broker.listener.name: IN is not among advertised.listeners");
}

#[test]
fn without_a_secret_all_addresses_must_be_loopback() {
    let own_address = "listeners=PLAINTEXT://:9092,CONTROLLER://10.0.0.1:9093";
    let shared = "listeners=PLAINTEXT://:9092";
    let (own, near) = ("1@localhost:9093", "controller.quorum.voters=1@localhost:9093,2@127.0.0.9:9094");
    for (pairs, whom) in [
        (vec![format!("controller.quorum.voters={own},2@b.example:9093")], "b.example:9093"),
        (vec![format!("controller.quorum.voters={own},2@10.0.0.2:9093")], "10.0.0.2:9093"),
        (vec![format!("controller.quorum.voters={own},2@[2001:db8::7]:9093")], "[2001:db8::7]:9093"),
        (vec![near.into(), "controller.quorum.bootstrap.servers=c:1".into()], "c:1"),
        (vec!["controller.quorum.bootstrap.servers=b:1,c:1".into()], "b:1"),
        (vec![near.into(), own_address.into()], "the listener 10.0.0.1:9093, where nodes connect,"),
        (
            vec![near.replace("1@localhost:9093,", ""), shared.into(), "process.roles=broker".into()],
            "the listener :9092, where nodes connect,",
        ),
    ] {
        let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
        refused(&pairs, &format!("cluster.secret.file: must be set, for {whom} is"));
        let (_dir, file) = secret_file(b"0123456789abcdef", 0o600);
        let pairs: Vec<&str> = pairs.iter().copied().chain([file.as_str()]).collect();
        assert_eq!(behind(&pairs).unwrap().secret, Some(Secret(b"0123456789abcdef".to_vec())), "{pairs:?}");
    }
    for near in ["localhost", "LocalHost", "b.localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]
    {
        assert!(is_loopback(near), "{near}");
    }
    for far in ["", "0.0.0.0", "::", "notlocalhost", "localhost.example", "128.0.0.1", "fe80::1%lo"] {
        assert!(!is_loopback(far), "{far}");
    }
}

#[test]
fn the_secret_is_the_files_bytes_without_white_space_around_them() {
    let far = "controller.quorum.voters=1@localhost:9093,2@b:9093";
    for bytes in [&b" \tsixteen bytes .. \r\n\n"[..], b"sixteen bytes .."] {
        let (_dir, file) = secret_file(bytes, 0o640);
        assert_eq!(behind(&[far, &file]).unwrap().secret, Some(Secret(b"sixteen bytes ..".to_vec())));
    }
    let (_dir, file) = secret_file(&[0xff; MOST_SECRET], 0o400);
    let quorum = behind(&[far, &file]).unwrap();
    assert_eq!(quorum.secret, Some(Secret(vec![0xff; MOST_SECRET])));
    assert!(format!("{quorum:?}").contains("secret: Some(Secret)"), "it is not shown");
}

#[test]
fn a_secret_that_protects_nothing_is_refused_with_its_file_and_what_to_do() {
    let far = "controller.quorum.voters=1@localhost:9093,2@b:9093";
    let good = b"0123456789abcdef";
    for (bytes, mode, part) in [
        (&good[..15], 0o600, "holds a secret of 15 bytes, 16 at least; make one by: "),
        (b"   \n", 0o600, "holds a secret of 0 bytes"),
        (&[b'x'; MOST_SECRET + 1], 0o600, "has more than 4096 bytes"),
        (good, 0o644, "can read or write it (mode 644); make a new secret, and chmod 600"),
        (good, 0o602, "can read or write it (mode 602)"),
    ] {
        let (dir, file) = secret_file(bytes, mode);
        let begin = format!("cluster.secret.file: {}: ", dir.path().join("secret").display());
        let said = behind(&[far, &file]).unwrap_err();
        assert!(said.starts_with(&begin) && said.contains(part), "{said}");
    }
    let (dir, file) = secret_file(good, 0o600);
    refused(&[far, &format!("{file}.not")], "secret.not: No such file or directory");
    refused(&[far, &format!("{SECRET}={}", dir.path().display())], "is no regular file");
    refused(&[far, &format!("{SECRET}=/dev/zero")], "is no regular file");
}

#[test]
fn a_node_alone_needs_neither_secret_nor_controller_listener() {
    for pairs in [
        &[][..],
        &["controller.quorum.voters=1@far.example:1"],
        &["controller.quorum.bootstrap.servers=far.example:9093"],
        &["controller.quorum.voters=1@far:7", "listeners=PLAINTEXT://:9092", "cluster.secret.file=/nowhere"],
    ] {
        assert_eq!(behind(pairs).unwrap().secret, None, "{pairs:?}");
    }
}

#[test]
fn a_node_alone_lets_others_join_where_that_is_safe() {
    let near = behind(&[]).unwrap();
    assert!(near.alone && near.closed.is_none(), "loopback needs no secret");
    let all = behind(&["listeners=PLAINTEXT://:9092,CONTROLLER://:9093"]).unwrap();
    assert!(all.narrowed && all.closed.is_none(), "{all:?}");
    let far = "listeners=PLAINTEXT://:9092,CONTROLLER://10.0.0.1:9093";
    let said = behind(&[far]).unwrap().closed.unwrap();
    assert!(said.contains("cluster.secret.file is not set, so it is not opened"), "{said}");
    let (_dir, file) = secret_file(b"0123456789abcdef", 0o600);
    let open = behind(&[far, &file]).unwrap();
    assert!(open.closed.is_none() && open.secret.is_some());
    refused(&["process.roles=broker"], "a broker without controllers has no metadata");
}

#[test]
fn a_controller_listener_on_all_interfaces_is_narrowed_where_all_nodes_are_on_this_machine() {
    let all = "listeners=PLAINTEXT://:9092,CONTROLLER://:9093";
    let near = "controller.quorum.voters=1@localhost:9093,2@127.0.0.9:9094";
    assert!(behind(&[all, near]).unwrap().narrowed);
    assert!(!behind(&[near]).unwrap().narrowed);
    let (_dir, file) = secret_file(b"0123456789abcdef", 0o600);
    assert!(!behind(&[all, near, &file]).unwrap().narrowed, "with a secret it is as it was asked for");
}

#[test]
fn a_node_that_finds_others_by_their_addresses_is_not_alone() {
    for pairs in [
        &["controller.quorum.bootstrap.servers=localhost:1,localhost:9093"][..],
        &["controller.quorum.bootstrap.servers=localhost:1"],
        &["controller.quorum.bootstrap.servers=localhost:1", "controller.quorum.voters=1@localhost:9093"],
        &["controller.quorum.bootstrap.servers=localhost:1", "process.roles=broker"],
        &["controller.quorum.voters=2@localhost:9094", "process.roles=broker"],
    ] {
        assert!(!behind(pairs).unwrap().alone, "{pairs:?}");
    }
    assert!(behind(&["controller.quorum.voters=1@localhost:9093"]).unwrap().alone);
}
