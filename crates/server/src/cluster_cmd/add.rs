//! `plimsoll cluster add`: one more node. What to put into its configuration, then what becomes of it.
use super::quorum::QuorumState;
use crate::admin::connect::{ConnectArgs, advise};
use crate::admin::format::FormatArgs;
use anyhow::{Context, bail};
use clap::Args;
use client_lite::{Client, Cluster, ConfigEntry, ResourceKind};
use serde_json::json;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Add a node to a cluster: show its configuration, then wait until it is there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  plimsoll cluster add --dry-run                       what to put into the new node's server.properties
  plimsoll cluster add --output node-4.properties      write it, then wait for the node
  plimsoll serve --config node-4.properties            in another terminal, or on the other machine

The new node finds the cluster by the addresses of its voters. It follows the metadata without a vote;
`plimsoll cluster voters --add NODE` gives it one. New topics use it at once, `plimsoll cluster rebalance` moves what there is.

Settings that whoever leads the metadata decides by (default.replication.factor and the like) are those of the present leader.
When one node grows to several, raise them in its file, and put controller.quorum.bootstrap.servers=OTHERS there too: without
that, an empty directory would have it begin a cluster of its own.")]
pub(crate) struct AddArgs {
    /// Id of the new node; the next free one without it.
    node: Option<i32>,
    /// Host where the new node is reached, by clients and by other nodes.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Its rack.
    #[arg(long, value_name = "RACK")]
    rack: Option<String>,
    /// Write the configuration to this file, which must not exist.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only show the configuration.
    #[arg(long)]
    dry_run: bool,
    /// Seconds to wait for the node to come.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    wait: u64,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// What the new node is to be.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    node: i32,
    host: String,
    kafka: u16,
    controller: u16,
    servers: Vec<String>,
    /// All addresses are of one machine.
    near: bool,
    rack: Option<String>,
    cluster_id: String,
    /// What the metadata's leader has been given, of [`SHARED`].
    shared: Vec<(String, String)>,
}

/// Keys of a broker that matter for the whole cluster, because whoever leads the metadata goes by its own.
const SHARED: [&str; 6] = [
    "default.replication.factor",
    "min.insync.replicas",
    "num.partitions",
    "offsets.topic.num.partitions",
    "offsets.topic.replication.factor",
    "auto.create.topics.enable",
];

/// What a broker was given of them; nothing where it does not say.
async fn shared_settings(client: &Client, broker: i32) -> Vec<(String, String)> {
    let asked =
        client.describe_configs(ResourceKind::Broker, &broker.to_string(), Some(&SHARED), false).await;
    let given = |entry: ConfigEntry| {
        let value = entry.value.filter(|_| entry.source == "STATIC_BROKER_CONFIG")?;
        Some((entry.name, value))
    };
    asked.unwrap_or_default().into_iter().filter_map(given).collect()
}

/// Runs the command.
pub(crate) async fn run(args: AddArgs) -> anyhow::Result<()> {
    let look = async {
        let client = args.connect.client().await?;
        let quorum = QuorumState::ask(&client).await?;
        let cluster = client.refresh(&[]).await.map_err(advise)?;
        Ok((client, quorum, cluster))
    };
    let (client, quorum, cluster) = args.connect.within_leader(look).await?;
    let mut plan = plan(&args, &quorum, &cluster)?;
    plan.shared = shared_settings(&client, quorum.leader).await;
    let text = plan.properties();
    let document = json!({ "node": plan.node, "config": text, "voters": plan.servers });
    if let Some(path) = &args.output {
        let file = std::fs::File::options().write(true).create_new(true).open(path);
        std::io::Write::write_all(&mut file.with_context(|| path.display().to_string())?, text.as_bytes())?;
    }
    if args.dry_run {
        return args.format.print_or(&text, &document);
    }
    eprintln!("{text}\nNow start node {} with this configuration.", plan.node);
    follow(&client, plan.node, Duration::from_secs(args.wait)).await?;
    args.format.say(&format!("Node {} has joined the cluster.", plan.node), &document)
}

fn is_near(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn plan(args: &AddArgs, quorum: &QuorumState, cluster: &Cluster) -> anyhow::Result<Plan> {
    let at = quorum.voters_at();
    if at.is_empty() {
        bail!(
            "the cluster's voters have no address where another node could join\n  \
             Give node {} a controller listener (listeners, controller.listener.names), and cluster.secret.file unless \
             it is on loopback; its log says why it does not open one.",
            quorum.leader
        );
    }
    let taken = |id: i32| quorum.members.contains_key(&id) || cluster.broker(id).is_some();
    let node = match args.node {
        Some(id) if taken(id) => {
            bail!("node {id} is there already: `plimsoll cluster status` shows the nodes")
        }
        Some(id) if id < 0 => bail!("a node's id is a number from 0 up"),
        Some(id) => id,
        None => (1..).find(|id| !taken(*id)).unwrap_or(1),
    };
    let near = at.iter().all(|(host, _)| is_near(host)) && args.host.as_deref().is_none_or(is_near);
    let host = args.host.clone().unwrap_or_else(|| if near { "127.0.0.1" } else { "HOST" }.to_owned());
    // On one machine every node has ports of its own.
    let next = |ports: Vec<u16>, default: u16| {
        let highest = ports.into_iter().max().filter(|_| near);
        highest.map_or(default, |port| port.checked_add(1).unwrap_or(default))
    };
    let kafka = next(cluster.brokers.iter().filter_map(|b| u16::try_from(b.port).ok()).collect(), 9092);
    let all = quorum.members.values().filter_map(|m| m.address.as_ref().map(|(_, port)| *port));
    let controller = next(all.collect(), 9093);
    Ok(Plan {
        node,
        host,
        kafka,
        controller: if controller == kafka { controller.wrapping_add(100) } else { controller },
        servers: at.iter().map(|(host, port)| address(host, *port)).collect(),
        near,
        rack: args.rack.clone(),
        cluster_id: cluster.id.clone().unwrap_or_default(),
        shared: Vec::new(),
    })
}

/// Where the new node keeps its data: here, if it is to run on this machine.
fn directory(near: bool, node: i32) -> String {
    let here = std::env::current_dir().ok().filter(|_| near);
    here.map_or_else(
        || "/var/lib/plimsoll".to_owned(),
        |here| here.join(format!("plimsoll-data-{node}")).display().to_string(),
    )
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl Plan {
    fn properties(&self) -> String {
        let (kafka, controller) = (address(&self.host, self.kafka), address(&self.host, self.controller));
        let mut text = format!(
            "# Node {} of cluster {}.\n\
             node.id={}\n\
             cluster.id={}\n\
             process.roles=broker,controller\n\
             listeners=PLAINTEXT://{kafka},CONTROLLER://{controller}\n\
             controller.listener.names=CONTROLLER\n\
             controller.quorum.bootstrap.servers={}\n\
             log.dirs={}\n",
            self.node,
            self.cluster_id,
            self.node,
            self.cluster_id,
            self.servers.join(","),
            directory(self.near, self.node),
        );
        for (key, value) in &self.shared {
            let _ = writeln!(text, "{key}={value}");
        }
        // Writing to a string does not fail.
        if let Some(rack) = &self.rack {
            let _ = writeln!(text, "broker.rack={rack}");
        }
        text += if self.near {
            "# Metrics and health: off here, for 127.0.0.1:9644 is another node's.\nhttp.listener=\n"
        } else {
            "# The same file as on the other nodes.\ncluster.secret.file=/etc/plimsoll/cluster.secret\n"
        };
        text
    }
}

/// Shows the node come: registered, its metadata up to date, serving.
async fn follow(client: &Client, node: i32, patience: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    let (mut registered, mut told) = (false, String::new());
    loop {
        // Leaders may change meanwhile: the next look asks again.
        let state = QuorumState::ask(client).await.ok();
        let member = state.as_ref().and_then(|s| s.members.get(&node).map(|m| (s.end, m.end)));
        let serves = async {
            let cluster = client.refresh(&[]).await.ok()?;
            cluster.broker(node).map(client_lite::Broker::address)
        };
        let say = match member {
            None => "waiting for it to register".to_owned(),
            Some((end, has)) if has < end => {
                registered = true;
                format!("registered, catching up: {} of {end} entries of the metadata", has.max(0))
            }
            Some(_) => match serves.await {
                Some(address) => {
                    eprintln!("node {node}: serves at {address}");
                    return Ok(());
                }
                None => "registered, has the metadata, not live yet".to_owned(),
            },
        };
        if say != told {
            eprintln!("node {node}: {say}");
            told = say;
        }
        if begun.elapsed() > patience {
            let hint = if registered {
                "It is registered: its log says what it waits for."
            } else {
                "Its log says what it waits for: `waiting for a cluster: ...`."
            };
            bail!("node {node} did not come within {} s\n  {hint}", patience.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigArgs, Surroundings, load};

    fn planned(near: bool) -> Plan {
        let (host, other) = if near { ("127.0.0.1", "127.0.0.1") } else { ("b.example", "a.example") };
        Plan {
            node: 4,
            host: host.to_owned(),
            kafka: 9095,
            controller: 9195,
            servers: vec![address(other, 9192), address(other, 9193)],
            near,
            rack: Some("r".to_owned()),
            cluster_id: "AAAAAAAAQACAAAAAAAAAAA".to_owned(),
            shared: vec![("default.replication.factor".to_owned(), "3".to_owned())],
        }
    }

    #[test]
    fn the_configuration_that_is_shown_is_one_that_joins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.properties");
        std::fs::write(&path, planned(true).properties()).unwrap();
        let args = ConfigArgs { config: Some(path), ..ConfigArgs::default() };
        let around = Surroundings { variables: Vec::new(), hostname: "here".to_owned() };
        let config = load(&args, &around).unwrap().config;
        assert_eq!((config.node_id, config.controllers.len()), (4, 1));
        assert!(!config.quorum.alone && config.quorum.controls);
        assert_eq!(config.quorum.bootstrap.len(), 2);
        let far = planned(false).properties();
        assert!(far.contains("cluster.secret.file=") && far.contains("log.dirs=/var/lib/plimsoll\n"));
        assert!(far.contains("\ndefault.replication.factor=3\n"));
    }

    #[test]
    fn addresses_of_version_6_are_in_brackets() {
        assert_eq!(address("::1", 7), "[::1]:7");
        assert_eq!(address("a", 7), "a:7");
    }
}
