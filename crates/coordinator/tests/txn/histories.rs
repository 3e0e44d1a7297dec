//! Random histories: clients that crash, come back and repeat themselves, a log that fails, leaders that change,
//! markers that are lost, late and doubled. After every step the checks of `checks.rs` hold.
use crate::checks::{Check, ensure};
use crate::world::*;
use coordinator::txn::*;
use model::ErrorCode;
use model::planted::{Bug, plant};
use std::collections::BTreeMap;
use std::sync::Arc;

impl World {
    fn random_client(&mut self) -> Check {
        let at = self.rng.below(self.clients.len());
        if self.clients[at].waits {
            return Ok(());
        }
        if self.rng.chance(4) {
            return self.crash(at);
        }
        let client = self.clients[at].clone();
        match (client.producer, client.ending) {
            (None, _) => self.init(at, None),
            (Some(who), Some(commit)) => self.end(at, who, commit),
            (Some(who), None) => match self.rng.below(20) {
                0..=11 => self.add(at, who),
                12 => self.init(at, Some(who)),
                13..=16 => self.end(at, who, true),
                _ => self.end(at, who, false),
            },
        }
    }

    /// A new process of the same id; the old one may not know that it is replaced.
    fn crash(&mut self, at: usize) -> Check {
        let id = self.clients[at].id;
        let instance = self.clients.iter().filter(|c| c.id == id).map(|c| c.instance).max().unwrap() + 1;
        if self.clients.len() < 40 {
            self.clients.push(Client { id, instance, producer: None, ending: None, waits: false });
        }
        Ok(())
    }

    fn init(&mut self, at: usize, expected: Option<(i64, i16)>) -> Check {
        let request = InitRequest {
            transactional_id: name(self.clients[at].id),
            timeout_ms: TIMEOUT_MS as i32,
            expected,
            principal: Some(Arc::from("p")),
            ..InitRequest::default()
        };
        self.ask(Asked::Init(at, expected), |c, now, token, fx| c.init_producer_id(now, token, request, fx))
    }

    fn add(&mut self, at: usize, who: (i64, i16)) -> Check {
        let id = self.clients[at].id;
        let partition = crate::bench::tp("t", self.rng.below(5) as i32);
        let verify_only = self.rng.chance(15);
        let asked = Asked::Add(at, who, partition.clone(), verify_only);
        let request = AddPartitionsRequest {
            transactional_id: name(id),
            producer_id: who.0,
            producer_epoch: who.1,
            verify_only,
            version: version(id),
            partitions: vec![partition],
        };
        // A client asks, or the leader of a partition, which waits where the id is busy.
        let waits = self.rng.chance(50);
        self.ask(asked, |c, now, token, fx| match waits {
            true => c.add_partitions_when_free(now, token, request, fx),
            false => c.add_partitions(now, token, request, fx),
        })
    }

    fn end(&mut self, at: usize, who: (i64, i16), commit: bool) -> Check {
        let id = self.clients[at].id;
        self.clients[at].ending = Some(commit);
        let request = EndRequest {
            transactional_id: name(id),
            producer_id: who.0,
            producer_epoch: who.1,
            commit,
            version: version(id),
            connection: 0,
        };
        if request.version == TxnVersion::V2 && self.late.len() < 64 {
            self.late.push(request.clone());
        }
        let asked = Asked::End(at, request.clone(), false);
        self.ask(asked, |c, now, token, fx| c.end_transaction(now, token, request, fx))
    }

    /// A request that the network kept for long.
    fn late_end(&mut self) -> Check {
        if self.late.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.late.len());
        let request = self.late.swap_remove(at);
        self.count("late end");
        let asked = Asked::End(usize::MAX, request.clone(), true);
        self.ask(asked, |c, now, token, fx| c.end_transaction(now, token, request, fx))
    }

    /// Who was replaced has no success any more.
    fn not_fenced(&self, at: usize, what: &str) -> Check {
        let client = &self.clients[at];
        let newest = self.granted.get(&client.id).copied().unwrap_or_default();
        ensure(client.instance >= newest, || format!("{what} of a fenced client: {client:?} below {newest}"))
    }

    pub fn answered(&mut self, asked: Asked, reply: Reply) -> Check {
        match (asked, reply) {
            (Asked::Init(at, expected), Reply::Init(reply)) => self.initialised(at, expected, reply),
            (Asked::Add(at, who, partition, verify), Reply::AddPartitions(reply)) => {
                self.added(at, who, &partition, verify, reply.partitions[0].1)
            }
            (Asked::End(at, request, late), Reply::End(reply)) => self.ended(at, &request, late, reply),
            (asked, reply) => Err(format!("{asked:?} is answered by {reply:?}")),
        }
    }

    fn initialised(&mut self, at: usize, expected: Option<(i64, i16)>, reply: ProducerReply) -> Check {
        self.clients[at].waits = false;
        let (id, instance) = (self.clients[at].id, self.clients[at].instance);
        if !reply.error.is_none() {
            if expected.is_some() && !reply.error.is_retriable() {
                self.retire(at);
            }
            return Ok(());
        }
        let who = (reply.producer_id, reply.producer_epoch);
        ensure(reply.producer_epoch < i16::MAX, || "the coordinator's own epoch is given out".into())?;
        if expected.is_some() {
            self.not_fenced(at, "an init")?;
        } else {
            ensure(self.grants.insert(who), || format!("{who:?} is given out twice"))?;
            // A process that was replaced may begin anew, and replaces the other in turn.
            let newest = self.clients.iter().filter(|c| c.id == id).map(|c| c.instance).max().unwrap();
            let instance =
                if self.granted.get(&id).is_some_and(|g| *g > instance) { newest + 1 } else { instance };
            self.clients[at].instance = instance;
            self.granted.insert(id, instance);
        }
        // The answer may be lost: then the process begins anew.
        self.clients[at].producer = self.rng.chance(95).then_some(who);
        self.clients[at].ending = None;
        Ok(())
    }

    /// A fatal error: the process ends, or goes on as a zombie with what it has.
    fn retire(&mut self, at: usize) {
        if self.rng.chance(80) {
            self.clients[at].producer = None;
        }
        self.clients[at].ending = None;
    }

    fn added(
        &mut self,
        at: usize,
        who: (i64, i16),
        partition: &TopicPartition,
        verify: bool,
        error: ErrorCode,
    ) -> Check {
        self.clients[at].waits = false;
        if !error.is_none() {
            if !error.is_retriable() && !verify {
                self.retire(at);
            }
            return Ok(());
        }
        self.not_fenced(at, "an add")?;
        let value = self.last(&name(self.clients[at].id));
        let there = value.is_some_and(|v| {
            v.state == TxnState::Ongoing
                && (v.producer_id, v.producer_epoch) == who
                && v.partitions.contains(partition)
        });
        ensure(there, || format!("{partition:?} is not in the transaction of {who:?}: {value:?}"))
    }

    fn ended(&mut self, at: usize, request: &EndRequest, late: bool, reply: ProducerReply) -> Check {
        let who = (request.producer_id, request.producer_epoch);
        if !late {
            self.clients[at].waits = false;
        }
        if !reply.error.is_none() {
            if !late && !reply.error.is_retriable() {
                self.retire(at);
            }
            return Ok(());
        }
        let history = self.histories.get(&request.transactional_id);
        let result = history.and_then(|h| h.result_of(who));
        ensure(result == Some(request.commit), || {
            format!("{request:?} succeeded, and the log says {result:?}")
        })?;
        if late {
            return Ok(());
        }
        self.not_fenced(at, "an end")?;
        // The answer may be lost; then it is asked again, by the same producer and epoch.
        if self.rng.chance(15) {
            return Ok(());
        }
        self.clients[at].ending = None;
        if request.version == TxnVersion::V2 {
            let next = (reply.producer_id, reply.producer_epoch);
            ensure(next.0 != who.0 && next.1 == 0 || next == (who.0, who.1 + 1), || {
                format!("{request:?} is answered by {next:?}")
            })?;
            self.clients[at].producer = Some(next);
        }
        Ok(())
    }

    fn random_step(&mut self) -> Check {
        match self.rng.below(100) {
            0..=34 => self.random_client(),
            35..=54 => self.commit_one(),
            55..=66 => self.deliver_marker(false),
            67..=78 => self.deliver_answer(false),
            79..=85 => self.producer_ids(false),
            86 => self.producer_ids(true),
            87..=89 => self.late_end(),
            90 => self.fail_one(),
            91..=92 => self.fail_over(),
            93 => {
                self.take_checkpoint();
                Ok(())
            }
            94..=98 => {
                let ms = self.rng.below(900) as i64;
                self.wait(ms)
            }
            _ if self.rng.chance(10) => {
                self.delete_partition();
                Ok(())
            }
            _ => {
                let ms = self.rng.below(30_000) as i64;
                self.wait(ms)
            }
        }
    }
}

/// One history; how often things happened in it.
fn history(seed: u64, steps: usize) -> Result<BTreeMap<&'static str, usize>, String> {
    let mut world = World::new(seed);
    for step in 0..steps {
        world.random_step().map_err(|e| format!("seed {seed} step {step}: {e}"))?;
    }
    world.settle().map_err(|e| format!("seed {seed} at the end: {e}"))?;
    Ok(world.seen)
}

#[test]
fn random_histories_keep_every_promise() {
    let mut seen: BTreeMap<&'static str, usize> = BTreeMap::new();
    for seed in 0..150 {
        for (what, count) in history(seed, 3_000).unwrap() {
            *seen.entry(what).or_default() += count;
        }
    }
    for what in [
        "ended",
        "timed out",
        "fenced",
        "append failed",
        "change of the leader",
        "late end",
        "new producer id by an end",
    ] {
        assert!(seen.get(what).is_some_and(|n| *n > 20), "{what} hardly happens: {seen:?}");
    }
}

/// Removes the bug even when the test fails.
struct Planted;

impl Drop for Planted {
    fn drop(&mut self) {
        plant(None);
    }
}

#[test]
fn planted_bugs_are_caught() {
    for (bug, words) in [
        (Bug::MarkerBeforePrepareCommitted, "a marker before its Prepare is committed"),
        (Bug::CompleteBeforeMarkers, "Complete before the marker"),
        (Bug::LateEndTxnAccepted, "a late end was accepted"),
    ] {
        assert!(Bug::OF_TRANSACTIONS.contains(&bug));
        let _planted = Planted;
        plant(Some(bug));
        let caught = (0..20).find_map(|seed| history(seed, 3_000).err());
        let caught = caught.unwrap_or_else(|| panic!("nothing catches {bug:?}"));
        assert!(caught.contains(words), "{bug:?}: {caught}");
    }
}
