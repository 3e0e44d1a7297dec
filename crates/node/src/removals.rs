//! Files that go: of deleted topics, and of replicas that were moved away. What is gone for good is confirmed to the
//! metadata, which keeps a deleted topic in mind until every node that held a replica has said so.
use crate::admin::Internal;
use crate::groups::Slot;
use crate::node::Node;
use bytes::Bytes;
use cluster::Command;
use model::{GroupKey, Mono, Now, TopicId};
use proto::cluster::ConfirmDeletion;

/// A confirmation that did not come about is repeated after this, ms.
const AGAIN_MS: i64 = 1_000;
/// Topics that are confirmed in one look.
const AT_ONCE: usize = 200;

impl Node {
    /// Removing a group's files ended.
    pub(crate) fn removed(&mut self, now: Now, key: GroupKey, ok: bool) {
        if !ok {
            // Damage to the file system, or no rights: the next start finds what is left.
            self.removals.insert(key, false);
            return;
        }
        self.removals.remove(&key);
        self.open_replica(now, key);
        self.peers.next_confirm.get_or_insert(now.mono);
    }

    /// Tells the leader of the metadata which deleted topics have left nothing here.
    pub(crate) fn confirm_deletions(&mut self, now: Now) {
        if !self.registered || self.peers.next_confirm.is_none_or(|at| at > now.mono) {
            return;
        }
        let image = self.metadata.image();
        let me = self.cfg.node_id;
        let due = image.tombstones.iter().filter(|(_, nodes)| nodes.contains(&me)).map(|(id, _)| *id);
        let due: Vec<TopicId> = due.collect();
        let again: Option<Mono> = (!due.is_empty()).then(|| now.mono.after_ms(AGAIN_MS));
        self.peers.next_confirm = again;
        let gone: Vec<TopicId> = due.into_iter().filter(|id| self.is_gone(*id)).take(AT_ONCE).collect();
        for id in gone {
            let topic_id = Bytes::copy_from_slice(&id.0);
            self.tell_metadata(now, &Command::ConfirmDeletion(ConfirmDeletion { topic_id, node_id: me }));
        }
    }

    fn is_gone(&self, topic: TopicId) -> bool {
        let all = GroupKey { topic, partition: 0 }..=GroupKey { topic, partition: i32::MAX };
        let open = |slot: &Slot| !matches!(slot, Slot::Failed(_));
        !self.groups.range(all.clone()).any(|(_, slot)| open(slot))
            && self.removals.range(all.clone()).next().is_none()
            && self.states.range(all).next().is_none()
    }

    /// Has a command proposed, here or where the metadata is led. Whether it came about shows in the image.
    pub(crate) fn tell_metadata(&mut self, now: Now, command: &Command) {
        if self.leads_metadata() {
            self.propose(now, command, Internal::Part);
        } else {
            self.ask_leader(0, command);
        }
    }
}
