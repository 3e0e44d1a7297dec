//! Three processes of Plimsoll that are one cluster: how they are told of each other, and what must hold of them.
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::brokers::free_port;

const NODES: usize = 3;

/// Port, directory below `dir` and configuration of each node.
pub(crate) fn properties(dir: &Path) -> Vec<(u16, PathBuf, String)> {
    let ports: Vec<(u16, u16)> = (0..NODES).map(|_| (free_port(), free_port())).collect();
    let voters: Vec<_> =
        (1..).zip(&ports).map(|(id, (_, controller))| format!("{id}@127.0.0.1:{controller}")).collect();
    let node = |(id, (port, controller)): (usize, &(u16, u16))| {
        let dir = dir.join(format!("node-{id}"));
        let text = format!(
            "process.roles=broker,controller\nnode.id={id}\ncontroller.quorum.voters={}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\nlog.dirs={}\n\
             default.replication.factor=3\nmin.insync.replicas=2\noffsets.topic.replication.factor=3\n\
             transaction.state.log.replication.factor=3\ntransaction.state.log.min.isr=2\n\
             share.coordinator.state.topic.replication.factor=3\nshare.coordinator.state.topic.min.isr=2\n\
             group.initial.rebalance.delay.ms=0\n",
            voters.join(","),
            dir.join("data").display()
        );
        (*port, dir, text)
    };
    (1..).zip(&ports).map(node).collect()
}

/// What a command of `plimsoll` answers as JSON.
fn ask(binary: &Path, bootstrap: &str, command: &[&str]) -> Result<Value> {
    let mut plimsoll = Command::new(binary);
    plimsoll.args(command).args(["--format", "json", "--timeout", "10", "-b", bootstrap]);
    let output = plimsoll.output().with_context(|| format!("{plimsoll:?}"))?;
    if !output.status.success() {
        bail!("plimsoll {}: {}", command.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("plimsoll {}", command.join(" ")))
}

/// Repeats a test until it passes; its last error if it does not within the time.
fn eventually(patience: Duration, test: impl Fn() -> Result<()>) -> Result<()> {
    let end = Instant::now() + patience;
    loop {
        match test() {
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(100)),
            result => return result,
        }
    }
}

fn length(document: &Value, name: &str) -> usize {
    document[name].as_array().map_or(0, Vec::len)
}

/// Waits until every node is told of every other.
pub(crate) fn wait_until_formed(binary: &Path, bootstrap: &str, patience: Duration) -> Result<()> {
    for address in bootstrap.split(',') {
        eventually(patience, || {
            let status = ask(binary, address, &["cluster", "status"])?;
            let nodes = length(&status, "brokers");
            ensure!(nodes == NODES, "{address} knows of {nodes} nodes, not of {NODES}");
            Ok(())
        })?;
    }
    Ok(())
}

/// The topics that begin with `prefix`, and the broker's own, have three replicas, and all of them get in sync.
pub(crate) fn judge_replicas(binary: &Path, bootstrap: &str, prefix: &str, patience: Duration) -> Result<()> {
    let topics = ask(binary, bootstrap, &["topic", "list", "--internal"])?;
    judge_topics(&topics, prefix)?;
    eventually(patience, || {
        let status = ask(binary, bootstrap, &["cluster", "status"])?;
        for problem in ["withoutLeader", "underReplicated"] {
            ensure!(length(&status, problem) == 0, "{problem}: {}", status[problem]);
        }
        Ok(())
    })
}

fn judge_topics(topics: &Value, prefix: &str) -> Result<()> {
    let mut judged = 0;
    for topic in topics.as_array().context("a list of topics")? {
        let name = topic["topic"].as_str().context("a topic's name")?;
        if name.starts_with(prefix) || topic["internal"] == true {
            judged += 1;
            let replicas = topic["replicationFactor"].as_u64();
            ensure!(replicas == Some(NODES as u64), "topic {name} has {replicas:?} replicas, not {NODES}");
        }
    }
    ensure!(judged > 0, "no topic begins with {prefix}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{judge_topics, properties};
    use serde_json::json;
    use std::path::Path;

    #[test]
    fn the_nodes_differ_only_in_what_is_their_own() {
        let nodes = properties(Path::new("/x"));
        let shared = |at: usize| -> Vec<&str> {
            let own = ["node.id=", "listeners=", "log.dirs="];
            nodes[at].2.lines().filter(|line| !own.iter().any(|key| line.starts_with(key))).collect()
        };
        assert_eq!((shared(0), shared(1)), (shared(1), shared(2)));
        let voters =
            shared(0).into_iter().find(|line| line.starts_with("controller.quorum.voters=")).unwrap();
        for (id, (port, dir, text)) in (1..).zip(&nodes) {
            let controller =
                voters.split([',', '=']).find(|voter| voter.starts_with(&format!("{id}@"))).unwrap();
            let controller = controller.split_once('@').unwrap().1;
            let listeners = format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://{controller}");
            assert!(text.lines().any(|line| line == listeners), "{listeners} in {text}");
            assert!(text.contains(&format!("log.dirs={}/data\n", dir.display())));
        }
    }

    #[test]
    fn a_topic_with_fewer_replicas_is_told() {
        let topic = |name: &str, internal, replicas| json!({"topic": name, "internal": internal, "replicationFactor": replicas});
        let fine =
            [topic("kcat-keys", false, 3), topic("__consumer_offsets", true, 3), topic("newtopic", false, 1)];
        judge_topics(&json!(fine), "kcat").unwrap();
        for wrong in [topic("kcat-bulk", false, 1), topic("__consumer_offsets", true, 1)] {
            let said = judge_topics(&json!([fine[0].clone(), wrong]), "kcat").unwrap_err().to_string();
            assert!(said.ends_with("has Some(1) replicas, not 3"), "{said}");
        }
        assert!(judge_topics(&json!([fine[2]]), "kcat").is_err(), "nothing was judged");
    }
}
