//! Applications at work while something is done to a cluster: producers with acks=all and a group that reads and
//! commits. What a client gives up on, after trying for its 30 s, is an error of the application: none is allowed.
use crate::cluster::all_values;
use crate::nodes::{Nodes, client, run, wait_in_sync};
use crate::server::{PATIENCE, wait_for};
use client_lite::{Consumer, FetchOptions, GroupMember, IdempotentProducer, MemberOptions, NewTopic, Reset};
use records::{BatchBuilder, NewRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The topic of the load.
pub(crate) const TOPIC: &str = "kept";
/// Each record: its number, and this much that makes replicas worth copying.
const VALUE: usize = 1024;
/// Between two records of a producer.
const PAUSE: Duration = Duration::from_millis(2);

/// What the tasks of the load share with the test.
struct Shared {
    addresses: String,
    /// Records that were acknowledged, of each partition; the next number.
    acked: Vec<AtomicU64>,
    /// Records that the group has read, of each partition.
    read: Vec<AtomicU64>,
    /// The longest time that a producer waited for an acknowledgement, in milliseconds.
    gap: AtomicU64,
    errors: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Shared {
    fn tell(&self, error: String) {
        self.errors.lock().unwrap().push(error);
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn counts(of: &[AtomicU64]) -> Vec<u64> {
        of.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    fn check(&self) {
        let errors = self.errors.lock().unwrap().clone();
        assert!(errors.is_empty(), "applications were told of errors: {errors:?}");
    }
}

/// The clients, on a thread of their own.
pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Creates the topic with so many partitions and replicas and starts the clients. They know every address.
    pub(crate) fn start(nodes: &Nodes, partitions: i32, replicas: i16) -> Load {
        let topic = NewTopic {
            name: TOPIC.to_owned(),
            partitions: Some(partitions),
            replication_factor: Some(replicas),
            ..NewTopic::default()
        };
        let up = (1..).zip(&nodes.running).find(|(_, node)| node.is_some()).unwrap().0;
        run(async { client(&nodes.address(up)).await.create_topic(&topic, false).await.unwrap() });
        wait_in_sync(nodes, up, TOPIC);
        let zeros = || (0..partitions).map(|_| AtomicU64::new(0)).collect();
        let shared = Arc::new(Shared {
            addresses: nodes.addresses(),
            acked: zeros(),
            read: zeros(),
            gap: AtomicU64::new(0),
            errors: Mutex::new(Vec::new()),
            stop: AtomicBool::new(false),
        });
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || run(work(shared, partitions))
        });
        let load = Load { shared, thread: Some(thread) };
        load.more(50);
        load
    }

    /// Waits until each partition has taken so many records more, and the group has read as many.
    pub(crate) fn more(&self, count: u64) {
        let begun = Instant::now();
        let acked = Shared::counts(&self.shared.acked);
        loop {
            self.shared.check();
            let due = |of: &[AtomicU64]| {
                Shared::counts(of).iter().zip(&acked).all(|(now, before)| *now >= before + count)
            };
            if due(&self.shared.acked) && due(&self.shared.read) {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{count} more after {acked:?}: {:?} acknowledged, {:?} read",
                self.shared.acked,
                self.shared.read
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The longest wait for an acknowledgement since this was asked last.
    pub(crate) fn gap(&self) -> Duration {
        Duration::from_millis(self.shared.gap.swap(0, Ordering::Relaxed))
    }

    /// Ends the clients. No application was told of an error, the group has read each acknowledged record once and
    /// in order, and so does whoever reads from the start. Answers the number of records of each partition.
    pub(crate) fn finish(mut self) -> Vec<u64> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.shared.check();
        let acked = Shared::counts(&self.shared.acked);
        assert_eq!(acked, Shared::counts(&self.shared.read), "acknowledged, and read by the group");
        run(async {
            let client = client(&self.shared.addresses).await;
            for (partition, acked) in (0..).zip(&acked) {
                let found: Vec<u64> =
                    all_values(&client, TOPIC, partition).await.iter().map(|v| number(v)).collect();
                assert!(found.iter().copied().eq(0..*acked), "{partition}: {acked} acknowledged, {found:?}");
            }
        });
        acked
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // A test that failed waits for nobody: the clients end when their cluster does.
        if let Some(thread) = self.thread.take().filter(|_| !std::thread::panicking()) {
            thread.join().unwrap();
        }
    }
}

async fn work(shared: Arc<Shared>, partitions: i32) {
    let producing: Vec<_> =
        (0..partitions).map(|at| tokio::task::spawn_local(produce(shared.clone(), at))).collect();
    let reading = tokio::task::spawn_local(read(shared));
    for task in producing {
        task.await.unwrap();
    }
    reading.await.unwrap();
}

async fn produce(shared: Arc<Shared>, partition: i32) {
    let mut producer = match IdempotentProducer::start(client(&shared.addresses).await).await {
        Ok(producer) => producer,
        Err(error) => return shared.tell(format!("a producer's id: {error}")),
    };
    let mut value = vec![0; VALUE];
    for number in 0u64.. {
        if shared.stops() {
            return;
        }
        value[..8].copy_from_slice(&number.to_be_bytes());
        let mut batch = BatchBuilder::new();
        batch.push(NewRecord::new(-1, None, Some(&value)));
        let begun = Instant::now();
        if let Err(error) = producer.send(TOPIC, partition, batch).await {
            return shared.tell(format!("the producer of {partition}, record {number}: {error}"));
        }
        shared.gap.fetch_max(begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        shared.acked[partition as usize].store(number + 1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}

/// One member reads all partitions and commits what it has read.
async fn read(shared: Arc<Shared>) {
    let client = client(&shared.addresses).await;
    let member = GroupMember::new(client.clone(), MemberOptions::new("readers", &[TOPIC]));
    let mut consumer = Consumer::in_group(client, member, Reset::Earliest, FetchOptions::default());
    let mut ending = None::<Instant>;
    loop {
        let records = match consumer.poll().await {
            Ok(records) => records,
            Err(error) => return shared.tell(format!("the group's read: {error}")),
        };
        for consumed in &records {
            let count = &shared.read[consumed.partition as usize];
            let (number, due) =
                (number(consumed.record.value.as_deref().unwrap()), count.load(Ordering::Relaxed));
            // After a rebalance it reads on at what was committed, which may be less than it has seen.
            if number > due {
                shared.tell(format!("partition {}: {number} comes where {due} is due", consumed.partition));
                return;
            }
            count.store(due.max(number + 1), Ordering::Relaxed);
        }
        if let (false, Err(error)) = (records.is_empty(), consumer.commit().await) {
            return shared.tell(format!("the group's commit: {error}"));
        }
        let missing = || Shared::counts(&shared.acked) != Shared::counts(&shared.read);
        if shared.stops() {
            let late = ending.get_or_insert_with(Instant::now).elapsed() > PATIENCE;
            // The last record of a producer may be on its way yet.
            let rested = records.is_empty() && !missing();
            if rested || late || !shared.errors.lock().unwrap().is_empty() {
                break;
            }
        }
    }
    if let Err(error) = consumer.close().await {
        shared.tell(format!("the group's end: {error}"));
    }
}

fn number(value: &[u8]) -> u64 {
    assert_eq!(value.len(), VALUE);
    u64::from_be_bytes(value[..8].try_into().unwrap())
}

/// What the files of a node hold of each partition of the load: by index, the term, the checksum (which covers
/// everything before it), and the offset after it.
type Entries = BTreeMap<u64, (u64, u64, u64)>;

fn entries(nodes: &Nodes, id: usize) -> BTreeMap<String, Entries> {
    let mut dump = Command::new(nodes.program(id));
    let output =
        dump.args(["log", "dump", "--format", "json", "--only", TOPIC]).arg(nodes.data(id)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found: BTreeMap<String, Entries> = BTreeMap::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let row: serde_json::Value = serde_json::from_slice(line).unwrap();
        let Some(partition) = row["partition"].as_str() else { continue };
        let number = |name: &str| row[name].as_u64().unwrap();
        let data = row["kind"] == "Data";
        let end = if data { number("base_offset") + number("offset_count") } else { 0 };
        let entry = (number("term"), number("crc"), end);
        found.entry(partition.to_owned()).or_default().insert(number("index"), entry);
    }
    found
}

/// Ends the load, tells how long it was held up, and has its records and the replicas' files checked.
pub(crate) fn end(load: Load, nodes: &mut Nodes) {
    println!("no acknowledgement for {:?} at most", load.gap());
    let acked = load.finish();
    replicas_are_equal(nodes, &acked);
}

/// Stops all nodes, after all of them have every record, and compares their files where these overlap.
pub(crate) fn replicas_are_equal(nodes: &mut Nodes, acked: &[u64]) {
    let up: Vec<usize> = (1..).zip(&nodes.running).filter(|(_, n)| n.is_some()).map(|(id, _)| id).collect();
    let cluster = run(async { client(&nodes.address(up[0])).await.refresh(&[TOPIC]).await.unwrap() });
    let mut held: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
    for partition in &cluster.topic(TOPIC).unwrap().partitions {
        let replicas: Vec<usize> = partition.replicas.iter().map(|id| *id as usize).collect();
        let end = format!(
            "plimsoll_partition_log_end_offset{{topic=\"{TOPIC}\",partition=\"{}\"}}",
            partition.index
        );
        wait_for("every replica to have every record", || {
            let has = |id: &usize| nodes.node(*id).metric(&end) >= acked[partition.index as usize];
            replicas.iter().all(has).then_some(())
        });
        held.insert(partition.index, replicas);
    }
    up.iter().for_each(|id| nodes.running[id - 1].as_ref().unwrap().ask_to_stop());
    for id in &up {
        assert!(nodes.running[id - 1].take().unwrap().ended().success());
        assert!(!nodes.log(*id).contains("panicked at"), "{}", nodes.log(*id));
    }
    let holding: BTreeSet<usize> = held.values().flatten().copied().collect();
    let files: BTreeMap<usize, _> = holding.into_iter().map(|id| (id, entries(nodes, id))).collect();
    for (partition, replicas) in held {
        let name = format!("{TOPIC}-{partition}");
        let copies: Vec<&Entries> = replicas.iter().map(|id| &files[id][&name]).collect();
        let first = copies.iter().filter_map(|copy| copy.keys().next()).max().unwrap();
        let last = copies.iter().filter_map(|copy| copy.keys().next_back()).min().unwrap();
        assert!(first <= last, "{name}: nothing to compare");
        for copy in &copies {
            assert!(
                copy.range(first..=last).eq(copies[0].range(first..=last)),
                "{name} differs: {replicas:?}"
            );
            let end = copy.values().map(|(_, _, end)| *end).max().unwrap();
            assert_eq!(end, acked[partition as usize], "{name}");
        }
    }
}
