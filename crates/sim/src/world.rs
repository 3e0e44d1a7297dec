//! The node, its disk, the clock and the queue of reads.
use crate::disk::SimDisk;
use crate::rng::Rng;
use crate::trace::Trace;
use model::{GroupKey, Mono, Now};
use node::{Effect, Event, Node, NodeConfig, OpenError, ReadToken, Reply, Token};
use std::collections::{BTreeMap, VecDeque};
use storage::{DirectoryConfig, FileRange};

pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) node: Option<Node>,
    pub(crate) now: Now,
    pub(crate) rng: Rng,
    pub(crate) trace: Trace,
    pub(crate) replies: VecDeque<(Token, Reply)>,
    /// Groups that the node reported as damaged since the start.
    pub(crate) failed: Vec<(GroupKey, String)>,
    /// Partitions given up on a full disk.
    pub(crate) given_up: u64,
    reads: VecDeque<(ReadToken, FileRange)>,
    effects: Vec<Effect>,
    incarnation: u64,
    boots: u64,
    seed: u64,
    /// Topics are acknowledged from the page cache; such a run has no power cut but its last.
    pub(crate) write_caching: bool,
    dirty: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        World {
            disk: SimDisk::new(),
            node: None,
            now: Now { mono: Mono(1_000_000), wall: 1_700_000_000_000 },
            rng: Rng::new(seed, 1),
            trace: Trace::new(),
            replies: VecDeque::new(),
            failed: Vec::new(),
            given_up: 0,
            reads: VecDeque::new(),
            effects: Vec::new(),
            incarnation: 0,
            boots: 1,
            seed,
            write_caching: false,
            dirty: false,
        }
    }

    fn config(&self) -> NodeConfig {
        let configs = [
            ("offsets.topic.num.partitions", "2"),
            ("offsets.topic.replication.factor", "1"),
            ("log.segment.bytes", "1048576"),
            ("log.retention.check.interval.ms", "1000"),
            ("group.initial.rebalance.delay.ms", "0"),
            ("write.caching", if self.write_caching { "true" } else { "false" }),
        ];
        let mut boot_id = [0u8; 16];
        boot_id[..8].copy_from_slice(&self.boots.to_be_bytes());
        NodeConfig {
            first_transactional_epoch: 0,
            node_id: 1,
            fresh_cluster_id: "simulated-cluster-id00".to_owned(),
            endpoints: Vec::new(),
            voters: vec![(1, 1)],
            peer: None,
            rack: None,
            static_configs: configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            incarnation: self.incarnation,
            directory: DirectoryConfig {
                cluster_id: "simulated-cluster-id00".to_owned(),
                node_id: 1,
                new_directory_id: [7; 16],
                boot_id,
                tail_cache_bytes: 1 << 20,
                state_log_bytes: 64 << 10,
                relaxed_sync_ms: 300,
                relaxed_sync_bytes: 100_000,
                ..DirectoryConfig::default()
            },
            seed: self.seed,
        }
    }

    /// Starts the node. An error is a refusal to start, which damage of the directory's own files allows.
    pub(crate) fn start(&mut self) -> Result<(), OpenError> {
        self.incarnation += 1;
        let node = Node::open(self.config(), &self.disk, self.now)?;
        self.trace.add(format_args!("start {}", self.incarnation));
        self.node = Some(node);
        self.dirty = true;
        self.drain();
        Ok(())
    }

    /// The process dies; with `power` the machine does.
    pub(crate) fn crash(&mut self, power: bool) {
        self.trace.add(format_args!("crash power={power}"));
        self.node = None;
        self.reads.clear();
        self.replies.clear();
        self.failed.clear();
        self.disk.crash(&mut self.rng, power);
        self.boots += u64::from(power);
    }

    /// Calls the node and takes what it wants done.
    pub(crate) fn call<R>(&mut self, call: impl FnOnce(&mut Node, Now) -> R) -> Option<R> {
        let node = self.node.as_mut()?;
        let result = call(node, self.now);
        self.dirty = true;
        self.drain();
        Some(result)
    }

    fn drain(&mut self) {
        let Some(node) = &mut self.node else { return };
        node.take_effects(&mut self.effects);
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Disk(op) => self.disk.submit(op),
                Effect::Read(token, range) => self.reads.push_back((token, range)),
                Effect::Peer(node, _) => panic!("a single node speaks to {node}"),
                Effect::Reply(token, reply) => self.replies.push_back((token, reply)),
                Effect::Event(Event::GroupFailed { key, detail }) => {
                    self.trace.add(format_args!("failed {key} {detail}"));
                    self.failed.push((key, detail));
                }
                Effect::Event(Event::GivenUp(count)) => {
                    self.given_up += count as u64;
                    self.trace.add(format_args!("{count} given up"));
                }
                Effect::Event(event) => self.trace.add(format_args!("{event:?}")),
            }
        }
    }

    /// The disk does one thing.
    pub(crate) fn step_disk(&mut self) -> bool {
        let busy = self.disk.busy();
        if let Some(completion) = self.disk.step(&mut self.rng) {
            self.trace.add(format_args!("disk {}", kind_of(&completion)));
            self.call(|node, now| node.on_disk(now, completion));
        }
        busy
    }

    /// One read that the node asked for is done.
    pub(crate) fn step_read(&mut self) -> bool {
        let Some((token, range)) = self.reads.pop_front() else { return false };
        let result = storage::read_range(&self.disk, &range);
        self.call(|node, now| node.on_read(now, token, result));
        true
    }

    /// The end of a turn of the shell's loop.
    pub(crate) fn end_turn(&mut self) {
        if std::mem::take(&mut self.dirty) {
            self.call(|node, now| node.end_turn(now));
            self.dirty = false;
        }
    }

    /// Time passes, and the node's timers with it.
    pub(crate) fn pass(&mut self, ms: i64) {
        self.now.mono = self.now.mono.after_ms(ms);
        self.now.wall += ms;
        let due = self.node.as_ref().and_then(Node::next_deadline).is_some_and(|at| at <= self.now.mono);
        if due {
            self.call(|node, now| node.tick(now));
        }
    }

    /// Runs the disk and the timers until nothing is left to do.
    pub(crate) fn quiesce(&mut self) {
        for _ in 0..100_000 {
            self.end_turn();
            let moved = self.step_disk() | self.step_read();
            if !moved {
                self.pass(100);
                self.end_turn();
                if !self.disk.busy() {
                    return;
                }
            }
        }
    }
}

pub(crate) fn kind_of(completion: &storage::Completion) -> &'static str {
    match completion {
        storage::Completion::Written { result: Ok(()), .. } => "written",
        storage::Completion::Synced { result: Ok(()), .. } => "synced",
        storage::Completion::Put { result: Ok(()), .. } => "put",
        storage::Completion::Looked { .. } => "looked",
        storage::Completion::Recovered { .. } => "recovered",
        storage::Completion::Removed { .. } => "removed",
        _ => "error",
    }
}

/// Replies by token, for whoever asked.
pub(crate) type Waiting<T> = BTreeMap<Token, T>;

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use cluster::NewTopic;
    use coordinator::{CommitPartition, CommitRequest, CommitTopic};
    use node::{AdminRequest, GroupRequest};
    use records::{BatchBuilder, NewRecord};

    fn run(world: &mut World, seconds: usize) {
        for _ in 0..seconds {
            world.pass(1_000);
            world.quiesce();
        }
    }

    fn create(world: &mut World, name: &str) -> GroupKey {
        let topic = NewTopic {
            name: name.to_owned(),
            num_partitions: 1,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: Vec::new(),
        };
        let create = AdminRequest::CreateTopics { topics: vec![topic], validate_only: false };
        world.call(|node, now| node.admin(now, Token(1), create));
        world.quiesce();
        let topic = world.node.as_ref().unwrap().image().topic(name).unwrap().id;
        GroupKey { topic, partition: 0 }
    }

    fn produce(world: &mut World, token: u64, key: GroupKey, bytes: usize) {
        let mut batch = BatchBuilder::new();
        batch.push(NewRecord::new(world.now.wall, None, Some(&vec![7; bytes])));
        let batch = BytesMut::from(&batch.finish().unwrap()[..]);
        world.call(|node, now| node.produce(now, Token(token), key, batch, -1));
    }

    /// One topic with a record, and another batch for which a full disk has no room.
    fn out_of_room(reserve: usize) -> (World, GroupKey) {
        let mut world = World::new(1);
        world.start().unwrap();
        world.quiesce();
        let key = create(&mut world, "doomed");
        produce(&mut world, 2, key, 100);
        world.quiesce();
        world.replies.clear();
        world.disk.limit(Some(3_000), reserve);
        produce(&mut world, 3, key, 10_000);
        world.end_turn();
        (world, key)
    }

    fn answer(world: &mut World, token: u64) -> Option<Reply> {
        let at = world.replies.iter().position(|(t, _)| *t == Token(token))?;
        world.replies.remove(at).map(|(_, reply)| reply)
    }

    #[test]
    fn an_append_without_room_is_answered_and_its_partition_serves_on() {
        let (mut world, key) = out_of_room(0);
        run(&mut world, 3);
        let Some(Reply::Produce(Err(error))) = answer(&mut world, 3) else { panic!("no answer") };
        assert_eq!(error.code, model::ErrorCode::RequestTimedOut, "it may be there or not");
        assert_eq!(world.given_up, 1);
        // The disk is as full as before: what takes no room from others goes on.
        world.call(|node, now| node.delete_records(now, Token(4), key, 1));
        run(&mut world, 3);
        assert!(matches!(answer(&mut world, 4), Some(Reply::DeleteRecords(Ok(1)))));
        produce(&mut world, 5, key, 100);
        let Some(Reply::Produce(Err(error))) = answer(&mut world, 5) else { panic!("taken") };
        assert_eq!(error.code, model::ErrorCode::KafkaStorageError, "it is not there");
        world.disk.limit(None, 0);
        run(&mut world, 3);
        produce(&mut world, 6, key, 100);
        run(&mut world, 3);
        let Some(Reply::Produce(Ok(appended))) = answer(&mut world, 6) else { panic!("refused") };
        assert_eq!((appended.base_offset, appended.log_start), (1, 1));
    }

    #[test]
    fn a_topic_deleted_while_its_partition_is_given_up_leaves_nothing() {
        for steps in 0..30 {
            let (mut world, key) = out_of_room(4_000);
            for _ in 0..steps {
                world.step_disk();
                world.end_turn();
                world.pass(30);
            }
            let doomed =
                vec![cluster::TopicRef { name: Some("doomed".to_owned()), id: model::TopicId([0; 16]) }];
            world.call(|node, now| node.admin(now, Token(4), AdminRequest::DeleteTopics(doomed)));
            run(&mut world, 3);
            assert!(matches!(answer(&mut world, 4), Some(Reply::Admin(_))), "{steps}");
            assert!(answer(&mut world, 3).is_some(), "{steps}");
            let files = storage::DiskRead::list(&world.disk, &storage::group_dir(key)).unwrap();
            assert_eq!(files, Vec::<String>::new(), "{steps}");
            world.crash(true);
            world.start().unwrap();
            run(&mut world, 1);
            assert!(world.node.as_ref().unwrap().image().topic("doomed").is_none());
        }
    }

    #[test]
    fn files_of_a_deleted_topic_that_come_back_with_the_power_are_removed() {
        let mut came_back = 0;
        for steps in 0..60 {
            let mut world = World::new(steps);
            world.start().unwrap();
            world.quiesce();
            let key = create(&mut world, "doomed");
            produce(&mut world, 2, key, 100);
            world.quiesce();
            let doomed = cluster::TopicRef { name: Some("doomed".to_owned()), id: model::TopicId([0; 16]) };
            world.call(|node, now| node.admin(now, Token(4), AdminRequest::DeleteTopics(vec![doomed])));
            for _ in 0..steps {
                world.step_disk();
                world.end_turn();
            }
            world.crash(true);
            let files =
                |world: &World| storage::DiskRead::list(&world.disk, &storage::group_dir(key)).unwrap();
            let before = files(&world);
            world.start().unwrap();
            run(&mut world, 1);
            if world.node.as_ref().unwrap().image().topic("doomed").is_none() {
                came_back += usize::from(!before.is_empty());
                assert_eq!(files(&world), Vec::<String>::new(), "{steps}");
            }
        }
        assert!(came_back > 0, "the case was there");
    }

    fn of_records(world: &World, count: usize) -> BytesMut {
        let mut batch = BatchBuilder::new();
        for _ in 0..count {
            batch.push(NewRecord::new(world.now.wall, None, Some(b"value")));
        }
        BytesMut::from(&batch.finish().unwrap()[..])
    }

    #[test]
    fn a_group_whose_machine_panics_fails_alone_and_stays_closed() {
        model::planted::plant(Some(model::planted::Bug::PanicInApply));
        let mut world = World::new(5);
        world.start().unwrap();
        world.quiesce();
        let (doomed, well) = (create(&mut world, "doomed"), create(&mut world, "well"));
        produce(&mut world, 2, doomed, 100);
        world.quiesce();
        let (thirteen, behind) = (of_records(&world, 13), of_records(&world, 1));
        world.call(|node, now| {
            node.produce(now, Token(3), doomed, thirteen, -1);
            node.produce(now, Token(4), doomed, behind, -1);
        });
        produce(&mut world, 5, well, 100);
        run(&mut world, 2);
        let code = |reply: Option<Reply>| match reply {
            Some(Reply::Produce(result)) => result.map(|a| a.base_offset).map_err(|e| e.code),
            other => panic!("{other:?}"),
        };
        let failed = Err(model::ErrorCode::KafkaStorageError);
        for token in [3, 4] {
            assert_eq!(code(answer(&mut world, token)), failed, "whoever waits is told");
        }
        assert_eq!(code(answer(&mut world, 5)), Ok(0));
        let named: Vec<_> =
            world.failed.iter().map(|(key, why)| (*key, why.contains("thirteen records"))).collect();
        assert_eq!(named, [(doomed, true)]);
        for (token, key, expected) in [(6, doomed, failed), (7, well, Ok(1))] {
            produce(&mut world, token, key, 100);
            run(&mut world, 1);
            assert_eq!(code(answer(&mut world, token)), expected);
        }
        // It is not tried again: neither now nor by the next process.
        model::planted::plant(None);
        world.crash(true);
        world.start().unwrap();
        run(&mut world, 1);
        for (token, key, expected) in [(8, doomed, failed), (9, well, Ok(2))] {
            produce(&mut world, token, key, 100);
            run(&mut world, 1);
            assert_eq!(code(answer(&mut world, token)), expected);
        }
        assert!(world.node.as_ref().unwrap().failure(doomed).is_some_and(|why| why.contains("panicked")));
    }

    fn commit(world: &mut World, token: u64, offset: i64) {
        let row = CommitPartition { index: 0, offset, leader_epoch: -1, metadata: Some("m".repeat(1_000)) };
        let topic = CommitTopic { name: "doomed".to_owned(), partitions: vec![row], ..Default::default() };
        let group_id = "group".to_owned();
        let request =
            CommitRequest { group_id, generation_id: -1, topics: vec![topic], ..Default::default() };
        world.call(|node, now| node.group(now, Token(token), "group", GroupRequest::Commit(request)));
    }

    #[test]
    fn a_deletion_gets_the_last_room_before_commits_of_offsets() {
        let mut world = World::new(1);
        world.start().unwrap();
        world.quiesce();
        create(&mut world, "doomed");
        let names = vec![cluster::CONSUMER_OFFSETS.to_owned()];
        world.call(|node, now| node.admin(now, Token(1), AdminRequest::AutoCreate(names)));
        world.quiesce();
        commit(&mut world, 2, 1);
        run(&mut world, 1);
        assert!(answer(&mut world, 2).is_some());
        world.disk.limit(Some(0), 0);
        commit(&mut world, 3, 2);
        let doomed = vec![cluster::TopicRef { name: Some("doomed".to_owned()), id: model::TopicId([0; 16]) }];
        world.call(|node, now| node.admin(now, Token(4), AdminRequest::DeleteTopics(doomed)));
        run(&mut world, 1);
        assert!(world.node.as_ref().unwrap().stalled_since().is_some());
        // Enough for the one, not for both.
        world.disk.room = Some(500);
        run(&mut world, 10);
        assert!(matches!(answer(&mut world, 4), Some(Reply::Admin(_))));
        let Some(Reply::Group(coordinator::Reply::Commit(refused))) = answer(&mut world, 3) else {
            panic!("the commit waits")
        };
        let code = refused.topics[0].partitions[0].1;
        assert!(code.is_retriable(), "{code}");
        world.disk.limit(None, 0);
        run(&mut world, 3);
        commit(&mut world, 5, 3);
        run(&mut world, 3);
        let Some(Reply::Group(coordinator::Reply::Commit(done))) = answer(&mut world, 5) else { panic!() };
        assert!(done.topics[0].partitions[0].1.is_none());
    }

    #[test]
    fn a_stop_on_a_disk_without_room_ends() {
        let (mut world, _) = out_of_room(0);
        world.call(|node, now| node.begin_stop(now));
        run(&mut world, 2);
        assert!(world.node.as_ref().unwrap().stopped());
        assert!(matches!(answer(&mut world, 3), Some(Reply::Produce(Err(_)))));
    }

    #[test]
    fn retention_reaches_partitions_that_nobody_touches_after_a_start() {
        let mut world = World::new(1);
        world.start().unwrap();
        world.quiesce();
        let topic = NewTopic {
            name: "old".to_owned(),
            num_partitions: 1,
            replication_factor: 1,
            assignments: Vec::new(),
            configs: vec![("retention.ms".to_owned(), Some("60000".to_owned()))],
        };
        let create = AdminRequest::CreateTopics { topics: vec![topic], validate_only: false };
        world.call(|node, now| node.admin(now, Token(1), create));
        world.quiesce();
        let topic = world.node.as_ref().unwrap().image().topic("old").unwrap().id;
        let key = GroupKey { topic, partition: 0 };
        let mut batch = BatchBuilder::new();
        batch.push(NewRecord::new(world.now.wall, None, Some(b"value")));
        let batch = BytesMut::from(&batch.finish().unwrap()[..]);
        world.call(|node, now| node.produce(now, Token(2), key, batch, -1));
        world.quiesce();
        world.crash(false);
        world.start().unwrap();
        run(&mut world, 5);
        assert!(world.node.as_ref().unwrap().partition_info(key).is_none(), "nobody touched it");
        run(&mut world, 300);
        let info = world.node.as_ref().unwrap().partition_info(key).unwrap();
        assert_eq!((info.log_start, info.high_watermark), (1, 1));
    }
}
