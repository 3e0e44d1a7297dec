//! What a configuration comes to: Kafka's own files, TOML, flags, mistakes.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]
#[path = "../src/config/mod.rs"]
mod config;

use config::{Address, ConfigArgs, ConfigErrors, Loaded, Notice, Surroundings, Voter, load};
use std::path::PathBuf;

/// The settings of Apache Kafka's own config/server.properties (KRaft, both roles).
const STOCK: &str = "\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=2
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";

struct Case {
    dir: tempfile::TempDir,
    args: ConfigArgs,
    around: Surroundings,
}

impl Case {
    fn new() -> Case {
        let around = Surroundings { variables: vec![], hostname: "here".into() };
        Case { dir: tempfile::tempdir().unwrap(), args: ConfigArgs::default(), around }
    }

    fn file(mut self, name: &str, text: &str) -> Case {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        self.args.config = Some(path);
        self
    }

    fn set(mut self, pairs: &[&str]) -> Case {
        self.args.set = pairs.iter().map(|p| p.to_string()).collect();
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Case {
        self.around.variables.push((name.into(), value.into()));
        self
    }

    fn strict(mut self) -> Case {
        self.args.strict = true;
        self
    }

    fn load(&self) -> Result<Loaded, ConfigErrors> {
        load(&self.args, &self.around)
    }

    /// Without the directory of the file, which differs each time.
    fn refusal(&self) -> String {
        self.bare(&self.load().unwrap_err())
    }

    fn bare(&self, text: &dyn ToString) -> String {
        text.to_string().replace(&format!("{}/", self.dir.path().display()), "")
    }
}

fn at(host: &str, port: u16) -> Address {
    Address { host: host.into(), port }
}

#[test]
fn without_a_file_a_node_serves_loopback() {
    let Loaded { config, notices } = Case::new().load().unwrap();
    assert_eq!((config.node_id, notices.len()), (1, 0));
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address, at("127.0.0.1", 9092));
    assert_eq!(config.advertised[0].address, at("127.0.0.1", 9092));
    assert_eq!(config.http_listener, Some(at("127.0.0.1", 9644)));
    assert_eq!(config.data_dir, PathBuf::from("./plimsoll-data"));
    assert!(config.static_broker_configs.is_empty());
}

#[test]
fn kafkas_stock_file_starts_one_node_without_a_controller_listener() {
    let Loaded { config, notices } = Case::new().file("server.properties", STOCK).load().unwrap();
    assert_eq!(config.node_id, 1);
    let listeners: Vec<_> = config.listeners.iter().map(|l| (l.name.as_str(), l.address.clone())).collect();
    assert_eq!(listeners, vec![("PLAINTEXT", at("", 9092))]);
    let told: Vec<_> = config.advertised.iter().map(|l| (l.name.as_str(), l.address.clone())).collect();
    assert_eq!(told, vec![("PLAINTEXT", at("localhost", 9092))]);
    assert_eq!(config.data_dir, PathBuf::from("/tmp/kraft-combined-logs"));
    assert_eq!(config.static_broker_configs["log.retention.hours"], "168");
    let [Notice::NoEffect(idle)] = notices.as_slice() else { panic!("{notices:?}") };
    assert!(idle.contains(&"num.network.threads".to_owned()) && !idle.contains(&"num.partitions".to_owned()));
}

#[test]
fn every_key_of_the_stock_file_is_known() {
    for line in STOCK.lines() {
        let key = line.split_once('=').unwrap().0;
        assert!(cluster::config_defs::broker_def(key).is_some(), "{key}");
    }
}

#[test]
fn properties_are_read_as_java_does() {
    let text = "# note\n! note\n\n  num.partitions : 3\nlog.cleanup.policy = delete,\\\n    compact\nbroker.rack=a\\u00e9\\tb\\=c\r\n\
                offsets.topic.num.partitions 7\ncluster.id=x\\\\\nauto.create.topics.enable=true\n\
                auto.create.topics.enable=false\n";
    let config = Case::new().file("a.properties", text).load().unwrap().config;
    let set = &config.static_broker_configs;
    assert_eq!(set["num.partitions"], "3");
    assert_eq!(set["log.cleanup.policy"], "delete,compact");
    assert_eq!(set["broker.rack"], "a\u{e9}\tb=c");
    assert_eq!((set["offsets.topic.num.partitions"].as_str(), set["cluster.id"].as_str()), ("7", "x\\"));
    assert_eq!(set["auto.create.topics.enable"], "false");
    assert!(Case::new().file("a.properties", "a=\\u12").refusal().contains("line 1"));
}

#[test]
fn toml_has_the_same_keys_dotted_or_nested() {
    let text = "num.partitions = 3\n\"max.connections\" = 5\n\"max.connections.per.ip\" = 6\n\
                log.cleanup.policy = [\"delete\", \"compact\"]\n[log.retention]\nms = 7\n[auto.create.topics]\nenable = false\n";
    let config = Case::new().file("a.toml", text).load().unwrap().config;
    let set = &config.static_broker_configs;
    assert_eq!((set["num.partitions"].as_str(), set["log.retention.ms"].as_str()), ("3", "7"));
    assert_eq!((set["max.connections"].as_str(), set["max.connections.per.ip"].as_str()), ("5", "6"));
    assert_eq!(set["log.cleanup.policy"], "delete,compact");
    assert_eq!(set["auto.create.topics.enable"], "false");
}

#[test]
fn unknown_keys_are_errors_in_toml_and_words_in_properties() {
    let error = Case::new().file("a.toml", "num.partition = 3\nlog.dir = 'x'\n").refusal();
    assert_eq!(error, "a.toml:1: unknown key num.partition; did you mean num.partitions?");
    let case = Case::new().file("a.properties", "\nnum.partition=3\nxyzzy=1\n");
    let Loaded { config, notices } = case.load().unwrap();
    assert!(config.static_broker_configs.is_empty());
    let words: Vec<String> = notices.iter().map(|notice| case.bare(notice)).collect();
    assert_eq!(
        words,
        vec![
            "a.properties:2: unknown key num.partition; did you mean num.partitions?",
            "a.properties:3: unknown key xyzzy"
        ]
    );
    assert!(Case::new().set(&["num.partition=3"]).refusal().starts_with("command line: unknown key"));
}

#[test]
fn strict_makes_errors_of_words() {
    let strict = |text: &str| Case::new().file("a.properties", text).strict();
    let error = strict("num.io.threads=3\nnope.nope.nope=1\n").refusal();
    assert_eq!(error, "a.properties:2: unknown key nope.nope.nope\nkeys without effect here: num.io.threads");
    assert!(strict("num.partitions=3\n").load().is_ok());
}

#[test]
fn flags_stand_above_variables_and_these_above_the_file() {
    let case = || Case::new().file("a.properties", "num.partitions=1\nmax.connections=1\nnode.id=1\n");
    let case = case()
        .variable("PLIMSOLL_NUM_PARTITIONS", "2")
        .variable("PLIMSOLL_MAX_CONNECTIONS", "2")
        .variable("PLIMSOLL_LOG", "debug")
        .variable("PLIMSOLL_BOOTSTRAP_SERVER", "127.0.0.1:9092")
        .variable("HOME", "/")
        .set(&["num.partitions=3"]);
    let Loaded { config, notices } = case.load().unwrap();
    assert_eq!(notices, vec![]);
    let set = &config.static_broker_configs;
    assert_eq!((set["num.partitions"].as_str(), set["max.connections"].as_str()), ("3", "2"));
    assert_eq!((set["node.id"].as_str(), set["broker.id"].as_str()), ("1", "1"));
    let mut flags = Case::new();
    flags.args.listen = Some("127.0.0.1:0".into());
    flags.args.http = Some(String::new());
    flags.args.data = Some("/d".into());
    flags.args.node_id = Some(4);
    let config = flags.load().unwrap().config;
    assert_eq!((config.listeners[0].address.clone(), config.http_listener), (at("127.0.0.1", 0), None));
    assert_eq!((config.node_id, config.data_dir), (4, PathBuf::from("/d")));
}

#[test]
fn all_mistakes_are_told_together_with_their_places() {
    let error = Case::new().file("a.properties", "num.partitions=many\nlog.segment.bytes=5\n").refusal();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(
        lines,
        vec![
            "a.properties:2: Invalid value 5 for configuration log.segment.bytes: Value must be at least 1048576",
            "a.properties:1: Invalid value many for configuration num.partitions: Not a number of type INT",
        ]
    );
}

#[test]
fn the_file_that_kafkas_script_would_take_stands_above_the_flag_for_it() {
    let mut case = Case::new().file("flag.properties", "node.id=4\n");
    let named = case.dir.path().join("named.properties");
    std::fs::write(&named, "node.id=5\n").unwrap();
    case.args.file = Some(named);
    assert_eq!(case.load().unwrap().config.node_id, 5);
}

#[test]
fn a_mistake_in_a_file_is_told_with_file_and_line_whoever_finds_it() {
    let listeners = "node.id=1\nlisteners=PLAINTEXT:9092\nlog.dirs=,\n";
    let said = Case::new().file("a.properties", listeners).refusal();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("a.properties:2: listeners: "), "{said}");
    assert!(lines[1].starts_with("a.properties:3: log.dirs: "), "{said}");
    let toml = "# one\n[log.segment]\nbytes = 5\n[max]\n\"connections.per.ip\" = 'x'\n";
    let said = Case::new().file("a.toml", toml).refusal();
    assert!(said.contains("a.toml:3: Invalid value 5"), "{said}");
    assert!(said.contains("a.toml:5: Invalid value x"), "{said}");
    assert!(Case::new().file("a.toml", "a = \n").refusal().starts_with("a.toml: TOML parse error at line 1"));
    assert!(Case::new().set(&["listeners=nowhere"]).refusal().starts_with("command line: listeners: "));
}

#[test]
fn a_data_directory_that_is_set_is_named_once() {
    for (text, part) in [
        ("log.dir=/a\nlog.dirs=\n", "a.properties:2: log.dirs: a directory is needed"),
        ("\nlog.dir= \n", "a.properties:2: log.dir: a directory is needed"),
        ("log.dirs=/a,/b\n", "a.properties:1: log.dirs: names 2 directories, one is supported"),
    ] {
        assert_eq!(Case::new().file("a.properties", text).refusal(), part);
    }
    assert!(Case::new().set(&["log.dirs="]).refusal().starts_with("command line: log.dirs: "));
    let one = Case::new().set(&["log.dir=/a"]).load().unwrap();
    assert_eq!(one.config.data_dir, PathBuf::from("/a"));
}

#[test]
fn listeners_are_checked() {
    for (pairs, part) in [
        (vec!["listeners=PLAINTEXT:9092"], "is not NAME://host:port"),
        (vec!["listeners=SSL://:9092"], "SSL asks for SSL, which is not served yet"),
        (vec!["listeners=INSIDE://:9092"], "add INSIDE:PLAINTEXT to listener.security.protocol.map"),
        (vec!["listeners=PLAINTEXT://a:1,PLAINTEXT://b:2"], "PLAINTEXT is there twice"),
        (
            vec!["listeners=A://:1,B://:1", "listener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT"],
            "B and A have the same port 1",
        ),
        (vec!["advertised.listeners=PLAINTEXT://0.0.0.0:9092"], "clients cannot connect to 0.0.0.0"),
        (vec!["advertised.listeners=OTHER://a:1"], "OTHER is not among the listeners"),
        (vec!["inter.broker.listener.name=OTHER"], "OTHER is not among the listeners"),
        (vec!["http.listener=nowhere"], "is not host:port"),
        (vec!["controller.quorum.voters=1@a:1,2@b:1"], "names none of the listeners, though"),
        (
            vec!["controller.quorum.voters=2@localhost:1,3@localhost:2"],
            "lacks node.id 1, though process.roles has",
        ),
        (vec!["process.roles=broker"], "a broker without controllers has no metadata"),
        (vec!["process.roles=controller"], "lacks broker"),
        (vec!["node.id=1", "broker.id=2"], "they must be the same"),
        (vec!["log.dirs=,"], "a directory is needed"),
    ] {
        let error = Case::new().set(&pairs).refusal();
        assert!(error.contains(part), "{pairs:?}: {error}");
    }
}

#[test]
fn an_address_without_a_port_is_refused_with_an_example() {
    for (address, said) in [
        ("localhost", "--listen localhost has no port; for example --listen localhost:9092"),
        ("INSIDE://a", "--listen INSIDE://a has no port; for example --listen INSIDE://a:9092"),
        ("127.0.0.1:1,::1", "--listen ::1 has no port; for example --listen [::1]:9092"),
        ("[::1]", "--listen [::1] has no port; for example --listen [::1]:9092"),
        ("9092", "--listen 9092 is not HOST:PORT; for example --listen 127.0.0.1:9092"),
        ("a:99999", "--listen a:99999 has a port above 65535; for example --listen 127.0.0.1:9092"),
        ("localhost:kafka", "--listen localhost:kafka is not HOST:PORT; for example --listen 127.0.0.1:9092"),
    ] {
        let mut case = Case::new();
        case.args.listen = Some(address.into());
        assert_eq!(case.refusal(), said);
    }
    let mut case = Case::new();
    case.args.http = Some("localhost".into());
    assert_eq!(case.refusal(), "--http localhost has no port; for example --http localhost:9644");
    case.args.http = None;
    case.args.advertise = Some("far.example".into());
    assert!(case.refusal().ends_with("for example --advertise far.example:9092"));
    let said = Case::new().set(&["listeners=PLAINTEXT://localhost"]).refusal();
    assert!(said.contains("as PLAINTEXT://localhost:9092 is"), "{said}");
}

#[test]
fn clients_are_told_of_a_reachable_name() {
    let told = |pairs: &[&str]| Case::new().set(pairs).load().unwrap().config.advertised;
    assert_eq!(told(&["listeners=PLAINTEXT://:9092"])[0].address, at("here", 9092));
    assert_eq!(told(&["listeners=PLAINTEXT://0.0.0.0:9092"])[0].address, at("here", 9092));
    assert_eq!(told(&["listeners=PLAINTEXT://[::1]:9092"])[0].address, at("::1", 9092));
    let map = "listener.security.protocol.map=IN:PLAINTEXT,OUT:PLAINTEXT";
    let two = told(&["listeners=IN://:1,OUT://:2", map, "advertised.listeners=OUT://far:3"]);
    assert_eq!((two.len(), two[0].address.clone()), (1, at("far", 3)));
}

#[test]
fn the_samples_say_what_holds_anyway() {
    let bare = Case::new().load().unwrap().config;
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../config");
    for name in ["server.properties", "plimsoll.toml"] {
        let Ok(text) = std::fs::read_to_string(root.join(name)) else { panic!("{name} is missing") };
        let live: String = text
            .lines()
            .map(|l| {
                l.strip_prefix('#').filter(|l| !l.starts_with([' ', '-'])).unwrap_or(l).to_owned() + "\n"
            })
            .collect();
        for text in [text, live] {
            let config = Case::new().file(name, &text).strict().load().unwrap().config;
            assert_eq!(
                config::ServerConfig { static_broker_configs: Default::default(), ..config },
                bare,
                "{name}"
            );
        }
    }
}

#[test]
fn the_samples_of_three_nodes_make_one_cluster() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../config/cluster");
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut quorums = Vec::new();
    for id in 1..=3 {
        let text = std::fs::read_to_string(root.join(format!("node-{id}.properties"))).unwrap();
        let text = text.replace("/etc/plimsoll/secret", secret.to_str().unwrap());
        let loaded = Case::new().file("node.properties", &text).strict().load().unwrap();
        assert_eq!((loaded.config.node_id, loaded.config.controllers.len()), (id, 1), "{:?}", loaded.notices);
        quorums.push(loaded.config.quorum);
    }
    let ids: Vec<i32> = quorums[0].voters.iter().map(|voter: &Voter| voter.id).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert!(quorums.iter().all(|quorum| *quorum == quorums[0]));
}
