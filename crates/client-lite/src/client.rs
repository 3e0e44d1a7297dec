//! A cluster as a client sees it: bootstrap, metadata, routing, retries.
use crate::conn::{Conn, ConnOptions};
use crate::error::{ClientError, check};
use crate::topic::{Cluster, Topic};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use wire::metadata_request::MetadataRequestTopic;
use wire::{ApiKey, FindCoordinatorRequest, MetadataRequest, RequestMessage, Str};

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Of each connection.
    pub conn: ConnOptions,
    /// How long retriable failures are retried before they are told.
    pub retry_for: Duration,
    /// The first pause between two tries; it doubles up to [`ClientOptions::backoff_max`].
    pub backoff: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            conn: ConnOptions::default(),
            retry_for: Duration::from_secs(30),
            backoff: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
        }
    }
}

/// What is cached of a cluster.
#[derive(Debug, Default)]
struct Known {
    cluster: Cluster,
    conns: BTreeMap<i32, Arc<Conn>>,
    bootstrap: Option<Arc<Conn>>,
    /// The coordinators last asked for, by type and key: one of each type.
    coordinators: BTreeMap<i8, (String, i32)>,
}

/// A client of one cluster. All methods take `&self`; share it by `Arc`.
#[derive(Debug)]
pub struct Client {
    bootstrap: Vec<String>,
    pub(crate) options: ClientOptions,
    known: Mutex<Known>,
}

/// The type that FindCoordinator calls a group.
const GROUP_COORDINATOR: i8 = 0;

/// Tells when to try again, and when to give up.
pub(crate) struct Retry {
    deadline: Instant,
    pause: Duration,
    longest: Duration,
}

impl Retry {
    pub(crate) fn new(options: &ClientOptions) -> Retry {
        Retry {
            deadline: Instant::now() + options.retry_for,
            pause: options.backoff,
            longest: options.backoff_max,
        }
    }

    /// Waits before the next try; gives `error` back when it is final or time is up.
    pub(crate) async fn after(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !error.is_retriable() || Instant::now() + self.pause >= self.deadline {
            return Err(error);
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(self.longest);
        Ok(())
    }
}

impl Client {
    /// A client that finds its cluster by `bootstrap`: `host:port`, several with commas between them.
    /// Connects to none of them yet.
    pub fn new(bootstrap: &str, options: ClientOptions) -> Client {
        let bootstrap =
            bootstrap.split(',').map(str::trim).filter(|a| !a.is_empty()).map(with_port).collect();
        Client { bootstrap, options, known: Mutex::default() }
    }

    /// As [`Client::new`], and connects, so that a wrong address is told at once.
    pub async fn connect(bootstrap: &str, options: ClientOptions) -> Result<Client, ClientError> {
        let client = Client::new(bootstrap, options);
        client.any().await?;
        Ok(client)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to any broker.
    pub async fn any(&self) -> Result<Arc<Conn>, ClientError> {
        let open = {
            let known = self.known();
            let mut conns = known.conns.values().chain(&known.bootstrap);
            conns.find(|c| !c.is_closed()).cloned()
        };
        if let Some(conn) = open {
            return Ok(conn);
        }
        let mut addresses = self.bootstrap.clone();
        addresses.extend(self.known().cluster.brokers.iter().map(|b| b.address()));
        let mut options = self.options.conn.clone();
        if addresses.len() == 1 {
            // There is no other one to turn to.
            options.handshake_timeout = options.request_timeout;
        }
        let mut tried = Vec::new();
        for address in &addresses {
            match Conn::connect(address, options.clone()).await {
                Ok(conn) => {
                    let conn = Arc::new(conn);
                    self.known().bootstrap = Some(conn.clone());
                    return Ok(conn);
                }
                Err(error) => tried.push(error),
            }
        }
        if tried.is_empty() {
            tried.push(ClientError::Missing { what: "a bootstrap address".to_owned() });
        }
        Err(ClientError::Bootstrap { addresses: self.bootstrap.join(", "), tried })
    }

    /// A connection to the broker with this id.
    pub async fn node(&self, id: i32) -> Result<Arc<Conn>, ClientError> {
        if let Some(conn) = self.known().conns.get(&id).filter(|c| !c.is_closed()) {
            return Ok(conn.clone());
        }
        let address = self.known().cluster.broker(id).map(|b| b.address());
        let address = match address {
            Some(address) => address,
            None => {
                let cluster = self.refresh(&[]).await?;
                let found = cluster.broker(id).map(|b| b.address());
                found.ok_or_else(|| ClientError::Missing { what: format!("broker {id}") })?
            }
        };
        let conn = Arc::new(Conn::connect(&address, self.options.conn.clone()).await?);
        self.known().conns.insert(id, conn.clone());
        Ok(conn)
    }

    /// A connection to a broker that another one named. Errors: retriable while the cluster does not list it: it died in
    /// between, or the broker that was asked has not heard of it yet.
    pub(crate) async fn named(&self, id: i32) -> Result<Arc<Conn>, ClientError> {
        match self.node(id).await {
            Err(ClientError::Missing { .. }) => Err(ClientError::Gone { id }),
            found => found,
        }
    }

    /// Asks for the cluster and `topics`, and remembers the answer. Topics are not created by asking.
    pub async fn refresh(&self, topics: &[&str]) -> Result<Cluster, ClientError> {
        self.metadata(Some(topics), false).await
    }

    /// Asks for the cluster and all its topics.
    pub async fn all_topics(&self) -> Result<Cluster, ClientError> {
        self.metadata(None, false).await
    }

    /// Asks for the cluster and `topics`; `create` lets the broker create those that are missing.
    pub async fn metadata(&self, topics: Option<&[&str]>, create: bool) -> Result<Cluster, ClientError> {
        let mut retry = Retry::new(&self.options);
        loop {
            match self.metadata_once(topics, create).await {
                Ok(cluster) => return Ok(cluster),
                Err(error) => retry.after(error).await?,
            }
        }
    }

    async fn metadata_once(&self, topics: Option<&[&str]>, create: bool) -> Result<Cluster, ClientError> {
        let conn = self.any().await?;
        let version = conn.version(ApiKey::Metadata)?;
        let mut request = MetadataRequest { allow_auto_topic_creation: create, ..Default::default() };
        let wanted =
            |name: &&str| MetadataRequestTopic { name: Some(Str::from(*name)), ..Default::default() };
        request.topics = topics.map(|names| names.iter().map(wanted).collect());
        let answer = conn.request_at(request, version).await?;
        check(|| "Metadata".to_owned(), answer.error_code, None)?;
        let cluster = Cluster::from_answer(&answer);
        let mut known = self.known();
        known.cluster.learn(&cluster);
        known.conns.retain(|id, conn| !conn.is_closed() && cluster.broker(*id).is_some());
        Ok(cluster)
    }

    /// A topic, from the cache if it is there. Errors: the broker's code, `UNKNOWN_TOPIC_OR_PARTITION`
    /// for one that does not exist.
    pub async fn topic(&self, name: &str) -> Result<Topic, ClientError> {
        if let Some(topic) = self.known().cluster.topic(name).filter(|t| t.error_code == 0) {
            return Ok(topic.clone());
        }
        let cluster = self.refresh(&[name]).await?;
        let missing = || ClientError::Missing { what: format!("topic {name}") };
        let topic = cluster.topic(name).ok_or_else(missing)?;
        check(|| format!("topic {name}"), topic.error_code, None)?;
        Ok(topic.clone())
    }

    /// A topic that is created by asking, as a producer asks; waits until it has leaders, but for partitions
    /// that are offline.
    pub async fn topic_created(&self, name: &str) -> Result<Topic, ClientError> {
        let mut retry = Retry::new(&self.options);
        loop {
            let cluster = self.metadata(Some(&[name]), true).await?;
            let Some(topic) = cluster.topic(name) else {
                return Err(ClientError::Missing { what: format!("topic {name}") });
            };
            let leaderless = topic.partitions.iter().any(|p| p.leader < 0 && p.offline.is_empty());
            let code = match topic.error_code {
                0 if leaderless => model::ErrorCode::LeaderNotAvailable.code(),
                code => code,
            };
            match check(|| format!("topic {name}"), code, None) {
                Ok(()) => return Ok(topic.clone()),
                Err(error) => retry.after(error).await?,
            }
        }
    }

    /// Drops what is cached of a topic, because a broker said that it is stale.
    pub fn forget_topic(&self, name: &str) {
        self.known().cluster.topics.retain(|t| t.name != name);
    }

    /// A connection to the leader of a partition, and the leader's epoch. Errors: retriable while the
    /// partition has no leader.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<(Arc<Conn>, i32), ClientError> {
        let row = self.topic(topic).await?;
        let missing = || ClientError::Missing { what: format!("{topic}-{partition}") };
        let row = row.partitions.iter().find(|p| p.index == partition).ok_or_else(missing)?;
        let leader = row.led_by(topic).inspect_err(|_| self.forget_topic(topic))?;
        match self.named(leader).await {
            Ok(conn) => Ok((conn, row.epoch)),
            Err(error) => {
                self.forget_topic(topic);
                Err(error)
            }
        }
    }

    /// A connection to the coordinator of a group.
    pub async fn coordinator(&self, group: &str) -> Result<Arc<Conn>, ClientError> {
        self.coordinator_of(GROUP_COORDINATOR, group).await
    }

    /// A connection to the coordinator of what FindCoordinator calls `kind`.
    pub(crate) async fn coordinator_of(&self, kind: i8, key: &str) -> Result<Arc<Conn>, ClientError> {
        let known = |known: &Known| known.coordinators.get(&kind).filter(|c| c.0 == key).map(|c| c.1);
        let cached = known(&self.known());
        let node = match cached {
            Some(node) => node,
            None => self.find_coordinator(kind, key).await?,
        };
        match self.named(node).await {
            Ok(conn) => Ok(conn),
            Err(error) => {
                self.forget_coordinator_of(kind, key);
                Err(error)
            }
        }
    }

    async fn find_coordinator(&self, kind: i8, key: &str) -> Result<i32, ClientError> {
        let mut retry = Retry::new(&self.options);
        loop {
            match self.find_coordinator_once(kind, key).await {
                Ok(node) => {
                    self.known().coordinators.insert(kind, (key.to_owned(), node));
                    return Ok(node);
                }
                Err(error) => retry.after(error).await?,
            }
        }
    }

    pub(crate) async fn find_coordinator_once(&self, kind: i8, key: &str) -> Result<i32, ClientError> {
        let conn = self.any().await?;
        let version = conn.version(ApiKey::FindCoordinator)?;
        let mut request = FindCoordinatorRequest { key_type: kind, ..Default::default() };
        let of = if kind == GROUP_COORDINATOR { "group" } else { "transactional id" };
        let what = || format!("coordinator of {of} {key}");
        if version < 4 {
            request.key = Str::from(key);
            let answer = conn.request_at(request, version).await?;
            check(what, answer.error_code, answer.error_message.as_deref())?;
            return Ok(answer.node_id);
        }
        request.coordinator_keys = vec![Str::from(key)];
        let answer = conn.request_at(request, version).await?;
        let row = answer.coordinators.first().ok_or_else(|| ClientError::Missing { what: what() })?;
        check(what, row.error_code, row.error_message.as_deref())?;
        Ok(row.node_id)
    }

    /// Drops the cached coordinator of a group, because a broker said that it is another.
    pub fn forget_coordinator(&self, group: &str) {
        self.forget_coordinator_of(GROUP_COORDINATOR, group);
    }

    pub(crate) fn forget_coordinator_of(&self, kind: i8, key: &str) {
        let mut known = self.known();
        if known.coordinators.get(&kind).is_some_and(|(cached, _)| cached == key) {
            known.coordinators.remove(&kind);
        }
    }

    /// Sends a request to any broker; lost connections are retried, answers are not looked at.
    pub async fn ask_any<R: RequestMessage + Clone>(&self, request: R) -> Result<R::Response, ClientError> {
        let mut retry = Retry::new(&self.options);
        loop {
            let answer = match self.any().await {
                Ok(conn) => conn.request(request.clone()).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => retry.after(error).await?,
            }
        }
    }

    /// Sends a request to the coordinator of `group`; `code_of` finds the error code in the answer, by
    /// which a moved or loading coordinator is tried again.
    pub async fn ask_coordinator<R: RequestMessage + Clone>(
        &self,
        group: &str,
        request: R,
        code_of: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, ClientError> {
        let mut retry = Retry::new(&self.options);
        loop {
            let answer = match self.coordinator(group).await {
                Ok(conn) => conn.request(request.clone()).await,
                Err(error) => Err(error),
            };
            let error = match answer {
                Ok(answer) if coordinator_moved(code_of(&answer)) => {
                    ClientError::broker(format!("coordinator of group {group}"), code_of(&answer), None)
                }
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.forget_coordinator(group);
            retry.after(error).await?;
        }
    }
}

fn coordinator_moved(code: i16) -> bool {
    use model::ErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    [CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator].iter().any(|c| c.code() == code)
}

/// `host` alone means Kafka's usual port.
fn with_port(address: &str) -> String {
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { address.to_owned() } else { format!("{address}:9092") }
}
