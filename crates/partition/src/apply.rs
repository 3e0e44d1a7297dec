//! From the group to the log, and from commit to the answers.
use crate::api::{CommittedBody, CommittedEntry, PartitionFx};
use crate::in_sync::InSync;
use crate::partition::{Applied, Partition, Phase};
use crate::peers::summarise;
use crate::summary::{EntrySummary, Proposer, Steps};
use bytes::Bytes;
use consensus::{Committed, GroupFx, NewEntry, Role};
use model::planted::{Bug, planted};
use model::{ErrorCode, Now};
use prost::Message as _;
use proto::partition::{Command, command};
use storage::{Directory, EntryKind};

/// The format of commands that this version writes, and the newest that it reads.
pub(crate) const COMMAND_VERSION: u32 = 1;

/// The kind of an encoded command. Errors: it cannot be read, and must not be skipped.
pub(crate) fn decode_command(payload: Bytes) -> Result<command::Kind, String> {
    let command = Command::decode(payload).map_err(|e| format!("command: {e}"))?;
    if command.version > COMMAND_VERSION {
        return Err(format!(
            "a command needs format {}, this version reads {COMMAND_VERSION}",
            command.version
        ));
    }
    command.kind.ok_or_else(|| "a command of an unknown kind".to_owned())
}

impl Partition {
    /// Does what the group wants done: hard state and entries to the directory, committed entries to the
    /// producers, watermarks, machines and answers.
    pub(crate) fn pump(&mut self, now: Now, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        if let Phase::Failed(_) = self.phase {
            return;
        }
        let announced = self.announced;
        if let Some((index, term)) = self.agreed.take_if(|_| self.phase == Phase::Running) {
            self.group.known_committed(index, term);
        }
        let mut group_fx = std::mem::take(&mut self.scratch);
        loop {
            self.group.ready(&mut group_fx);
            self.take_effects(now, &mut group_fx, dir, fx);
            if !std::mem::take(&mut self.stirred) {
                break;
            }
        }
        self.scratch = group_fx;
        if announced != self.announced && self.unapplied.is_empty() {
            // Many partitions are touched once and stay idle.
            self.rest();
        }
    }

    fn take_effects(
        &mut self,
        now: Now,
        group_fx: &mut GroupFx,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) {
        for message in group_fx.messages.drain(..) {
            self.send(message, fx);
        }
        if let Some(hard) = group_fx.hard_state.take() {
            let state = storage::HardState { term: hard.term, vote: hard.vote };
            let round = dir.set_hard_state(self.key, state, hard.must_sync);
            self.group.hard_state_rides(round);
        }
        if !group_fx.appends.is_empty() {
            self.take_entries(now, group_fx, dir);
        }
        if let Some(freed) = group_fx.freed.take() {
            self.freed(freed, dir, fx);
        }
        for ask in group_fx.wanted.drain(..) {
            self.read_for_follower(ask, dir, fx);
        }
        for replica in group_fx.lagging.drain(..) {
            self.in_sync.is_behind(replica);
            fx.extend(self.node_of(replica).map(|node| PartitionFx::Lags { node }));
        }
        if planted(Bug::ApplyBeforeCommit) {
            self.apply_what_is_only_appended(fx);
        }
        if !group_fx.committed.is_empty() {
            let changed = group_fx.committed.iter().any(|c| c.kind == EntryKind::ConfChange);
            for entry in group_fx.committed.drain(..) {
                self.apply(entry, dir, fx);
            }
            if changed {
                fx.push(PartitionFx::Members);
            }
            self.log.set_commit(self.applied.index.min(self.group.applied()));
            dir.set_commit(self.key, self.group.applied());
            self.publish(fx);
        }
        for (round, index) in group_fx.confirmed.drain(..) {
            self.strong.on_confirmed(round, index);
        }
        self.strong.answer(self.applied.index, fx);
        if let Some((index, misfit)) = group_fx.broken.take() {
            return self.break_at(index, misfit, fx);
        }
        match group_fx.role.take() {
            Some(Role::Follower) => self.resign(fx),
            Some(Role::Leader) => {
                self.in_sync = InSync::default();
                if planted(Bug::NewLeaderForgetsProducers) {
                    self.producers = crate::producer_state::ProducerState::default();
                }
            }
            None => {}
        }
        self.look_at_followers(now, fx);
        self.stirred |= self.look_at_witnesses(now);
        if let Some(epoch) = self.group.leader_epoch()
            && self.announced != Some(epoch)
        {
            self.announced = Some(epoch);
            fx.push(PartitionFx::Became(epoch));
        }
    }

    fn take_entries(&mut self, now: Now, group_fx: &mut GroupFx, dir: &mut Directory) {
        // Who the members are must not be forgotten with the page cache: such a replica might take itself for all of them.
        let changes = |entry: &NewEntry| entry.head.kind == EntryKind::ConfChange;
        let relaxed = self.relaxes() && !group_fx.appends.iter().any(changes);
        let data = |entry: &NewEntry| entry.head.kind == EntryKind::Data;
        let data = !self.cfg.machine && group_fx.appends.iter().any(data);
        for entry in group_fx.appends.drain(..) {
            self.append_entry(now, entry, dir);
        }
        if self.may_relax() {
            // Said with the first write of a term, which is synced, no later one waits for it.
            dir.relax(self.key);
        }
        if self.held.is_empty() {
            dir.dirty(&self.log, relaxed, data);
        }
    }

    fn append_entry(&mut self, now: Now, entry: NewEntry, dir: &mut Directory) {
        let head = entry.head;
        if head.index < self.next_index() {
            self.give_up_from(head.index, dir);
        }
        // A no-op may stand before the first proposal: its summary stays for its own entry.
        let mut summary = match self.proposed.pop_front_if(|p| p.index == head.index) {
            Some(summary) => summary,
            None => summarise(&entry),
        };
        summary.term = head.term;
        if self.is_witness() {
            // It has begin marks and no markers, and serves nobody.
            summary.steps = Steps::default();
        }
        assert_eq!(summary.next_offset, head.next_offset(), "a summary stands for its entry");
        let max_timestamp = summary.max_timestamp;
        self.counters.bytes_appended += entry.payload.len() as u64;
        self.producers.push_pending(head.index, summary.steps.iter());
        self.unapplied.push_back(summary);
        if self.gives_way {
            self.held.push_back(entry);
        } else {
            self.log.append(now, &head, entry.payload, max_timestamp, dir.fx());
        }
    }

    /// Applies one committed entry: everything that is derived from the log moves here and nowhere else.
    fn apply(&mut self, entry: Committed, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        if entry.index <= self.applied.index {
            return;
        }
        let summary = self.unapplied.pop_front().expect("committed entries were appended");
        assert_eq!((summary.index, summary.term), (entry.index, entry.term), "entries are applied in order");
        let thirteen = summary.next_offset - summary.base_offset == 13;
        assert!(!(thirteen && planted(Bug::PanicInApply)), "planted: thirteen records");
        if let Some(why) = &summary.damage {
            return self.cannot_read(summary.index, why, fx);
        }
        self.producers.apply(summary.index, summary.append_time, summary.steps.iter());
        self.applied = Applied { index: summary.index, term: summary.term, next_offset: summary.next_offset };
        match entry.kind {
            EntryKind::Data => self.tell_machine_of_data(&summary, fx),
            EntryKind::Command => match decode_command(entry.payload) {
                Ok(kind) => self.apply_command(&summary, kind, dir, fx),
                Err(why) => self.cannot_read(summary.index, &why, fx),
            },
            EntryKind::NoOp | EntryKind::ConfChange | EntryKind::Bare => {}
        }
        self.acks.on_committed(summary.index, self.marks.log_start(), fx);
    }

    /// What is committed cannot be applied here, and must not be skipped.
    fn cannot_read(&mut self, index: u64, why: &str, fx: &mut Vec<PartitionFx>) {
        self.fail(ErrorCode::KafkaStorageError, fx);
        fx.push(PartitionFx::Failed(format!("entry {index} of {}: {why}", self.key)));
    }

    fn tell_machine_of_data(&self, summary: &EntrySummary, fx: &mut Vec<PartitionFx>) {
        if !self.cfg.machine {
            return;
        }
        // A marker is alone in its entry.
        let mut ends = summary.steps.ends().peekable();
        if ends.peek().is_none() {
            let (base_offset, next_offset) = (summary.base_offset, summary.next_offset);
            return self.tell_machine(summary, CommittedBody::Data { base_offset, next_offset }, fx);
        }
        for end in ends {
            let body = CommittedBody::Marker {
                producer_id: end.producer_id,
                producer_epoch: end.producer_epoch,
                commit: end.commit,
                coordinator_epoch: end.coordinator_epoch,
                offset: end.offset,
            };
            self.tell_machine(summary, body, fx);
        }
    }

    fn tell_machine(&self, summary: &EntrySummary, body: CommittedBody, fx: &mut Vec<PartitionFx>) {
        if !self.cfg.machine {
            return;
        }
        let token = match summary.proposer {
            Proposer::Machine(token) => Some(token),
            Proposer::Nobody | Proposer::LogStart(_) => None,
        };
        fx.push(PartitionFx::Committed(CommittedEntry { index: summary.index, token, body }));
    }

    fn apply_command(
        &mut self,
        summary: &EntrySummary,
        kind: command::Kind,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) {
        match kind {
            // Done with the entry's steps.
            command::Kind::BeginTransaction(_) => {}
            command::Kind::Machine(payload) => {
                self.tell_machine(summary, CommittedBody::Command(payload), fx)
            }
            command::Kind::CleanHorizon(to) => self.log.apply_clean_horizon(to.offset),
            command::Kind::LogStart(to) => {
                // Entries before it may have been committed with it; the log start follows them.
                self.publish(fx);
                if self.marks.move_log_start(to.offset) {
                    self.producers.prune(self.marks.log_start());
                    self.log.apply_log_start(self.marks.log_start(), dir.fx());
                    fx.push(PartitionFx::LogStart(self.marks.log_start()));
                }
                if self.proposed_log_start.is_some_and(|p| p <= self.marks.log_start()) {
                    self.proposed_log_start = None;
                }
                if let Proposer::LogStart(token) = summary.proposer {
                    fx.push(PartitionFx::LogStartDone { token, result: Ok(self.marks.log_start()) });
                }
            }
        }
    }

    /// Makes the applied position visible.
    fn publish(&mut self, fx: &mut Vec<PartitionFx>) {
        self.producers.bound(self.cfg.max_producers);
        let mut high = self.applied.next_offset;
        if planted(Bug::HighWatermarkTooHigh) {
            high = self.unapplied.front().map_or(high, |next| next.next_offset).max(self.marks.high());
        }
        if self.marks.advance(high, self.producers.first_open()) {
            fx.push(PartitionFx::HighWatermark(self.marks.high()));
        }
    }

    fn apply_what_is_only_appended(&mut self, fx: &mut Vec<PartitionFx>) {
        while let Some(summary) = self.unapplied.pop_front() {
            self.producers.apply(summary.index, summary.append_time, summary.steps.iter());
            self.applied =
                Applied { index: summary.index, term: summary.term, next_offset: summary.next_offset };
            if summary.kind == EntryKind::Data {
                self.tell_machine_of_data(&summary, fx);
            }
        }
        self.publish(fx);
    }

    /// Leads no more. What was appended may yet be committed by another leader: nobody is told that it was
    /// not. It stays in the pending layer for as long as it is in the log.
    fn resign(&mut self, fx: &mut Vec<PartitionFx>) {
        let refusal = planted(Bug::LostLeadIsRefusal);
        let code = if refusal { ErrorCode::NotLeaderOrFollower } else { ErrorCode::RequestTimedOut };
        self.answer_all(code, fx);
        self.proposed.clear();
        self.proposed_log_start = None;
        self.in_sync = InSync::default();
        self.tickets.void_all();
        self.wishes.clear();
        if self.announced.take().is_some() {
            fx.push(PartitionFx::Resigned);
        }
    }
}
