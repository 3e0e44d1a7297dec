//! The controllers: who votes on the metadata, where other nodes find them, and the secret that all share.
//!
//! `controller.quorum.voters` is the membership at the birth of a cluster; `controller.quorum.bootstrap.servers`
//! only says where some of it is found.
use super::listeners::{Address, Endpoints, words};
use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const VOTERS: &str = "controller.quorum.voters";
const SERVERS: &str = "controller.quorum.bootstrap.servers";
const SECRET: &str = "cluster.secret.file";
/// More voters make every change of the metadata slower and nothing safer.
const MOST_VOTERS: usize = 9;
/// Bytes of a secret that nobody guesses.
const LEAST_SECRET: usize = 16;
/// Whoever names a larger file has named the wrong one.
const MOST_SECRET: usize = 4096;
/// Others may read, others may write.
const FOR_EVERYBODY: u32 = 0o006;

/// A voter of the metadata group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Voter {
    /// Its `node.id`.
    pub(crate) id: i32,
    /// Its controller listener, as other nodes reach it.
    pub(crate) address: Address,
}

impl fmt::Display for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.address)
    }
}

/// What the nodes of a cluster prove to each other that they know. Not shown in any form.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The controllers, as the configuration names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quorum {
    /// Voters at the birth of the cluster, in order of their ids. Empty, or this node alone: a node that is
    /// its own only voter, unless `bootstrap` names others.
    pub(crate) voters: Vec<Voter>,
    /// Where controllers are found.
    pub(crate) bootstrap: Vec<Address>,
    /// What `cluster.secret.file` holds; not read where there is nobody else to talk to.
    pub(crate) secret: Option<Secret>,
    /// Whether this node is its own only voter when it is founded.
    pub(crate) alone: bool,
    /// Whether this node may vote: `process.roles` has controller.
    pub(crate) controls: bool,
    /// Controller listeners on all interfaces are opened on loopback only, for there is no secret.
    pub(crate) narrowed: bool,
    /// Why a node alone does not let others join it; `None`: it does, or has no listener for that.
    pub(crate) closed: Option<String>,
}

/// Works out the controllers, and refuses what cannot run.
pub(super) fn resolve(
    text: &dyn Fn(&str) -> String,
    node_id: i32,
    ends: &Endpoints,
) -> Result<Quorum, String> {
    judge(parse(text)?, text, node_id, ends)
}

/// Whether `servers` names nobody but this node, which is told by its port: its own name may be any.
fn finds_only_itself(servers: &[Address], own: &[Address]) -> bool {
    match servers {
        [] => true,
        [one] => own.is_empty() || own.iter().any(|listener| listener.port == one.port),
        _ => false,
    }
}

fn parse(text: &dyn Fn(&str) -> String) -> Result<Quorum, String> {
    let voters = words(&text(VOTERS)).iter().map(|word| voter(word)).collect::<Result<_, _>>()?;
    let server = |word: &String| {
        address(word).ok_or_else(|| format!("{SERVERS}: {word:?} is not host:port, as localhost:9093 is"))
    };
    let bootstrap = words(&text(SERVERS)).iter().map(server).collect::<Result<_, _>>()?;
    Ok(Quorum { voters, bootstrap, ..Quorum::default() })
}

fn voter(word: &str) -> Result<Voter, String> {
    let parsed = word.split_once('@').and_then(|(id, at)| {
        let id = id.trim().parse().ok().filter(|id: &i32| *id >= 0)?;
        Some(Voter { id, address: address(at)? })
    });
    parsed.ok_or_else(|| {
        let bad = format!("{VOTERS}: {word:?} is not id@host:port");
        match word.split_once('@').and_then(|(_, at)| at.rsplit_once(':')) {
            Some((at, id)) if model::TopicId::parse(id).is_ok() && address(at).is_some() => format!(
                "{bad}: {id} is a directory id, which Kafka's --initial-controllers takes and this key does not; leave it out"
            ),
            _ => format!("{bad}, as 1@localhost:9093 is"),
        }
    })
}

/// `host:port` in the characters that Kafka takes; IPv6 in brackets or, as it takes that as well, without.
fn address(text: &str) -> Option<Address> {
    let bare = || {
        let (host, port) = text.trim().rsplit_once(':')?;
        is_ipv6(host).then_some(Address { host: host.to_owned(), port: port.parse().ok()? })
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || "-%._:".contains(c);
    Address::parse(text).or_else(bare).filter(|address| address.host.chars().all(valid))
}

/// Whether it is an IPv6 address, with or without a zone.
fn is_ipv6(host: &str) -> bool {
    host.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}

/// All that can be wrong once a quorum may have several voters.
fn judge(
    mut named: Quorum,
    text: &dyn Fn(&str) -> String,
    node_id: i32,
    ends: &Endpoints,
) -> Result<Quorum, String> {
    named.voters.sort_by_key(|voter| voter.id);
    if let Some(pair) = named.voters.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(format!("{VOTERS}: {} and {} have the same id", pair[0], pair[1]));
    }
    named.controls = words(&text("process.roles")).iter().any(|role| role == "controller");
    let only = named.voters.iter().all(|voter| voter.id == node_id);
    named.alone = only && finds_only_itself(&named.bootstrap, &ends.controllers);
    if named.alone {
        return alone(named, text, ends);
    }
    check_voters(&named)?;
    if !named.voters.is_empty() {
        check_own_line(&named.voters, text, node_id, &ends.controllers)?;
    }
    let among = text("inter.broker.listener.name").to_ascii_uppercase();
    if !among.is_empty() && !ends.advertised.iter().any(|told| told.name == among) {
        return Err(format!(
            "inter.broker.listener.name: {among} is not among advertised.listeners, so no other broker finds it"
        ));
    }
    secret(named, text, ends)
}

/// A node by itself: it runs without a secret, as Apache Kafka's own file has it; others may join it only where that
/// is safe.
fn alone(mut named: Quorum, text: &dyn Fn(&str) -> String, ends: &Endpoints) -> Result<Quorum, String> {
    if !named.controls {
        return Err(format!(
            "process.roles: lacks controller, and neither {VOTERS} nor {SERVERS} names another node: a broker \
             without controllers has no metadata"
        ));
    }
    if ends.controllers.is_empty() {
        return Ok(named);
    }
    let path = text(SECRET);
    let open = |address: &&Address| !is_loopback(&address.host) && !address.is_any();
    if !path.is_empty() {
        named.secret = Some(read_secret(Path::new(&path))?);
    } else if let Some(open) = ends.controllers.iter().find(open) {
        named.closed = Some(format!(
            "the controller listener {open} is open to other machines and {SECRET} is not set, so it is not opened: \
             no other node can join this one"
        ));
    } else {
        named.narrowed = ends.controllers.iter().any(Address::is_any);
    }
    Ok(named)
}

fn check_voters(named: &Quorum) -> Result<(), String> {
    if named.voters.len() > MOST_VOTERS {
        return Err(format!(
            "{VOTERS}: names {} voters, {MOST_VOTERS} at most; 3 or 5 are enough, other nodes need not vote",
            named.voters.len()
        ));
    }
    let unreachable = |address: &Address| address.is_any() || address.port == 0;
    if let Some(voter) = named.voters.iter().find(|voter| unreachable(&voter.address)) {
        return Err(format!("{VOTERS}: other nodes cannot connect to {voter}; name a host and a port"));
    }
    if let Some(server) = named.bootstrap.iter().find(|server| unreachable(server)) {
        return Err(format!("{SERVERS}: nobody can connect to {server}; name a host and a port"));
    }
    let mut seen = BTreeSet::new();
    for Voter { address, .. } in &named.voters {
        if !seen.insert((&address.host, address.port)) {
            return Err(format!("{VOTERS}: {address} is the address of two voters"));
        }
    }
    Ok(())
}

/// Role, voters and listeners of this node must say the same.
fn check_own_line(
    voters: &[Voter],
    text: &dyn Fn(&str) -> String,
    node_id: i32,
    own: &[Address],
) -> Result<(), String> {
    let controls = words(&text("process.roles")).iter().any(|role| role == "controller");
    let Some(line) = voters.iter().find(|voter| voter.id == node_id) else {
        return match controls {
            true => Err(format!(
                "{VOTERS}: lacks node.id {node_id}, though process.roles has controller; add {node_id}@host:port on \
                 every node, or take the role away"
            )),
            false => Ok(()),
        };
    };
    if !controls {
        return Err(format!("process.roles: lacks controller, though {VOTERS} names this node as {line}"));
    }
    if own.is_empty() {
        return Err(format!(
            "controller.listener.names: names none of the listeners, though {VOTERS} names this node as {line}; add \
             CONTROLLER, and CONTROLLER://:{} to listeners",
            line.address.port
        ));
    }
    if !own.iter().any(|listener| listener.port == line.address.port) {
        let ports: Vec<String> = own.iter().map(|listener| listener.port.to_string()).collect();
        return Err(format!(
            "{VOTERS}: {line} is this node, whose controller listener has port {}",
            ports.join(" and ")
        ));
    }
    Ok(())
}

/// The secret, without which nodes talk on loopback only: whoever reached a listener for nodes could join. Where all
/// nodes are on this machine, a controller listener on all interfaces, as in Apache Kafka's own file, is narrowed.
fn secret(mut named: Quorum, text: &dyn Fn(&str) -> String, ends: &Endpoints) -> Result<Quorum, String> {
    let path = text(SECRET);
    if !path.is_empty() {
        named.secret = Some(read_secret(Path::new(&path))?);
        return Ok(named);
    }
    let far = |address: &&Address| !is_loopback(&address.host);
    let voters = named.voters.iter().map(|voter| &voter.address);
    let other = voters.chain(&named.bootstrap).find(far);
    let open = |address: &&Address| far(address) && !address.is_any();
    // Without a listener of its own the peer link shares that of clients.
    let shared = ends.listeners.iter().map(|l| &l.address).find(far).filter(|_| ends.controllers.is_empty());
    let why = match (other, ends.controllers.iter().find(open).or(shared)) {
        (Some(address), _) => format!("{address} is not a loopback address"),
        (None, Some(listener)) => {
            format!("the listener {listener}, where nodes connect, is open to other machines")
        }
        (None, None) => {
            named.narrowed = ends.controllers.iter().any(Address::is_any);
            return Ok(named);
        }
    };
    Err(format!(
        "{SECRET}: must be set, for {why}, and whoever reaches a node could join; name a file that is the same on \
         every node, made by: {MAKE}"
    ))
}

const MAKE: &str = "(umask 077; head -c 32 /dev/urandom | base64 > FILE)";

/// Names are taken for remote, but for those that never are: nothing is looked up before the start.
fn is_loopback(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let bare = host.split('%').next().unwrap_or_default();
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// Reads the file; white space around the secret does not count, as editors and `echo` add a line's end.
///
/// A file that everybody may read or write is refused rather than warned of: what each user of the machine
/// knows, or chooses, proves nothing, and a warning in a log is read after the harm. The group may read it,
/// as files are handed to containers.
fn read_secret(path: &Path) -> Result<Secret, String> {
    let bad = |what: String| format!("{SECRET}: {}: {what}", path.display());
    let failed = |e: std::io::Error| {
        bad(format!(
            "{e}; it must be a file that this user can read, the same on every node, made by: {MAKE}"
        ))
    };
    // Asked before it is opened: to open a pipe is to wait for its other end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(bad("is no regular file".to_owned()));
    }
    let file = std::fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode();
    if mode & FOR_EVERYBODY != 0 {
        return Err(bad(format!(
            "every user of this machine can read or write it (mode {:03o}); make a new secret, and chmod 600",
            mode & 0o777
        )));
    }
    let mut bytes = Vec::new();
    file.take(MOST_SECRET as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MOST_SECRET {
        return Err(bad(format!("has more than {MOST_SECRET} bytes; a secret is one line, made by: {MAKE}")));
    }
    let secret = bytes.trim_ascii();
    if secret.len() < LEAST_SECRET {
        return Err(bad(format!(
            "holds a secret of {} bytes, {LEAST_SECRET} at least; make one by: {MAKE}",
            secret.len()
        )));
    }
    Ok(Secret(secret.to_owned()))
}

#[cfg(test)]
mod tests;
