//! Reaching the cluster, and telling people what to do when that fails.
use super::coordinated::without_leader;
use crate::cluster_cmd::quorum::leaderless;
use anyhow::anyhow;
use clap::Args;
use client_lite::{Client, ClientError, ClientOptions, ConnOptions};
use model::ErrorCode;
use std::sync::Arc;
use std::time::Duration;

/// How to reach the cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConnectArgs {
    /// Addresses of one or more brokers, host:port, with commas between them.
    #[arg(
        short = 'b',
        long = "bootstrap-server",
        visible_alias = "brokers",
        alias = "bootstrap",
        env = BOOTSTRAP_VARIABLE,
        default_value = BOOTSTRAP,
        value_name = "HOST:PORT"
    )]
    bootstrap: String,
    /// Seconds after which the command gives up. Commands that run on, produce and consume, count them anew
    /// for each step: a batch, an answer; the time to join a group is not counted.
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=MOST_SECONDS))]
    timeout: u64,
}

/// Where a broker is looked for that nothing names.
const BOOTSTRAP: &str = "127.0.0.1:9092";
/// Names one for all commands.
const BOOTSTRAP_VARIABLE: &str = "PLIMSOLL_BOOTSTRAP_SERVER";

/// A longer limit is none.
const MOST_SECONDS: u64 = 1 << 30;

impl ConnectArgs {
    /// How long a command, or a step of one that runs on, may take: for [`within`].
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    /// ` -b ADDRESS` for a command that people are told to run next, where it would else look for another cluster.
    pub(crate) fn flag(&self) -> String {
        let unnamed = std::env::var(BOOTSTRAP_VARIABLE).unwrap_or_else(|_| BOOTSTRAP.to_owned());
        if self.bootstrap == unnamed { String::new() } else { format!(" -b {}", self.bootstrap) }
    }

    /// Connects to the cluster.
    pub(crate) async fn client(&self) -> anyhow::Result<Arc<Client>> {
        let limit = self.limit();
        // Addresses that are silent, one after the other, leave time for what is to be done.
        let addresses = u32::try_from(self.bootstrap.split(',').count()).unwrap_or(u32::MAX);
        let share = (limit / addresses.saturating_add(1)).min(Duration::from_secs(5));
        let conn = ConnOptions {
            client_id: "plimsoll-cli".to_owned(),
            connect_timeout: share,
            handshake_timeout: share,
            request_timeout: limit + Duration::from_secs(5),
            ..ConnOptions::default()
        };
        let options = ClientOptions { conn, retry_for: limit, ..ClientOptions::default() };
        Client::connect(&self.bootstrap, options).await.map(Arc::new).map_err(advise)
    }
}

/// How long the metadata's leader may take to say that it is there: a share of what the whole may take.
pub(crate) fn patience(limit: Duration) -> Duration {
    (limit / 10).clamp(Duration::from_secs(1), Duration::from_secs(3))
}

/// What a command does to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// It looks, and changes nothing.
    Look,
    /// It changes something.
    Change,
}

impl Does {
    /// The command that changes something only when it is told to.
    pub(crate) fn change_if(execute: bool) -> Does {
        if execute { Does::Change } else { Does::Look }
    }
}

impl ConnectArgs {
    /// As [`within`], for what needs the leader of the metadata: where the cluster says that it has none, so does
    /// the error.
    pub(crate) async fn within_leader<T>(
        &self,
        run: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let limit = self.limit();
        let ask = async |client: Arc<Client>| {
            let cluster = client.all_topics().await.ok()?;
            leaderless(&client, &cluster, patience(limit)).await
        };
        match self.within_or_why(ask, run).await {
            Ok(done) => done,
            Err(None) => Err(late(limit, Does::Change)),
            Err(Some(why)) => Err(anyhow!(
                "not done within {} s: {why}\n  Start these nodes; `plimsoll cluster status` shows what there is.",
                limit.as_secs()
            )),
        }
    }

    /// As [`within`], for what the leaders of these topics' partitions are asked: where some have none, the error says so.
    pub(crate) async fn within_leaders_of<T>(
        &self,
        topics: &[&str],
        does: Does,
        run: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let limit = self.limit();
        let ask = async |client: Arc<Client>| {
            let cluster = client.refresh(topics).await.ok()?;
            let why: Vec<String> = topics.iter().filter_map(|t| without_leader(&cluster, t)).collect();
            (!why.is_empty()).then(|| why.join(", "))
        };
        match self.within_or_why(ask, run).await {
            Ok(done) => done,
            Err(None) => Err(late(limit, does)),
            Err(Some(why)) => Err(anyhow!(
                "not done within {} s: {why}{}\n  `plimsoll cluster status` says why.",
                limit.as_secs(),
                all_the_same(does)
            )),
        }
    }

    /// What `run` comes to, or after the limit what `ask` says of the reason. It asks shortly before time is up.
    async fn within_or_why<T>(
        &self,
        ask: impl AsyncFnOnce(Arc<Client>) -> Option<String>,
        run: impl Future<Output = anyhow::Result<T>>,
    ) -> Result<anyhow::Result<T>, Option<String>> {
        let (limit, begun) = (self.limit(), tokio::time::Instant::now());
        let ask = async {
            tokio::time::sleep(limit.saturating_sub(patience(limit) * 2)).await;
            // A connection of its own: on the other one the answer would wait for those before it.
            ask(self.client().await.ok()?).await
        };
        tokio::pin!(run);
        let why = tokio::select! {
            done = &mut run => return Ok(done),
            why = tokio::time::timeout(limit, ask) => why.ok().flatten(),
        };
        let left = limit.saturating_sub(begun.elapsed());
        tokio::time::timeout(left, &mut run).await.map_err(|_| why)
    }
}

fn late(limit: Duration, does: Does) -> anyhow::Error {
    anyhow!(
        "not done within {} s{}\n  The broker may be overloaded; --timeout SECONDS raises the limit.",
        limit.as_secs(),
        all_the_same(does)
    )
}

fn all_the_same(does: Does) -> &'static str {
    match does {
        Does::Look => "",
        Does::Change => "; what was asked of the cluster may be carried out all the same",
    }
}

/// Gives up what takes longer than `limit`, however its own retries and time limits add up.
pub(crate) async fn within<T>(
    limit: Duration,
    run: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    match tokio::time::timeout(limit, run).await {
        Ok(done) => done,
        Err(_) => Err(late(limit, Does::Change)),
    }
}

/// The error, and what to do about it.
pub(crate) fn advise(error: ClientError) -> anyhow::Error {
    let error = explained(error);
    let hint = match &error {
        ClientError::Bootstrap { .. } => {
            "Is the broker running? Start one with `plimsoll serve`, or name another with --bootstrap-server."
        }
        ClientError::Connect { .. } => {
            "The cluster names this address for one of its brokers (advertised.listeners); it must be \
             reachable from here."
        }
        ClientError::NoCommonVersion { .. } => "Kafka 4.0 or newer is needed.",
        ClientError::Timeout { .. } => "The broker may be overloaded; --timeout raises the limit.",
        ClientError::Broker { code, .. } => advice_for(*code),
        ClientError::Missing { .. } => "`plimsoll topic list` shows what there is.",
        _ => "",
    };
    if hint.is_empty() { anyhow!(error) } else { anyhow!("{error}\n  {hint}") }
}

/// The error with words for its code, where the broker gave none of its own.
fn explained(error: ClientError) -> ClientError {
    let ClientError::Broker { what, code, message } = error else { return error };
    let own = message.filter(|text| !text.is_empty() && *text != code.to_string());
    let message = own.or_else(|| meaning(code).map(str::to_owned));
    ClientError::Broker { what, code, message }
}

fn meaning(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::TransactionalIdNotFound => "its coordinator knows no such transactional id",
        ErrorCode::GroupSubscribedToTopic => "members of the group subscribe to the topic",
        ErrorCode::CoordinatorNotAvailable => "the partition that it is kept in has no leader",
        _ => return None,
    })
}

fn advice_for(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::UnknownTopicOrPartition => {
            "`plimsoll topic list` shows the topics, `plimsoll topic create NAME` makes one."
        }
        ErrorCode::TopicAlreadyExists => {
            "`plimsoll topic describe NAME` shows it; --if-not-exists accepts it."
        }
        ErrorCode::NoReassignmentInProgress => {
            "It is not being moved; `plimsoll cluster status` shows what is."
        }
        ErrorCode::NotController => {
            "The metadata has no leader: a majority of its voters is not reached. `plimsoll cluster status` shows \
             which nodes run."
        }
        ErrorCode::InvalidConfig => "`plimsoll topic describe NAME --configs` lists the keys of a topic.",
        ErrorCode::InvalidReplicationFactor => "There are fewer brokers than replicas asked for.",
        ErrorCode::GroupIdNotFound => "`plimsoll group list` shows the groups.",
        ErrorCode::TransactionalIdNotFound => "`plimsoll txn list` shows the transactional ids.",
        ErrorCode::GroupSubscribedToTopic => {
            "Stop those members first; `plimsoll group members NAME` shows them."
        }
        ErrorCode::CoordinatorNotAvailable => "`plimsoll cluster status` says which nodes are missing.",
        ErrorCode::TransactionCoordinatorFenced => {
            "The partition knows a marker of a newer coordinator: --coordinator-epoch names an epoch, `plimsoll txn \
             producers TOPIC PARTITION` shows which."
        }
        ErrorCode::NonEmptyGroup => "`plimsoll group members NAME` shows who is in it.",
        ErrorCode::OffsetOutOfRange => "`plimsoll topic describe NAME` shows the offsets that there are.",
        ErrorCode::MessageTooLarge => {
            "`plimsoll topic alter-config NAME --set max.message.bytes=BYTES` raises the limit."
        }
        ErrorCode::KafkaStorageError => {
            "The broker's disk is full or has failed, or the partition's files are damaged; its log says which."
        }
        ErrorCode::LeaderNotAvailable => {
            "If it stays so, the log of the partition's broker says why; `plimsoll topic describe NAME` shows which."
        }
        ErrorCode::CorruptMessage => {
            "The broker's log names file and byte. `plimsoll log verify DIR` checks all files while the broker is \
             stopped: restore that one from a copy, or read on behind the damage with consume -p PARTITION \
             -o OFFSET."
        }
        ErrorCode::NotEnoughReplicas => {
            "Too few replicas are in sync; `plimsoll topic describe NAME` shows which."
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: ErrorCode, message: Option<&str>) -> String {
        advise(ClientError::broker("group g", code.code(), message.map(str::to_owned))).to_string()
    }

    #[test]
    fn a_bare_code_is_told_with_what_it_means_and_what_to_do() {
        for (code, means, hint) in [
            (ErrorCode::TransactionalIdNotFound, "knows no such transactional id", "plimsoll txn list"),
            (ErrorCode::GroupSubscribedToTopic, "subscribe to the topic", "plimsoll group members"),
            (ErrorCode::CoordinatorNotAvailable, "has no leader", "plimsoll cluster status"),
        ] {
            for message in [None, Some(""), Some(code.to_string().as_str())] {
                let text = told(code, message);
                assert!(text.contains(means) && text.contains(hint), "{text}");
            }
            assert!(told(code, Some("in its own words")).contains("(in its own words)"));
        }
    }

    #[test]
    fn only_what_changes_something_may_be_carried_out_after_all() {
        let limit = Duration::from_secs(8);
        assert!(late(limit, Does::Change).to_string().contains("carried out all the same"));
        let looked = late(limit, Does::Look).to_string();
        assert!(looked.starts_with("not done within 8 s\n"), "{looked}");
    }
}
