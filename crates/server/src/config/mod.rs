//! Configuration: Kafka's `server.properties` or TOML with the same keys, below environment and flags.
//!
//! Every key is one of `cluster::config_defs::broker_defs`; what each does is in docs/configuration.md.
mod args;
mod error;
mod keys;
mod listeners;
mod nearest;
mod properties;
mod quorum;
mod toml_file;

pub(crate) use args::ConfigArgs;
pub(crate) use error::{ConfigErrors, Notice};
pub(crate) use listeners::{Address, Advertised, Listener};
pub(crate) use quorum::{Quorum, Voter};

use keys::{Origin, Settings};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Prefix of environment variables: `PLIMSOLL_NODE_ID` is `node.id`.
pub(crate) const ENV_PREFIX: &str = "PLIMSOLL_";
/// Variables with the prefix that stand for flags of the program, of `serve` or of other commands, not for keys.
pub(crate) const NOT_KEYS: [&str; 4] = ["BOOTSTRAP_SERVER", "CONFIG", "LOG", "STRICT"];

/// All that the broker needs to know before it starts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServerConfig {
    /// `node.id`.
    pub(crate) node_id: i32,
    /// `cluster.id`: identity of a new cluster; `None`: drawn at random.
    pub(crate) cluster_id: Option<String>,
    /// What clients connect to. Controller listeners of a node that is its own only voter are left out.
    pub(crate) listeners: Vec<Listener>,
    /// What clients are told: one for each listener, or for those that advertised.listeners names.
    pub(crate) advertised: Vec<Advertised>,
    /// Metrics and health; `None`: not served.
    pub(crate) http_listener: Option<Address>,
    /// `log.dirs`, as it was written.
    pub(crate) data_dir: PathBuf,
    /// Where other nodes connect: the controller listeners.
    pub(crate) controllers: Vec<Address>,
    /// Where other nodes are told to connect.
    pub(crate) peer: Option<Advertised>,
    /// The controllers, and the secret that the nodes share.
    pub(crate) quorum: Quorum,
    /// Everything that was set, by Kafka's names: the static layer of the broker's configs.
    pub(crate) static_broker_configs: BTreeMap<String, String>,
}

/// A configuration and what its author should know about it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Loaded {
    /// The configuration.
    pub(crate) config: ServerConfig,
    /// Keys without effect, unknown keys.
    pub(crate) notices: Vec<Notice>,
}

/// What is outside the file and the flags.
pub(crate) struct Surroundings {
    /// Environment variables.
    pub(crate) variables: Vec<(String, String)>,
    /// This machine's name, for listeners without a host.
    pub(crate) hostname: String,
}

impl Surroundings {
    /// Those of this process.
    pub(crate) fn of_process() -> Surroundings {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let hostname = hostname.trim().to_owned();
        Surroundings {
            variables: std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
            hostname: if hostname.is_empty() { "localhost".to_owned() } else { hostname },
        }
    }
}

/// Reads the file that the flags name, lays environment and flags over it, and checks the whole. All
/// problems are reported together.
pub(crate) fn load(args: &ConfigArgs, around: &Surroundings) -> Result<Loaded, ConfigErrors> {
    let mut settings = Settings::default();
    let mut is_toml = false;
    if let Some(path) = args.file.as_ref().or(args.config.as_ref()) {
        is_toml = path.extension().is_some_and(|e| e == "toml");
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigErrors::one(format!("{}: {e}", path.display())))?;
        read_text(&mut settings, path, &text, is_toml)?;
    }
    for (name, value) in &around.variables {
        if let Some(key) = name.strip_prefix(ENV_PREFIX).filter(|k| !NOT_KEYS.contains(k)) {
            settings.set(key.to_ascii_lowercase().replace('_', "."), value.clone(), Origin::Variable);
        }
    }
    for (key, value) in args.overrides()? {
        settings.set(key, value, Origin::Flag);
    }
    let notices = settings.judge(is_toml, args.strict)?;
    let places = settings.places();
    let config = resolve(settings.into_values(), &around.hostname).map_err(|e| e.placed(&places))?;
    Ok(Loaded { config, notices })
}

fn read_text(settings: &mut Settings, path: &Path, text: &str, is_toml: bool) -> Result<(), ConfigErrors> {
    settings.file = path.display().to_string();
    let parsed = if is_toml { toml_file::flatten(text) } else { properties::parse(text) };
    for pair in parsed.map_err(|e| ConfigErrors::one(format!("{}: {e}", settings.file)))? {
        settings.set(pair.key, pair.value, Origin::File { line: pair.line });
    }
    Ok(())
}

fn resolve(mut values: BTreeMap<String, String>, hostname: &str) -> Result<ServerConfig, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let node_id = errors.take(node_id(&mut values));
    let node_id = node_id.unwrap_or_default();
    let text = |key: &str| {
        let default = cluster::config_defs::broker_def(key).and_then(|d| d.default).unwrap_or_default();
        values.get(key).map_or(default, String::as_str).trim().to_owned()
    };
    let some = |key: &str| Some(text(key)).filter(|t| !t.is_empty());
    errors.take(listeners::check_roles(&text));
    let endpoints = errors.take(listeners::resolve(&text, hostname));
    let quorum = endpoints.as_ref().and_then(|ends| errors.take(quorum::resolve(&text, node_id, ends)));
    let http_listener = some("http.listener").and_then(|t| {
        let address = Address::parse(&t)
            .ok_or_else(|| format!("http.listener: {t:?} is not host:port, as 127.0.0.1:9644 is"));
        errors.take(address)
    });
    let data_dir = errors.take(data_dir(&values, &text)).unwrap_or_default();
    let cluster_id = some("cluster.id");
    errors.take(cluster::check_consumer_groups(&values));
    errors.check()?;
    let mut endpoints = endpoints.unwrap_or_default();
    let quorum = quorum.unwrap_or_default();
    if quorum.narrowed {
        endpoints.narrow();
    }
    Ok(ServerConfig {
        node_id,
        cluster_id,
        listeners: endpoints.listeners,
        advertised: endpoints.advertised,
        http_listener,
        data_dir,
        controllers: endpoints.controllers,
        peer: endpoints.peer,
        quorum,
        static_broker_configs: values,
    })
}

/// `log.dirs`, or `log.dir` where that is not set.
fn data_dir(values: &BTreeMap<String, String>, text: &dyn Fn(&str) -> String) -> Result<PathBuf, String> {
    let key = if values.contains_key("log.dirs") { "log.dirs" } else { "log.dir" };
    let list = text(key);
    let named: Vec<&str> = list.split(',').map(str::trim).filter(|dir| !dir.is_empty()).collect();
    match named.as_slice() {
        [one] => Ok(PathBuf::from(one)),
        [] => Err(format!("{key}: a directory is needed")),
        several => Err(format!("{key}: names {} directories, one is supported", several.len())),
    }
}

/// `node.id`, or Kafka's older `broker.id`; what is set for one holds for both.
fn node_id(values: &mut BTreeMap<String, String>) -> Result<i32, String> {
    let (node, broker) = (values.get("node.id").cloned(), values.get("broker.id").cloned());
    let broker = broker.filter(|b| b.trim() != "-1");
    if let (Some(node), Some(broker)) = (&node, &broker)
        && node.trim() != broker.trim()
    {
        return Err(format!(
            "node.id is {node} and broker.id is {broker}: they must be the same, or leave one out"
        ));
    }
    let Some(id) = node.or(broker) else { return Ok(1) };
    for key in ["node.id", "broker.id"] {
        values.insert(key.to_owned(), id.trim().to_owned());
    }
    id.trim()
        .parse()
        .ok()
        .filter(|n| *n >= 0)
        .ok_or_else(|| format!("node.id: {id} is not a number from 0 up"))
}
