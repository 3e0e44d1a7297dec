//! `plimsoll serve`: from configuration to a running broker, and its exit.
use crate::config::{self, Address, Advertised, ConfigArgs, ServerConfig, Surroundings, Voter};
use anyhow::Context;
use broker::{
    Addresses, Bound, Broker, Listener, NodeConfig, PeerAddress, PeerSettings, RunError, Secret, Settings,
    Stopped,
};
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use storage::DirectoryConfig;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

const LEVELS: &str = "there are off, error, warn, info, debug and trace, and TARGET=LEVEL pairs with commas between them, \
     for example info,broker=debug";

/// Start a broker.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// What to log: off, error, warn, info, debug, trace, or TARGET=LEVEL pairs such as info,broker=debug
    #[arg(long, value_name = "FILTER", env = "PLIMSOLL_LOG", default_value = "info")]
    log: String,
    /// Log JSON lines
    #[arg(long)]
    log_json: bool,
}

/// Runs a broker until it is told to stop. An error is a refusal to start or a failed data directory.
pub(crate) fn run(args: ServeArgs) -> anyhow::Result<()> {
    start_log(&args)?;
    #[cfg(feature = "planted")]
    plant()?;
    let loaded = config::load(&args.config, &Surroundings::of_process())?;
    for notice in &loaded.notices {
        tracing::warn!("{notice}");
    }
    let config = loaded.config;
    if config.quorum.narrowed {
        tracing::info!(
            "the controller listener is opened on loopback only, where every node is: cluster.secret.file opens it \
             to other machines"
        );
    }
    if let Some(why) = &config.quorum.closed {
        tracing::info!("{why}");
    }
    let settings = settings(&config)?;
    let node = node_config(&config)?;
    let stopped = Broker::new(settings, node).run(|addresses| banner(&config, addresses)).map_err(advise)?;
    match stopped {
        Stopped::Clean => {
            tracing::info!("stopped");
            Ok(())
        }
        Stopped::StartAgain => {
            // The same process for whoever watches it: nothing of this one is left.
            let this = std::env::current_exe().context("the path of this program")?;
            let mut again = std::process::Command::new(this);
            Err(again.args(std::env::args_os().skip(1)).exec()).context("starting again")
        }
        Stopped::NoRoom => anyhow::bail!(
            "the disk is full and took no last record: nothing that was acknowledged is lost, the next start \
             recovers as after a kill"
        ),
        Stopped::Fenced(why) => anyhow::bail!("the data directory failed: {why}"),
    }
}

/// Plants the bug that `PLANTED_BUG` names, for the fault rig (`cargo xtask jepsen --planted`).
#[cfg(feature = "planted")]
fn plant() -> anyhow::Result<()> {
    let Ok(name) = std::env::var("PLANTED_BUG") else { return Ok(()) };
    use model::planted::Bug;
    let of_transactions =
        Bug::OF_TRANSACTIONS.into_iter().chain([Bug::LsoTooHigh, Bug::MarkerWithoutEpochCheck]);
    let bug = Bug::ALL.into_iter().chain(of_transactions).find(|bug| format!("{bug:?}") == name);
    let bug = bug.with_context(|| format!("PLANTED_BUG: no bug is called {name}"))?;
    tracing::warn!("planted: {bug:?}");
    model::planted::plant(Some(bug));
    Ok(())
}

/// The error, and what to do about it.
fn advise(error: RunError) -> anyhow::Error {
    let RunError::Listen { key, error: why, .. } = &error else { return error.into() };
    let flag = match *key {
        "http.listener" => "--http HOST:PORT (--http '' serves no metrics)",
        _ => "--listen HOST:PORT",
    };
    let hint = match why.kind() {
        ErrorKind::AddrInUse => format!("Another process listens there: stop it, or choose with {flag}."),
        ErrorKind::PermissionDenied => format!("Ports below 1024 need a privilege: choose with {flag}."),
        _ => format!("It must be an address of this machine: choose with {flag}."),
    };
    anyhow::anyhow!("{error}\n  {hint}")
}

fn start_log(args: &ServeArgs) -> anyhow::Result<()> {
    let filter = filter(&args.log)?;
    let colours = std::io::stderr().is_terminal();
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    if args.log_json {
        log.json().init()
    } else {
        log.init()
    }
    Ok(())
}

/// A level, or target=level pairs. The library takes a lone word that is no level for a target, so that a
/// mistyped level would mean silence.
fn filter(text: &str) -> anyhow::Result<EnvFilter> {
    // Filters by span have commas and equal signs of their own.
    let words = if text.contains('[') { Vec::new() } else { text.split(',').map(str::trim).collect() };
    let bad = |word: &&str| {
        let level = word.split_once('=').map_or(*word, |(_, level)| level);
        !word.is_empty() && level.parse::<LevelFilter>().is_err()
    };
    if let Some(word) = words.into_iter().find(bad) {
        anyhow::bail!("--log {text}: `{word}` is no level; {LEVELS}");
    }
    EnvFilter::try_new(text).with_context(|| format!("--log {text}: {LEVELS}"))
}

fn settings(config: &ServerConfig) -> anyhow::Result<Settings> {
    let listeners = config
        .listeners
        .iter()
        .map(|l| {
            let told: Option<&Advertised> = config.advertised.iter().find(|a| a.name == l.name);
            Listener {
                name: l.name.clone(),
                protocol: l.protocol.name().to_owned(),
                host: l.address.host.clone(),
                port: l.address.port,
                advertised: told.is_some(),
                advertised_host: told.map(|a| a.address.host.clone()).filter(|h| !h.is_empty()),
                advertised_port: told.map(|a| a.address.port).filter(|p| *p != 0),
            }
        })
        .collect();
    let http = match &config.http_listener {
        Some(address) => Some(resolve(&address.host, address.port)?),
        None => None,
    };
    // Clients are told it (DescribeLogDirs), who know nothing of the directory where the broker was started.
    let data_dir = std::path::absolute(&config.data_dir).context("log.dirs")?;
    let http_by_default = !config.static_broker_configs.contains_key("http.listener");
    let mut settings = Settings { listeners, http, http_by_default, data_dir, ..Settings::default() };
    // Kafka's default of 100 KiB would hold back what the system tunes by itself; only a set value counts.
    let buffer =
        |key: &str| config.static_broker_configs.get(key).and_then(|v| v.trim().parse().ok()).unwrap_or(-1);
    settings.send_buffer_bytes = buffer("socket.send.buffer.bytes");
    settings.receive_buffer_bytes = buffer("socket.receive.buffer.bytes");
    let fixed = Arc::new(config.static_broker_configs.clone());
    settings.peers = peers(config);
    settings.take_over(cluster::Image::empty(config.node_id, fixed).broker_config());
    Ok(settings)
}

/// The other nodes, where there are any or may be.
fn peers(config: &ServerConfig) -> Option<PeerSettings> {
    let quorum = &config.quorum;
    if quorum.alone && (config.controllers.is_empty() || quorum.closed.is_some()) {
        return None;
    }
    let others = quorum.voters.iter().filter(|voter| voter.id != config.node_id);
    let address = |voter: &Voter| PeerAddress {
        node: voter.id,
        host: voter.address.host.clone(),
        port: voter.address.port,
    };
    let voters: Vec<_> = others.map(address).collect();
    let own = |address: &Address| (address.host.clone(), address.port);
    let finds = voters.is_empty() && !quorum.alone;
    Some(PeerSettings {
        listeners: config.controllers.iter().map(own).collect(),
        votes: quorum.controls && (finds || quorum.voters.iter().any(|voter| voter.id == config.node_id)),
        servers: if finds { quorum.bootstrap.iter().map(own).collect() } else { Vec::new() },
        voters,
        secret: quorum.secret.as_ref().map(|s| Secret::new(s.0.clone())).unwrap_or_default(),
        cluster_id: config.cluster_id.clone().unwrap_or_default(),
    })
}

/// Where other nodes are told to connect: the node's own line of the voters, or its listener.
fn peer(config: &ServerConfig) -> Option<cluster::Endpoint> {
    let own = config.quorum.voters.iter().find(|voter| voter.id == config.node_id);
    let told = config.peer.as_ref()?;
    let address =
        own.filter(|_| !config.controllers.is_empty()).map_or(&told.address, |voter| &voter.address);
    (address.port != 0).then(|| cluster::Endpoint {
        listener: told.name.clone(),
        host: address.host.clone(),
        port: address.port,
        protocol: "PLAINTEXT".to_owned(),
    })
}

/// The replicas of the metadata group of a node that is its own only voter; others ask each other first.
fn voters(config: &ServerConfig) -> Vec<(u64, i32)> {
    if config.quorum.alone { vec![(1, config.node_id)] } else { Vec::new() }
}

fn resolve(host: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let host = if host.is_empty() { "0.0.0.0" } else { host };
    let found = (host, port).to_socket_addrs().with_context(|| format!("http.listener: {host}"))?.next();
    found.with_context(|| format!("http.listener: {host} has no address"))
}

fn node_config(config: &ServerConfig) -> anyhow::Result<NodeConfig> {
    let mut random = [0u8; 40];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut random))
        .context("/dev/urandom")?;
    let bytes = |at: usize| -> [u8; 16] { std::array::from_fn(|i| random[at + i]) };
    let seed = u64::from_le_bytes(std::array::from_fn(|i| random[32 + i]));
    let fixed = Arc::new(config.static_broker_configs.clone());
    let resolved = cluster::Image::empty(config.node_id, fixed);
    let broker = resolved.broker_config();
    if broker.accept_state_log_damage {
        tracing::warn!(
            "accept.state.log.damage is set: damage in the state log is passed over; take it out after this start"
        );
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(NodeConfig {
        first_transactional_epoch: 0,
        node_id: config.node_id,
        fresh_cluster_id: config.cluster_id.clone().unwrap_or_else(|| model::TopicId(bytes(0)).to_string()),
        endpoints: Vec::new(),
        voters: voters(config),
        peer: peer(config),
        rack: broker.broker_rack.clone(),
        static_configs: config.static_broker_configs.clone(),
        incarnation: since.as_micros() as u64,
        directory: DirectoryConfig {
            cluster_id: config.cluster_id.clone().unwrap_or_default(),
            node_id: config.node_id,
            new_directory_id: bytes(16),
            boot_id: boot_id(),
            accept_state_log_damage: broker.accept_state_log_damage,
            tail_cache_bytes: broker.log_tail_cache_bytes.max(0) as usize,
            ..DirectoryConfig::default()
        },
        seed,
    })
}

/// The kernel's boot id; all zero where there is none, which counts every start as the same boot.
fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    std::array::from_fn(|i| match (digits.get(2 * i), digits.get(2 * i + 1)) {
        (Some(high), Some(low)) => high << 4 | low,
        _ => 0,
    })
}

/// Where it runs and what to try next. A closed standard output is no reason not to run.
fn banner(config: &ServerConfig, addresses: &Addresses) {
    let mut text = format!("plimsoll {}  node {}\n", env!("CARGO_PKG_VERSION"), config.node_id);
    for listener in &addresses.listeners {
        text += &format!("  kafka   {}  ({})\n", listener.address, listener.name);
        if let Some(told) = told(config, listener) {
            text += &told;
        }
    }
    if let Some(http) = addresses.http {
        text += &format!("  http    http://{http}  /metrics /healthz /readyz\n");
    }
    text += &format!("  data    {}\n", config.data_dir.display());
    if let Some(listener) = addresses.listeners.first() {
        let near = match listener.address {
            all if all.ip().is_unspecified() => format!("127.0.0.1:{}", all.port()),
            address => address.to_string(),
        };
        let called = called(std::env::args().next());
        text += &format!("  try     echo hello | {called} produce greetings -b {near}\n");
        text += &format!("          {called} consume greetings -b {near} -e\n");
    }
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// How this program was called, where that can be typed again as it stands.
fn called(first: Option<String>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    first.filter(|name| !name.is_empty() && name.chars().all(plain)).unwrap_or_else(|| "plimsoll".to_owned())
}

/// What clients are told, where that is another address than the one that they find here.
fn told(config: &ServerConfig, listener: &Bound) -> Option<String> {
    let (host, port) = &listener.told;
    let address = Address { host: host.clone(), port: *port };
    if address.to_string() == listener.address.to_string() {
        return None;
    }
    let chosen = config.static_broker_configs.contains_key("advertised.listeners");
    let hint = if chosen || !listener.address.ip().is_unspecified() {
        ""
    } else {
        ", which must be reachable for them; --advertise HOST:PORT changes it"
    };
    Some(format!("          clients are told {address}{hint}\n"))
}

#[cfg(test)]
mod tests {
    use super::{called, filter, settings};
    use crate::config::{ConfigArgs, Surroundings, load};

    #[test]
    fn a_log_level_that_is_none_is_refused_with_those_that_there_are() {
        for good in ["info", "OFF", "warn,broker=debug", "broker::core=trace", "", "[span{key=1}]=debug"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["wat", "info,wat", "broker=wat", "broker"] {
            let said = filter(bad).unwrap_err().to_string();
            assert!(said.contains("is no level; there are off, error, warn"), "{bad}: {said}");
        }
    }

    #[test]
    fn the_banner_calls_the_program_as_it_was_called() {
        assert_eq!(called(Some("target/release/plimsoll".to_owned())), "target/release/plimsoll");
        assert_eq!(called(Some("/my programs/plimsoll".to_owned())), "plimsoll");
        assert_eq!(called(None), "plimsoll");
    }

    #[test]
    fn the_data_directory_is_told_as_an_absolute_path() {
        let around = Surroundings { variables: Vec::new(), hostname: "here".to_owned() };
        let loaded = load(&ConfigArgs::default(), &around).unwrap();
        let told = settings(&loaded.config).unwrap().data_dir;
        assert_eq!(told, std::env::current_dir().unwrap().join("plimsoll-data"));
    }
}
