//! Which coordinator has which groups.
use anyhow::{Context, Result, bail};
use client_lite::{Client, ClientOptions};
use coordinator::coordinator_partition_for;
use model::ErrorCode;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use wire::{FindCoordinatorRequest, Str};

const GROUP: i8 = 0;
/// Groups in one question.
const CHUNK: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(50);
const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Whether Kafka's clients try this code again.
pub(super) fn is_retriable(code: i16) -> bool {
    ErrorCode::from_code(code).is_some_and(ErrorCode::is_retriable)
}

/// Groups by the address of their coordinator.
pub(super) struct Route {
    pub(super) by_coordinator: BTreeMap<String, Vec<String>>,
}

impl Route {
    /// Asks for the coordinators of all groups, until each has one.
    pub(super) fn find(bootstrap: &str, groups: &[String]) -> Result<Route> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = Client::connect(bootstrap, ClientOptions::default()).await?;
            let mut route = Route { by_coordinator: BTreeMap::new() };
            for chunk in groups.chunks(CHUNK) {
                route.find_chunk(&client, chunk).await?;
            }
            Ok(route)
        })
    }

    pub(super) fn groups(&self) -> usize {
        self.by_coordinator.values().map(Vec::len).sum()
    }

    async fn find_chunk(&mut self, client: &Client, groups: &[String]) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let mut left: Vec<Str> = groups.iter().map(Str::from).collect();
        while !left.is_empty() {
            let request = FindCoordinatorRequest {
                key_type: GROUP,
                coordinator_keys: std::mem::take(&mut left),
                ..Default::default()
            };
            let answer = client.ask_any(request).await?;
            for row in answer.coordinators {
                match row.error_code {
                    0 => {
                        let bracketed = row.host.contains(':');
                        let host = if bracketed { format!("[{}]", &*row.host) } else { row.host.to_string() };
                        let address = format!("{host}:{}", row.port);
                        self.by_coordinator.entry(address).or_default().push(row.key.to_string());
                    }
                    code if is_retriable(code) && Instant::now() < until => left.push(row.key),
                    code => bail!(
                        "the coordinator of '{}' is not found: {}",
                        &*row.key,
                        crate::bench::report::name_of(code)
                    ),
                }
            }
            if !left.is_empty() {
                tokio::time::sleep(AGAIN).await;
            }
        }
        Ok(())
    }
}

/// The partitions of the topic of offsets, which is made by asking for a coordinator.
fn offsets_partitions(bootstrap: &str, group: &str) -> Result<i32> {
    Route::find(bootstrap, &[group.to_owned()])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::connect(bootstrap, ClientOptions::default()).await?;
        let topic = client.topic(OFFSETS_TOPIC).await.context("the topic of offsets")?;
        Ok(i32::try_from(topic.partitions.len())?)
    })
}

/// `count` groups `prefix-0` and so on; only those in the same coordinator partition as `beside`, if it is given.
pub(super) fn names(
    bootstrap: &str,
    prefix: &str,
    count: usize,
    beside: Option<&str>,
) -> Result<Vec<String>> {
    let partitions = match beside {
        Some(group) => offsets_partitions(bootstrap, group)?,
        None => 1,
    };
    Ok(names_beside(prefix, count, beside.unwrap_or_default(), partitions))
}

fn names_beside(prefix: &str, count: usize, beside: &str, partitions: i32) -> Vec<String> {
    let home = coordinator_partition_for(beside, partitions);
    let all = (0..).map(|n: u64| format!("{prefix}-{n}"));
    all.filter(|name| coordinator_partition_for(name, partitions) == home).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_beside_another_share_its_partition_and_are_as_many_as_asked_for() {
        let names = names_beside("g", 100, "home", 50);
        assert_eq!(names.len(), 100);
        let home = coordinator_partition_for("home", 50);
        assert!(names.iter().all(|name| coordinator_partition_for(name, 50) == home));
        assert_eq!(names_beside("g", 2, "", 1), ["g-0", "g-1"]);
    }
}
