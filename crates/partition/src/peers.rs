//! The other replicas of a partition: their messages, elections, entries that they are behind by.
use crate::api::PartitionFx;
use crate::partition::{Partition, Phase};
use crate::summary::EntrySummary;
use bytes::Bytes;
use consensus::{DataHead, EntriesAsk, NewEntry, PeerMessage, Refused};
use model::{ErrorCode, NodeId, Now, Offset};
use records::{batches, check_crc, parse_end_marker};
use storage::{Directory, EntriesPlan, EntryHead, EntryKind, Removal};

/// What apply needs of an entry that another replica proposed. Its batches were checked when it came.
pub(crate) fn summarise(entry: &NewEntry) -> EntrySummary {
    let NewEntry { head, payload } = entry;
    if head.kind != EntryKind::Data {
        return EntrySummary::of_other(head, payload);
    }
    let found = batches(payload).filter_map(Result::ok);
    let found = found.map(|(range, header)| (header, header.is_control().then(|| payload.slice(range))));
    EntrySummary::of_data(head, found)
}

/// Whether a data entry holds whole batches with right checksums, at the offsets that it claims. What a batch's
/// own checksum leaves out must be what the entry's head says, or replicas would store different bytes.
fn check_batches(term: u64, head: &DataHead, payload: &[u8]) -> Result<(), String> {
    let mut next = head.base_offset;
    for batch in batches(payload) {
        let (range, header) = batch.map_err(|e| e.to_string())?;
        check_crc(&payload[range.clone()]).map_err(|e| e.to_string())?;
        if header.is_control() {
            parse_end_marker(&Bytes::copy_from_slice(&payload[range])).map_err(|e| e.to_string())?;
        }
        if header.base_offset != next || header.last_offset_delta < 0 {
            return Err(format!("a batch at offset {} where {next} was due", header.base_offset));
        }
        if i64::from(header.partition_leader_epoch) != i64::try_from(term).unwrap_or(-1) {
            return Err(format!("a batch of epoch {} in term {term}", header.partition_leader_epoch));
        }
        next = header.next_offset();
    }
    let end = head.base_offset.saturating_add(i64::from(head.offset_count));
    if next != end { Err(format!("batches end at {next}, the entry at {end}")) } else { Ok(()) }
}

impl Partition {
    /// A message from another replica of this partition. What contradicts the log here is refused with
    /// [`PartitionFx::Refused`] and changes nothing.
    pub fn step(&mut self, now: Now, message: PeerMessage, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        // While its end is written again the replica holds less than it promised: it says nothing.
        if self.phase != Phase::Running || dir.fenced().is_some() {
            return;
        }
        let node = self.node_of(message.from());
        let damaged =
            message.data().find_map(|(term, head, payload)| check_batches(term, &head, payload).err());
        if let Some(why) = damaged {
            let node = node.unwrap_or(-1);
            return fx.push(PartitionFx::Refused { node, why: format!("an entry is damaged: {why}") });
        }
        match self.group.step(message) {
            Ok(()) => {}
            Err(refused) => self.refuse(node.unwrap_or(-1), refused, fx),
        }
        self.pump(now, dir, fx);
    }

    fn refuse(&mut self, node: NodeId, refused: Refused, fx: &mut Vec<PartitionFx>) {
        if let (Refused::Lost { .. }, true) = (refused, self.is_restrained()) {
            // The leader remembers what an earlier life acknowledged.
            return fx.push(PartitionFx::Forgot { node });
        }
        fx.push(PartitionFx::Refused { node, why: refused.to_string() });
        if let Refused::Lost { .. } = refused {
            // It has forgotten what it acknowledged: its votes and acknowledgements are worth nothing.
            self.fail(ErrorCode::KafkaStorageError, fx);
            fx.push(PartitionFx::Failed(format!(
                "{}: {refused}. Synced entries of this replica are gone; replace the replica",
                self.key
            )));
        }
    }

    pub(crate) fn send(&self, message: PeerMessage, fx: &mut Vec<PartitionFx>) {
        if let Some(node) = self.node_of(message.to()) {
            fx.push(PartitionFx::Send { node, message });
        }
    }

    /// The node that leads, as far as this replica knows.
    pub fn leader_node(&self) -> Option<NodeId> {
        self.group.leader().and_then(|id| self.node_of(id))
    }

    /// Whether this replica leads, whether it serves already or not.
    pub fn is_leader(&self) -> bool {
        self.group.is_leader()
    }

    /// Whether this replica is all of its group.
    pub fn is_alone(&self) -> bool {
        self.group.is_alone()
    }

    /// The present term.
    pub fn term(&self) -> u64 {
        self.group.term()
    }

    /// The index of the last entry.
    pub fn last_index(&self) -> u64 {
        self.group.last_index()
    }

    /// The term of the last entry.
    pub fn last_term(&self) -> u64 {
        self.group.last_term()
    }

    /// The leader says that the entry `index` of `term` is committed, though not in a message of raft. Where that
    /// very entry stands in the log here, so is everything up to it (log matching).
    pub fn known_committed(
        &mut self,
        now: Now,
        (index, term): (u64, u64),
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) {
        if self.phase == Phase::Running && dir.fenced().is_none() {
            self.group.known_committed(index, term);
            self.pump(now, dir, fx);
        }
    }

    /// The index up to which entries are committed, as far as this replica knows.
    pub fn committed_index(&self) -> u64 {
        self.group.committed()
    }

    /// The index up to which entries are applied.
    pub fn applied_index(&self) -> u64 {
        self.applied.index
    }

    /// Asks the others for their votes, unless it leads, is not ready, or is no voter.
    pub fn campaign(&mut self, now: Now, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        if self.phase == Phase::Running && !self.group.is_leader() && !self.stands_down {
            self.group.campaign();
        }
        self.pump(now, dir, fx);
    }

    /// [`consensus::TICK_MS`] pass for the group: a leader sends heartbeats, a follower may campaign. A group
    /// that sleeps gets none.
    pub fn tick_group(&mut self, now: Now, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        // Ticks make a follower campaign, and nothing else.
        let ticks = !self.stands_down || self.group.is_leader();
        if self.phase == Phase::Running && dir.fenced().is_none() && ticks {
            self.group.tick();
            self.end_prompt_commits(now);
            self.pump(now, dir, fx);
        }
    }

    /// The leader's node is known to be gone: this replica does not tell others that there is a leader.
    pub fn lose_leader(&mut self, now: Now, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        self.group.lose_leader();
        self.pump(now, dir, fx);
    }

    /// Ticks begin again after a rest.
    pub fn wake(&mut self) {
        self.group.wake();
    }

    /// Hands leadership to the replica on `node`, once that has everything. Appends are refused meanwhile,
    /// for an election timeout at most. `false`: it does not lead, or there is no such replica.
    pub fn transfer_leader(
        &mut self,
        now: Now,
        node: NodeId,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) -> bool {
        let voter = |m: &&storage::Replica| !m.witness && m.kind() == storage::ReplicaKind::Voter;
        let to = self.member_on(node).filter(voter).map(|m| m.id);
        let Some(to) = to.filter(|_| self.group.is_leader()) else { return false };
        self.group.transfer_leader(to);
        self.pump(now, dir, fx);
        true
    }

    /// Whether leadership is being handed over.
    pub fn is_transferring(&self) -> bool {
        self.group.is_transferring()
    }

    /// Whether a leader has nothing on its way: every entry is committed, and every replica on a live node
    /// has persisted the last.
    pub fn is_settled(&self) -> bool {
        let last = self.group.last_index();
        self.leader_epoch().is_some()
            && self.applied.index == last
            && self
                .members()
                .iter()
                .filter(|m| !self.is_down(m.id))
                .all(|m| self.group.followers().any(|f| f.replica_id == m.id && f.matched == last))
    }

    /// The offset that the next append gets.
    pub(crate) fn next_offset(&self) -> Offset {
        let last = self.proposed.back().or(self.unapplied.back());
        last.map_or(self.applied.next_offset, |summary| summary.next_offset)
    }

    /// The index of the next entry for the log.
    pub(crate) fn next_index(&self) -> u64 {
        self.unapplied.back().map_or(self.applied.index, |summary| summary.index) + 1
    }

    /// A new leader's log differs from `index` on: what is here from there goes. Entries that follow may have
    /// to wait for [`Partition::on_lowered`].
    pub(crate) fn give_up_from(&mut self, index: u64, dir: &mut Directory) {
        while self.unapplied.pop_back_if(|s| s.index >= index).is_some() {}
        while self.held.pop_back_if(|e| e.head.index >= index).is_some() {}
        self.producers.drop_pending();
        for summary in &self.unapplied {
            self.producers.push_pending(summary.index, summary.steps.iter());
        }
        if index <= self.log.last_index() {
            self.gives_way = self.log.give_up_after(index - 1, dir) == Removal::Waits;
        }
    }

    /// The log's end has given way: what waited for it is appended.
    pub fn on_lowered(&mut self, now: Now, dir: &mut Directory, fx: &mut Vec<PartitionFx>) {
        if let Phase::Failed(_) = self.phase {
            return;
        }
        self.gives_way = self.log.lowered(dir) == Removal::Waits;
        if self.gives_way {
            return;
        }
        let data = !self.cfg.machine && self.held.iter().any(|e| e.head.kind == EntryKind::Data);
        let any = !self.held.is_empty();
        for NewEntry { head, payload } in std::mem::take(&mut self.held) {
            let summary = self.unapplied.iter().find(|s| s.index == head.index);
            let max_timestamp = summary.map_or(-1, |s| s.max_timestamp);
            self.log.append(now, &head, payload, max_timestamp, dir.fx());
        }
        if any {
            dir.dirty(&self.log, false, data);
        }
        self.pump(now, dir, fx);
    }

    pub(crate) fn read_for_follower(&mut self, ask: EntriesAsk, dir: &Directory, fx: &mut Vec<PartitionFx>) {
        let EntriesAsk { number, low, high, max_bytes } = ask;
        let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        let near = self.log.entries_in_memory(low, high, max_bytes);
        if !near.is_empty() {
            let near = near.into_iter().map(|(head, payload)| NewEntry { head, payload });
            self.group.on_entries(number, near.collect());
            self.stirred = true;
            return;
        }
        match self.log.entries_plan(low, high, max_bytes, dir) {
            EntriesPlan::File(range) => {
                let range = Box::new(range);
                fx.push(PartitionFx::ReadEntries { number, range });
            }
            EntriesPlan::NotYet => self.wishes.push(ask),
            // raft finds that out by itself as soon as it looks at the window again.
            EntriesPlan::Compacted => self.group.on_entries(number, Vec::new()),
        }
    }

    /// The end of [`PartitionFx::ReadEntries`]: what was read, or nothing where it could not be.
    pub fn on_entries(
        &mut self,
        now: Now,
        number: u64,
        entries: Vec<(EntryHead, Bytes)>,
        dir: &mut Directory,
        fx: &mut Vec<PartitionFx>,
    ) {
        let entries = entries.into_iter().map(|(head, payload)| NewEntry { head, payload });
        self.group.on_entries(number, entries.collect());
        self.pump(now, dir, fx);
    }
}
