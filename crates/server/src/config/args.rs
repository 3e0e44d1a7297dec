//! The flags that touch the configuration.
use super::{Address, ConfigErrors};
use std::net::Ipv6Addr;
use std::path::PathBuf;

/// Ports of examples; the defaults of `listeners` and `http.listener`.
const KAFKA_PORT: u16 = 9092;
const HTTP_PORT: u16 = 9644;

/// Flags of `plimsoll serve`. Each stands above the environment, which stands above the file.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file, named as kafka-server-start.sh takes it; stands above --config
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Configuration file: Kafka's server.properties, or TOML with the same keys (name ends in .toml)
    #[arg(long, short = 'c', value_name = "FILE", env = "PLIMSOLL_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Take unknown keys, and Kafka's keys without effect here, for errors
    #[arg(long)]
    pub(crate) strict: bool,
    /// Set any key, for example --set num.partitions=3
    #[arg(long = "set", alias = "override", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Data directory (log.dirs)
    #[arg(long, visible_alias = "data-dir", value_name = "DIR")]
    pub(crate) data: Option<String>,
    /// Where Kafka clients connect, host:port or NAME://host:port; the port is never left out (listeners)
    #[arg(long, visible_alias = "listener", value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// What clients are told to connect to (advertised.listeners)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) advertise: Option<String>,
    /// Where metrics and health are served; empty for none (http.listener)
    #[arg(long, visible_alias = "http-listener", value_name = "ADDRESS")]
    pub(crate) http: Option<String>,
    /// This node's number (node.id)
    #[arg(long, value_name = "N")]
    pub(crate) node_id: Option<i32>,
}

fn with_scheme(address: &str) -> String {
    let one = |a: &str| if a.contains("://") { a.to_owned() } else { format!("PLAINTEXT://{a}") };
    address.split(',').map(|a| one(a.trim())).collect::<Vec<_>>().join(",")
}

/// Checks addresses that a flag names, `host:port` or `NAME://host:port` with commas between them.
fn check_addresses(flag: &str, text: &str, port: u16) -> Result<(), ConfigErrors> {
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (name, at) = match word.split_once("://") {
            Some((name, at)) => (format!("{name}://"), at),
            None => (String::new(), word),
        };
        if Address::parse(at).is_some() {
            continue;
        }
        let lacks_port = !at.contains(':') || at.parse::<Ipv6Addr>().is_ok() || at.ends_with(']');
        let example = match at.trim_start_matches('[').trim_end_matches(']') {
            "" => format!(":{port}"),
            digits if digits.parse::<u16>().is_ok() => format!("127.0.0.1:{digits}"),
            v6 if v6.parse::<Ipv6Addr>().is_ok() => format!("[{v6}]:{port}"),
            host if lacks_port && !host.contains(['/', ' ']) => format!("{host}:{port}"),
            _ => format!("127.0.0.1:{port}"),
        };
        let digits = at.parse::<u16>().is_ok();
        let high = |(_, port): (&str, &str)| port.parse::<u32>().is_ok_and(|port| port > u32::from(u16::MAX));
        let what = if lacks_port && !digits {
            "has no port"
        } else if at.rsplit_once(':').is_some_and(high) {
            "has a port above 65535"
        } else {
            "is not HOST:PORT"
        };
        return Err(ConfigErrors::one(format!("{flag} {word} {what}; for example {flag} {name}{example}")));
    }
    Ok(())
}

impl ConfigArgs {
    /// The flags as keys and values.
    pub(super) fn overrides(&self) -> Result<Vec<(String, String)>, ConfigErrors> {
        let mut pairs = Vec::new();
        for text in &self.set {
            let Some((key, value)) = text.split_once('=') else {
                return Err(ConfigErrors::one(format!("--set {text}: KEY=VALUE is expected")));
            };
            pairs.push((key.trim().to_owned(), value.to_owned()));
        }
        for (flag, value, port) in [
            ("--listen", &self.listen, KAFKA_PORT),
            ("--advertise", &self.advertise, KAFKA_PORT),
            ("--http", &self.http, HTTP_PORT),
        ] {
            check_addresses(flag, value.as_deref().unwrap_or_default(), port)?;
        }
        let mut put = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                pairs.push((key.to_owned(), value));
            }
        };
        put("log.dirs", self.data.clone());
        put("listeners", self.listen.as_deref().map(with_scheme));
        put("advertised.listeners", self.advertise.as_deref().map(with_scheme));
        put("http.listener", self.http.clone());
        put("node.id", self.node_id.map(|n| n.to_string()));
        put("broker.id", self.node_id.map(|n| n.to_string()));
        Ok(pairs)
    }
}
