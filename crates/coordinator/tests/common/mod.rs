//! A coordinator with a log, a clock and clients that remember who they are.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]
use bytes::Bytes;
use coordinator::*;
use model::{ErrorCode, Mono, Now};
use std::collections::{BTreeMap, BTreeSet};

pub const START: i64 = 1_700_000_000_000;

pub struct Bench {
    pub c: GroupCoordinator,
    pub now_ms: i64,
    pub next_token: u64,
    pub replies: BTreeMap<Token, Reply>,
    /// All tokens that have had their answer.
    pub answered: BTreeSet<Token>,
    pub events: Vec<GroupEvent>,
    /// Appends not decided yet.
    pub open: Vec<(BatchId, Vec<Record>)>,
    /// Committed records in log order.
    pub log: Vec<Record>,
    /// The same with transactions.
    pub history: Vec<Entry>,
    /// Whose transactions appends belong to.
    producers: BTreeMap<BatchId, i64>,
    /// Commit every append at once.
    pub auto: bool,
}

/// What the log of a partition of `__consumer_offsets` holds.
#[derive(Clone, Debug)]
pub enum Entry {
    Plain(Record),
    InTransaction(i64, Record),
    Ended(i64, bool),
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with(GroupConfig::default())
    }

    pub fn with(config: GroupConfig) -> Bench {
        let mut bench = Bench::loading(config);
        let mut fx = Vec::new();
        bench.c.loaded(bench.now(), &mut fx);
        bench.take(fx);
        bench
    }

    pub fn loading(config: GroupConfig) -> Bench {
        Bench {
            c: GroupCoordinator::new(config, 42),
            now_ms: 0,
            next_token: 0,
            replies: BTreeMap::new(),
            answered: BTreeSet::new(),
            events: Vec::new(),
            open: Vec::new(),
            log: Vec::new(),
            history: Vec::new(),
            producers: BTreeMap::new(),
            auto: true,
        }
    }

    pub fn now(&self) -> Now {
        Now { mono: Mono(self.now_ms as u64 * 1_000_000), wall: START + self.now_ms }
    }

    pub fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    pub fn take(&mut self, fx: Effects) {
        for effect in fx {
            match effect {
                Effect::Reply { token, reply } => {
                    assert!(self.answered.insert(token), "{token:?} answered twice");
                    self.replies.insert(token, reply);
                }
                Effect::Append { batch, records } => {
                    assert!(!records.is_empty());
                    self.open.push((batch, records));
                }
                Effect::AppendInTransaction { batch, records, transaction } => {
                    assert!(!records.is_empty());
                    self.producers.insert(batch, transaction.producer_id);
                    self.open.push((batch, records));
                }
                Effect::Event(event) => self.events.push(event),
            }
        }
        if self.auto {
            self.commit_all();
        }
    }

    pub fn commit_all(&mut self) {
        while !self.open.is_empty() {
            self.commit_one();
        }
    }

    pub fn commit_one(&mut self) {
        let (batch, records) = self.open.remove(0);
        let producer = self.producers.get(&batch).copied();
        self.history.extend(records.iter().cloned().map(|record| match producer {
            None => Entry::Plain(record),
            Some(producer) => Entry::InTransaction(producer, record),
        }));
        self.log.extend(records);
        let mut fx = Vec::new();
        self.c.on_committed(self.now(), batch, &mut fx);
        self.take(fx);
    }

    pub fn fail_one(&mut self, error: ErrorCode) {
        let (batch, _) = self.open.remove(0);
        let mut fx = Vec::new();
        self.c.on_append_failed(self.now(), batch, error, &mut fx);
        self.take(fx);
    }

    /// Lets time pass, waking the coordinator exactly when it asks for it.
    pub fn pass(&mut self, ms: i64) {
        let end = self.now_ms + ms;
        let mut wakes = 0;
        while let Some(at) = self.c.next_deadline() {
            let at_ms = (at.0 / 1_000_000) as i64;
            if at_ms > end {
                break;
            }
            self.now_ms = self.now_ms.max(at_ms);
            let mut fx = Vec::new();
            self.c.tick(self.now(), &mut fx);
            self.take(fx);
            wakes += 1;
            assert!(wakes < 100_000, "a busy loop of deadlines");
        }
        self.now_ms = end;
    }

    /// Lets time pass until all these are answered, half a second at a time.
    pub fn until_answered(&mut self, tokens: &[Token]) {
        for _ in 0..1_000 {
            if tokens.iter().all(|t| self.replies.contains_key(t)) {
                return;
            }
            self.pass(500);
        }
        panic!("no answer in 500 s");
    }

    pub fn reply(&mut self, token: Token) -> Option<Reply> {
        self.replies.remove(&token)
    }

    pub fn send_join(&mut self, request: JoinRequest) -> Token {
        let (token, mut fx) = (self.token(), Vec::new());
        self.c.join(self.now(), token, request, &mut fx);
        self.take(fx);
        token
    }

    pub fn joined(&mut self, token: Token) -> JoinReply {
        match self.reply(token) {
            Some(Reply::Join(reply)) => reply,
            other => panic!("no join answer: {other:?}"),
        }
    }

    pub fn send_sync(&mut self, request: SyncRequest) -> Token {
        let (token, mut fx) = (self.token(), Vec::new());
        self.c.sync(self.now(), token, request, &mut fx);
        self.take(fx);
        token
    }

    pub fn synced(&mut self, token: Token) -> SyncReply {
        match self.reply(token) {
            Some(Reply::Sync(reply)) => reply,
            other => panic!("no sync answer: {other:?}"),
        }
    }

    pub fn heartbeat_as(&mut self, member: &str, instance: Option<&str>, generation: i32) -> ErrorCode {
        let (token, mut fx) = (self.token(), Vec::new());
        let request = HeartbeatRequest {
            group_id: "g".into(),
            generation_id: generation,
            member_id: member.into(),
            instance_id: instance.map(str::to_owned),
        };
        self.c.heartbeat(self.now(), token, request, &mut fx);
        self.take(fx);
        match self.reply(token) {
            Some(Reply::Heartbeat(error)) => error,
            other => panic!("no heartbeat answer: {other:?}"),
        }
    }

    pub fn heartbeat(&mut self, member: &str, generation: i32) -> ErrorCode {
        self.heartbeat_as(member, None, generation)
    }

    pub fn send_leave(&mut self, members: &[(&str, Option<&str>)]) -> Token {
        let (token, mut fx) = (self.token(), Vec::new());
        let each = members.iter().map(|(id, instance)| LeavingMember {
            member_id: (*id).into(),
            instance_id: instance.map(str::to_owned),
            reason: None,
        });
        let request = LeaveRequest { group_id: "g".into(), members: each.collect() };
        self.c.leave(self.now(), token, request, &mut fx);
        self.take(fx);
        token
    }

    pub fn left(&mut self, token: Token) -> LeaveReply {
        match self.reply(token) {
            Some(Reply::Leave(reply)) => reply,
            other => panic!("no leave answer: {other:?}"),
        }
    }

    pub fn send_commit(&mut self, request: CommitRequest) -> Token {
        let (token, mut fx) = (self.token(), Vec::new());
        self.c.commit_offsets(self.now(), token, request, &mut fx);
        self.take(fx);
        token
    }

    pub fn committed(&mut self, token: Token) -> ErrorCode {
        match self.reply(token) {
            Some(Reply::Commit(reply)) => reply.topics[0].partitions[0].1,
            other => panic!("no commit answer: {other:?}"),
        }
    }

    pub fn commit(&mut self, request: CommitRequest) -> ErrorCode {
        let token = self.send_commit(request);
        self.committed(token)
    }

    pub fn send_fetch(&mut self, topics: Option<Vec<TopicPartitions>>, require_stable: bool) -> Token {
        let (token, mut fx) = (self.token(), Vec::new());
        let request =
            FetchRequest { group_id: "g".into(), topics, require_stable, ..FetchRequest::default() };
        self.c.fetch_offsets(self.now(), token, request, &mut fx);
        self.take(fx);
        token
    }

    pub fn fetched(&mut self, token: Token) -> FetchReply {
        match self.reply(token) {
            Some(Reply::Fetch(reply)) => reply,
            other => panic!("no fetch answer: {other:?}"),
        }
    }

    /// The committed offset of partition `p` of topic `t`, -1 for none.
    pub fn offset(&mut self, p: i32) -> i64 {
        let topics =
            vec![TopicPartitions { name: "t".into(), topic_id: Default::default(), partitions: vec![p] }];
        let token = self.send_fetch(Some(topics), false);
        self.fetched(token).topics[0].partitions[0].offset
    }

    pub fn send_delete_offsets(&mut self, topic: &str, partitions: &[i32]) -> Token {
        let (token, mut fx) = (self.token(), Vec::new());
        let topics = vec![TopicPartitions {
            name: topic.into(),
            topic_id: Default::default(),
            partitions: partitions.to_vec(),
        }];
        let request = DeleteOffsetsRequest { group_id: "g".into(), topics };
        self.c.delete_offsets(self.now(), token, request, &mut fx);
        self.take(fx);
        token
    }

    pub fn offsets_deleted(&mut self, token: Token) -> DeleteOffsetsReply {
        match self.reply(token) {
            Some(Reply::DeleteOffsets(reply)) => reply,
            other => panic!("no answer: {other:?}"),
        }
    }

    pub fn send_delete_groups(&mut self, ids: &[&str]) -> Token {
        let (token, mut fx) = (self.token(), Vec::new());
        let ids = ids.iter().map(|s| (*s).to_owned()).collect();
        self.c.delete_groups(self.now(), token, ids, &mut fx);
        self.take(fx);
        token
    }

    pub fn groups_deleted(&mut self, token: Token) -> Vec<(String, ErrorCode)> {
        match self.reply(token) {
            Some(Reply::DeleteGroups(reply)) => reply,
            other => panic!("no answer: {other:?}"),
        }
    }

    pub fn describe(&self) -> DescribedGroup {
        self.c.describe(&["g".to_owned()]).remove(0)
    }

    pub fn state(&self) -> &'static str {
        self.describe().state
    }

    /// A member of protocol `range` that joined with a known id, in group `g`, at the end of the join phase.
    pub fn new_id(&mut self) -> String {
        let token = self.send_join(JoinRequest { require_known_member_id: true, ..join("") });
        let reply = self.joined(token);
        assert_eq!(reply.error, ErrorCode::MemberIdRequired);
        reply.member_id
    }

    /// A stable group of `n` dynamic members, the leader first, and its generation.
    pub fn stable(&mut self, n: usize) -> (Vec<String>, i32) {
        let ids: Vec<String> = (0..n).map(|_| self.new_id()).collect();
        let tokens: Vec<Token> = ids.iter().map(|id| self.send_join(join(id))).collect();
        self.until_answered(&tokens);
        let replies: Vec<JoinReply> = tokens.into_iter().map(|t| self.joined(t)).collect();
        assert!(replies.iter().all(|r| r.error.is_none()), "{replies:?}");
        let generation = replies[0].generation_id;
        self.sync_all(&ids, generation);
        (ids, generation)
    }

    /// All members sync, the leader with an assignment that names each member.
    pub fn sync_all(&mut self, ids: &[String], generation: i32) {
        let tokens: Vec<Token> =
            ids.iter().rev().map(|id| self.send_sync(sync(id, generation, ids))).collect();
        for (token, id) in tokens.into_iter().zip(ids.iter().rev()) {
            let reply = self.synced(token);
            assert_eq!(reply.error, ErrorCode::None);
            assert_eq!(reply.assignment, Bytes::from(format!("for {id}")));
        }
        assert_eq!(self.state(), "Stable");
    }

    /// A fresh coordinator that has read the same log.
    pub fn reloaded(&self) -> Bench {
        let mut next = Bench::loading(self.c.config().clone());
        // Another instance makes other ids.
        next.c = GroupCoordinator::new(self.c.config().clone(), 43 + self.next_token);
        next.now_ms = self.now_ms;
        next.replay(&self.history);
        let mut fx = Vec::new();
        next.c.loaded(next.now(), &mut fx);
        next.take(fx);
        (next.log, next.history) = (self.log.clone(), self.history.clone());
        next
    }

    pub fn replay(&mut self, history: &[Entry]) {
        for (at, entry) in history.iter().cloned().enumerate() {
            match entry {
                Entry::Plain(record) => self.c.replay(at as i64, record.key, record.value).unwrap(),
                Entry::InTransaction(producer, record) => {
                    self.c.replay_in_transaction(producer, record.key, record.value).unwrap();
                }
                Entry::Ended(producer, commit) => self.c.transaction_ended(producer, commit),
            }
        }
    }

    /// The marker of a transaction is committed.
    pub fn end_transaction(&mut self, producer: i64, commit: bool) {
        self.history.push(Entry::Ended(producer, commit));
        self.c.transaction_ended(producer, commit);
    }

    pub fn send_txn_commit(&mut self, producer_id: i64, commit: CommitRequest) -> Token {
        let (token, mut fx) = (self.token(), Vec::new());
        let transaction = InTransaction { producer_id, ..InTransaction::default() };
        let request = TxnCommitRequest { commit, transaction };
        self.c.commit_in_transaction(self.now(), token, request, &mut fx);
        self.take(fx);
        token
    }

    pub fn txn_commit(&mut self, producer_id: i64, commit: CommitRequest) -> ErrorCode {
        let token = self.send_txn_commit(producer_id, commit);
        self.committed(token)
    }

    /// The stable offset of partition `p` of topic `t`.
    pub fn stable_offset(&mut self, p: i32) -> Result<i64, ErrorCode> {
        let topics =
            vec![TopicPartitions { name: "t".into(), topic_id: Default::default(), partitions: vec![p] }];
        let token = self.send_fetch(Some(topics), true);
        let row = self.fetched(token).topics.remove(0).partitions.remove(0);
        if row.error.is_none() { Ok(row.offset) } else { Err(row.error) }
    }
}

/// A subscription of the consumer protocol, version 0, to topic `t`.
pub fn subscription(topics: &[&str]) -> Bytes {
    let mut out = vec![0, 0];
    out.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        out.extend((topic.len() as i16).to_be_bytes());
        out.extend(topic.as_bytes());
    }
    out.extend((-1i32).to_be_bytes());
    Bytes::from(out)
}

pub fn protocol(name: &str) -> Protocol {
    Protocol { name: name.into(), metadata: subscription(&["t"]) }
}

pub fn join(member: &str) -> JoinRequest {
    JoinRequest {
        group_id: "g".into(),
        member_id: member.into(),
        instance_id: None,
        client_id: "app".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range")],
        require_known_member_id: false,
        supports_skip_assignment: true,
        reason: None,
    }
}

pub fn static_join(member: &str, instance: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(instance.into()), ..join(member) }
}

pub fn sync(member: &str, generation: i32, all: &[String]) -> SyncRequest {
    SyncRequest {
        group_id: "g".into(),
        generation_id: generation,
        member_id: member.into(),
        instance_id: None,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: all.iter().map(|id| (id.clone(), Bytes::from(format!("for {id}")))).collect(),
    }
}

pub fn commit(member: &str, generation: i32, partition: i32, offset: i64) -> CommitRequest {
    CommitRequest {
        group_id: "g".into(),
        member_id: member.into(),
        instance_id: None,
        generation_id: generation,
        retention_ms: None,
        knows_group_id_not_found: true,
        topics: vec![CommitTopic {
            name: "t".into(),
            topic_id: model::TopicId([7; 16]),
            partitions: vec![CommitPartition {
                index: partition,
                offset,
                leader_epoch: 3,
                metadata: Some("note".into()),
            }],
        }],
    }
}

pub fn simple_commit(partition: i32, offset: i64) -> CommitRequest {
    commit("", -1, partition, offset)
}
