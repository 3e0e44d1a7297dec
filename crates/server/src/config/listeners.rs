//! Listeners: where this node listens, and what clients are told.
use std::collections::BTreeMap;
use std::fmt;

/// A host and a port. An empty host stands for all interfaces, port 0 for a free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Name or address, IPv6 without brackets.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
}

impl Address {
    /// Reads `host:port`, `[v6]:port` or `:port`.
    pub(crate) fn parse(text: &str) -> Option<Address> {
        let (host, port) = text.trim().rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        if host.contains(|c: char| c.is_whitespace() || c == '/') {
            return None;
        }
        Some(Address { host: host.to_owned(), port: port.parse().ok()? })
    }

    /// Whether it stands for all interfaces.
    pub(crate) fn is_any(&self) -> bool {
        matches!(self.host.as_str(), "" | "0.0.0.0" | "::")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Kafka's security protocols, as far as they are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Neither encrypted nor authenticated.
    Plaintext,
}

impl Protocol {
    /// Kafka's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Plaintext => "PLAINTEXT",
        }
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// Its name, in capitals.
    pub(crate) name: String,
    /// Where.
    pub(crate) address: Address,
    /// How.
    pub(crate) protocol: Protocol,
}

/// What clients of a listener are told. Port 0: the one that was bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advertised {
    /// Name of the listener.
    pub(crate) name: String,
    /// Where.
    pub(crate) address: Address,
}

/// The listeners of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Endpoints {
    pub(super) listeners: Vec<Listener>,
    pub(super) advertised: Vec<Advertised>,
    pub(super) controllers: Vec<Address>,
    /// Where other nodes are told to connect: the first controller listener, or, without one, the listener among
    /// brokers. Port 0: not known before it is bound.
    pub(super) peer: Option<Advertised>,
}

impl Endpoints {
    /// Controller listeners on all interfaces are opened on loopback only, and others are told that.
    pub(super) fn narrow(&mut self) {
        const LOOPBACK: &str = "127.0.0.1";
        for address in self.controllers.iter_mut().filter(|address| address.is_any()) {
            address.host = LOOPBACK.to_owned();
        }
        if let Some(peer) = self.peer.as_mut().filter(|peer| peer.address.host != "localhost") {
            peer.address.host = LOOPBACK.to_owned();
        }
    }
}

/// The words of a list with commas between them.
pub(super) fn words(text: &str) -> Vec<String> {
    text.split(',').map(|w| w.trim().to_owned()).filter(|w| !w.is_empty()).collect()
}

/// `NAME://host:port` entries; names come in capitals.
fn parse_list(key: &str, text: &str) -> Result<Vec<(String, Address)>, String> {
    let mut found: Vec<(String, Address)> = Vec::new();
    for entry in words(text) {
        let parsed = entry.split_once("://").and_then(|(name, at)| Some((name, Address::parse(at)?)));
        let Some((name, address)) = parsed.filter(|(name, _)| !name.is_empty()) else {
            return Err(format!(
                "{key}: {entry:?} is not NAME://host:port, as PLAINTEXT://localhost:9092 is"
            ));
        };
        let name = name.to_ascii_uppercase();
        if found.iter().any(|(other, _)| *other == name) {
            return Err(format!("{key}: each listener must have a different name, {name} is there twice"));
        }
        found.push((name, address));
    }
    Ok(found)
}

fn protocol_map(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pair = |word: String| {
        let (name, protocol) = word
            .split_once(':')
            .ok_or_else(|| format!("listener.security.protocol.map: {word:?} is not NAME:PROTOCOL"))?;
        Ok((name.trim().to_ascii_uppercase(), protocol.trim().to_ascii_uppercase()))
    };
    words(text).into_iter().map(pair).collect()
}

fn protocol(name: &str, map: &BTreeMap<String, String>) -> Result<Protocol, String> {
    match map.get(name).map(String::as_str) {
        Some("PLAINTEXT") => Ok(Protocol::Plaintext),
        Some(known @ ("SSL" | "SASL_PLAINTEXT" | "SASL_SSL")) => {
            Err(format!("listeners: {name} asks for {known}, which is not served yet; PLAINTEXT is"))
        }
        Some(other) => Err(format!("listener.security.protocol.map: {other} is no security protocol")),
        None => Err(format!(
            "listeners: no security protocol is known for {name}; add {name}:PLAINTEXT to listener.security.protocol.map"
        )),
    }
}

/// Works out listeners and advertised listeners from the values of their keys.
pub(super) fn resolve(text: &dyn Fn(&str) -> String, hostname: &str) -> Result<Endpoints, String> {
    let all = parse_list("listeners", &text("listeners"))?;
    let controllers: Vec<String> =
        words(&text("controller.listener.names")).iter().map(|n| n.to_ascii_uppercase()).collect();
    let mut map = protocol_map(&text("listener.security.protocol.map"))?;
    for name in &controllers {
        map.entry(name.clone()).or_insert_with(|| "PLAINTEXT".to_owned());
    }
    check_ports(&all)?;
    let mut ends = Endpoints::default();
    let own_controller = all.iter().find(|(name, _)| controllers.contains(name)).cloned();
    for (name, address) in all {
        let protocol = protocol(&name, &map)?;
        if controllers.contains(&name) {
            ends.controllers.push(address);
        } else {
            ends.listeners.push(Listener { name, address, protocol });
        }
    }
    if ends.listeners.is_empty() {
        return Err("listeners: there is none for clients".to_owned());
    }
    let told = parse_list("advertised.listeners", &text("advertised.listeners"))?;
    let (to_nodes, told): (Vec<_>, Vec<_>) =
        told.into_iter().partition(|(name, _)| controllers.contains(name));
    ends.advertised = advertise(&ends.listeners, told, hostname)?;
    let among = text("inter.broker.listener.name").to_ascii_uppercase();
    ends.peer = peer(&ends, own_controller, &to_nodes, &among, hostname);
    if !among.is_empty() && !ends.listeners.iter().any(|l| l.name == among) {
        return Err(format!("inter.broker.listener.name: {among} is not among the listeners"));
    }
    Ok(ends)
}

/// Where other nodes are told to connect.
fn peer(
    ends: &Endpoints,
    controller: Option<(String, Address)>,
    told: &[(String, Address)],
    among: &str,
    hostname: &str,
) -> Option<Advertised> {
    let Some((name, bound)) = controller else {
        let named = ends.advertised.iter().find(|l| l.name == among);
        return named.or(ends.advertised.first()).cloned();
    };
    let told = told.iter().find(|(to, _)| *to == name).map(|(_, address)| address.clone());
    let mut address = told.unwrap_or(bound);
    if address.is_any() {
        address.host = hostname.to_owned();
    }
    Some(Advertised { name, address })
}

fn check_ports(all: &[(String, Address)]) -> Result<(), String> {
    for (i, (name, address)) in all.iter().enumerate() {
        let same = |other: &&(String, Address)| {
            let hosts = other.1.host == address.host || other.1.is_any() || address.is_any();
            address.port != 0 && other.1.port == address.port && hosts
        };
        if let Some((other, _)) = all[..i].iter().find(same) {
            return Err(format!("listeners: {name} and {other} have the same port {}", address.port));
        }
    }
    Ok(())
}

fn advertise(
    listeners: &[Listener],
    told: Vec<(String, Address)>,
    hostname: &str,
) -> Result<Vec<Advertised>, String> {
    for (name, address) in &told {
        if !listeners.iter().any(|l| l.name == *name) {
            return Err(format!("advertised.listeners: {name} is not among the listeners"));
        }
        if address.is_any() && !address.host.is_empty() {
            return Err(format!(
                "advertised.listeners: clients cannot connect to {}; name an address of this machine",
                address.host
            ));
        }
    }
    let one = |listener: &Listener| {
        let found = told.iter().find(|(name, _)| *name == listener.name).map(|(_, a)| a.clone());
        let mut address = found.unwrap_or_else(|| listener.address.clone());
        if address.is_any() {
            address.host = hostname.to_owned();
        }
        Advertised { name: listener.name.clone(), address }
    };
    // Kafka tells clients nothing of a listener that advertised.listeners leaves out.
    let shown = listeners.iter().filter(|l| told.is_empty() || told.iter().any(|(name, _)| *name == l.name));
    Ok(shown.map(one).collect())
}

/// Every node is a broker; those that only follow the metadata need not be controllers.
pub(super) fn check_roles(text: &dyn Fn(&str) -> String) -> Result<(), String> {
    let roles = words(&text("process.roles"));
    if roles.iter().any(|role| role == "broker") {
        return Ok(());
    }
    Err(format!(
        "process.roles: {} lacks broker; every node serves clients in this release: broker,controller for one that \
         may vote on the metadata, broker for one that only follows it",
        roles.join(",")
    ))
}
