//! One of three nodes leads everything that is written: it gets even by itself.
use crate::cluster::{Acked, check, produce};
use crate::nodes::{Nodes, client, run, wait_in_sync};
use crate::server::{PATIENCE, wait_for};
use bytes::Bytes;
use client_lite::{Acks, Client, NewTopic};
use records::{BatchBuilder, NewRecord};
use serde_json::Value;
use std::cell::Cell;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 6;

/// Partitions that node 1 is preferred for.
fn on_the_first(name: &str, partitions: i32) -> NewTopic {
    let assignment = vec![vec![1, 2, 3]; partitions as usize];
    NewTopic { name: name.to_owned(), assignment, ..NewTopic::default() }
}

/// 16 KiB twenty times a second until it is stopped.
async fn load(addresses: String, partition: i32, stop: Rc<Cell<bool>>) {
    let client = client(&addresses).await;
    let mut batch = BatchBuilder::new();
    batch.push(NewRecord::new(-1, None, Some(&[7; 16 << 10])));
    let batch: Bytes = batch.finish().unwrap().freeze();
    while !stop.get() {
        if let Err(error) = client.produce("hot", partition, batch.clone(), Acks::All).await {
            assert!(error.is_retriable(), "{error}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Of each partition: who leads, and who is preferred.
async fn leaders(client: &Client) -> Vec<(i32, i32)> {
    let cluster = client.refresh(&["hot"]).await.unwrap();
    cluster.topic("hot").unwrap().partitions.iter().map(|p| (p.leader, p.replicas[0])).collect()
}

async fn ask(nodes: &Nodes, args: &[&str]) -> String {
    let mut command = tokio::process::Command::from(Command::new(env!("CARGO_BIN_EXE_plimsoll")));
    let output = command.args(args).args(["-b", &nodes.addresses()]).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs a broker"]
fn leads_move_off_a_node_that_leads_everything_and_stay_there() {
    let mut nodes = Nodes::new(3);
    // A look each second, averages over two, and little is much.
    nodes.set("leader.imbalance.check.interval.seconds=10");
    nodes.set("internal.leader.imbalance.margin.bytes=65536");
    nodes.start_all();
    let addresses = nodes.addresses();
    run(async {
        let client = client(&addresses).await;
        client.create_topic(&on_the_first("hot", PARTITIONS), false).await.unwrap();
        client.create_topic(&on_the_first("kept", 1), false).await.unwrap();
    });
    wait_in_sync(&nodes, 1, "hot");
    wait_in_sync(&nodes, 1, "kept");
    let (stop, acked) = (Rc::new(Cell::new(false)), Rc::new(Acked::default()));
    run(async {
        let producing = tokio::task::spawn_local(produce(addresses.clone(), 0, acked.clone()));
        let loads: Vec<_> = (0..PARTITIONS)
            .map(|p| tokio::task::spawn_local(load(addresses.clone(), p, stop.clone())))
            .collect();
        let look = client(&addresses).await;
        let begun = Instant::now();
        let even = loop {
            let now = leaders(&look).await;
            let of = |id: i32| now.iter().filter(|(leader, first)| (*leader, *first) == (id, id)).count();
            if (1..=3).all(|id| (1..=3).contains(&of(id))) && now.iter().all(|(leader, _)| *leader > 0) {
                break now;
            }
            assert!(begun.elapsed() < PATIENCE, "{now:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        println!("even after {:?}: {even:?}", begun.elapsed());
        let moves =
            || (1..=3).map(|id| nodes.node(id).metric("plimsoll_leaders_moved_for_load_total")).sum::<u64>();
        let before = moves();
        assert!(before >= 3, "{before}");

        let status: Value =
            serde_json::from_str(&ask(&nodes, &["cluster", "status", "--format", "json"]).await).unwrap();
        for row in status["brokers"].as_array().unwrap() {
            for what in ["ledBytesPerSecond", "followedBytesPerSecond", "storedBytes"] {
                assert!(row[what].as_u64().unwrap() > 0, "{what} of {row}");
            }
        }
        let plan = ask(&nodes, &["cluster", "rebalance", "--dry-run"]).await;
        assert!(plan.contains("STORED") && plan.contains("KiB/s"), "{plan}");
        for id in 1..=3 {
            assert!(nodes.node(id).metric("plimsoll_node_led_bytes_per_second") > 0, "node {id}");
        }

        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(moves() <= before + 2, "what is even stays: {before} became {}", moves());
        stop.set(true);
        acked.stop.set(true);
        producing.await.unwrap();
        for load in loads {
            load.await.unwrap();
        }
        check(&look, 0, &acked).await;
    });
    // The order is in the metadata: a restart of the node that led everything changes nothing.
    wait_for("the order to be that of the leaders", || {
        run(async {
            leaders(&*client(&nodes.addresses()).await).await.iter().all(|(l, p)| l == p).then_some(())
        })
    });
}
