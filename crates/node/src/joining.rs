//! From a directory to a replica of the metadata: known from the last life, founded, or joined.
use crate::configs::metadata_config;
use crate::finding::Membership;
use crate::groups::{Open, Slot};
use crate::node::{Node, OpenError, load, replica};
use bytes::Bytes;
use cluster::Metadata;
use model::{GroupKey, NodeId, Now};
use partition::{Partition, Start};
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::{
    Damage, Directory, DiskRead, GroupState, RecoverError, RecoverJob, Replica, ReplicaKind, birth,
    generation_dir,
};

/// What a node says of its cluster to one that looks for its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// Its id; empty while that is not committed here.
    pub cluster_id: String,
    /// The first members of its metadata group; empty where the node looks for its cluster itself.
    pub founders: Vec<Replica>,
    /// The asker's replica of that group; 0 for none.
    pub replica: u64,
    /// Who leads it, as far as is known here.
    pub leader: Option<NodeId>,
    /// Where nodes are reached.
    pub nodes: Vec<(NodeId, String, u16)>,
    /// The members of the metadata group, as far as is known here.
    pub members: Vec<Replica>,
}

/// The founders as the configuration names them, and this node's replica among them.
pub(crate) fn founders_of(cfg: &crate::NodeConfig) -> (Vec<Replica>, u64) {
    let founders: Vec<Replica> = cfg.voters.iter().map(|(id, node)| replica(*id, *node)).collect();
    let own = founders.iter().find(|r| r.node_id == cfg.node_id).map_or(0, |r| r.id);
    (founders, own)
}

/// What the directory knows counts. One that was made before its node knew its cluster is told.
pub(crate) fn settle_founders(cfg: &mut crate::NodeConfig, dir: &mut Directory, now: Now) {
    if dir.founders().0.is_empty() && !cfg.voters.is_empty() {
        let (founders, own) = founders_of(cfg);
        dir.join(now.mono, &cfg.directory.cluster_id, founders, own);
    }
    cfg.voters = dir.founders().0.iter().map(|r| (r.id, r.node_id)).collect();
}

/// The replica of the metadata group that a directory holds or begins.
#[derive(Debug)]
pub(crate) enum Opening {
    /// No cluster is known yet.
    Nowhere,
    /// It runs. What is damaged of its base is of no matter to what it votes by.
    Open(Box<Partition>, Vec<Damage>),
    /// It is damaged, and others can bring it up anew.
    Damaged(Damage),
}

/// Opens it. One that is damaged is refused where nobody else votes: nobody knows more.
pub(crate) fn open_metadata(
    cfg: &crate::NodeConfig,
    dir: &mut Directory,
    states: &BTreeMap<GroupKey, GroupState>,
    disk: &dyn DiskRead,
    metadata: &mut Metadata,
) -> Result<Opening, OpenError> {
    let (founders, own) = dir.founders();
    if founders.is_empty() {
        return Ok(Opening::Nowhere);
    }
    let (key, birth) = (GroupKey::METADATA, birth(GroupKey::METADATA, founders.to_vec()));
    let (start, hard) = match states.get(&key) {
        None => (Start::Born(birth), Default::default()),
        Some(state) => {
            let dir = generation_dir(key, state.generation);
            let job = RecoverJob { key, dir, mark: state.mark, birth };
            match storage::recovery::recover(&job, disk) {
                Ok(recovered) => (Start::Recovered(Box::new(recovered)), state.hard),
                Err(RecoverError::Damaged(damage)) => {
                    return damaged_metadata(cfg, own, &job, disk, metadata, damage);
                }
                Err(error) => return Err(error.into()),
            }
        }
    };
    let damage = match &start {
        Start::Recovered(recovered) => recovered.base_damage.clone(),
        Start::Born(_) | Start::Reset { .. } => Vec::new(),
    };
    let config = Arc::new(metadata_config(metadata.image().broker_config()));
    let (partition, opened) = Partition::open(key, start, hard, own, config, dir, cfg.seed);
    load(metadata, opened)?;
    check_cluster(cfg, metadata)?;
    Ok(Opening::Open(Box::new(partition), damage))
}

/// The log is damaged: what its last checkpoint says is how the cluster is found again, and who else votes.
fn damaged_metadata(
    cfg: &crate::NodeConfig,
    own: u64,
    job: &RecoverJob,
    disk: &dyn DiskRead,
    metadata: &mut Metadata,
    damage: Damage,
) -> Result<Opening, OpenError> {
    let checkpoint = storage::recovery::last_checkpoint(job, disk).ok();
    let members = checkpoint.as_ref().map_or(&job.birth.members, |checkpoint| &checkpoint.members);
    if !members.iter().any(|m| m.id != own && m.kind() != ReplicaKind::Learner) {
        return Err(RecoverError::Damaged(damage).into());
    }
    if let Some(checkpoint) = checkpoint.filter(|checkpoint| !checkpoint.machine.is_empty()) {
        metadata.restore(checkpoint.machine)?;
    }
    check_cluster(cfg, metadata)?;
    Ok(Opening::Damaged(damage))
}

fn check_cluster(cfg: &crate::NodeConfig, metadata: &Metadata) -> Result<(), OpenError> {
    let (theirs, ours) = (metadata.image().cluster_id.to_string(), cfg.directory.cluster_id.clone());
    if !theirs.is_empty() && !ours.is_empty() && theirs != ours {
        return Err(OpenError::OtherCluster { theirs, ours });
    }
    Ok(())
}

impl Node {
    /// Whether this node has a place in a cluster: else it is to find one, and [`Node::join`] it.
    pub fn knows_cluster(&self) -> bool {
        !self.dir.founders().0.is_empty()
    }

    /// The replica of the metadata that this directory holds or begins; 0 for none.
    pub fn metadata_replica(&self) -> u64 {
        self.dir.founders().1
    }

    /// The node was unregistered and is registered again: it has another replica of the metadata now, which begins
    /// with what the old one had and has promised nothing (docs/replication.md, "Changing members"). The directory
    /// says so from now on, and the process is to start again when [`Node::has_new_place`]. `false`: not yet. The
    /// old replica may vote among `members` still, and the others are no majority without it.
    pub fn take_place(&mut self, now: Now, replica: u64, members: &[Replica]) -> bool {
        let own = self.metadata_replica();
        // Ids rise: what somebody says who has not heard of the last one does not count.
        if replica <= own || self.peers.new_place {
            return self.peers.new_place;
        }
        let votes = |m: &&Replica| m.kind() != ReplicaKind::Learner;
        let needed = members.iter().any(|m| m.id == own && votes(&m));
        let live = |m: &&Replica| m.id != own && self.peers.liveness.holds(now.mono, m.node_id);
        let others = members.iter().filter(votes).filter(live).count();
        if needed && 2 * others <= members.iter().filter(votes).count() {
            return false;
        }
        let (cluster_id, founders) = (self.dir.cluster_id().to_owned(), self.dir.founders().0.to_vec());
        self.dir.join(now.mono, &cluster_id, founders, replica);
        self.peers.new_place = true;
        true
    }

    /// Takes the replica of the metadata that the node's registration gave it, as soon as it may. Whether that is
    /// another one than its directory has, so that the node is not where it belongs yet.
    pub fn take_given_place(&mut self, now: Now) -> bool {
        let image = self.metadata.image();
        let given = image.quorum.get(&self.cfg.node_id).map_or(0, |r| r.id);
        if !self.registered || given <= self.metadata_replica() {
            return self.peers.new_place;
        }
        let members = self.open_group(GroupKey::METADATA).map(|o| o.partition.members().to_vec());
        self.take_place(now, given, &members.unwrap_or_default());
        true
    }

    /// Whether the directory durably says that the node has a new replica of the metadata: the process starts again.
    pub fn has_new_place(&self) -> bool {
        self.peers.new_place && self.is_founded()
    }

    /// Whether the directory's own files are durable, its id among them. Before that nobody must be told it.
    pub fn is_founded(&self) -> bool {
        self.dir.is_founded()
    }

    /// The cluster that the directory was made for, or has joined; empty where that is not known.
    pub fn directory_cluster_id(&self) -> &str {
        self.dir.cluster_id()
    }

    /// The node has found its place: its replica of the metadata is born with the founders, whether it is one of
    /// them or begins later.
    pub fn join(&mut self, now: Now, place: Membership) {
        if self.knows_cluster() || self.stopping() {
            return;
        }
        let Membership { cluster_id, founders, replica, members } = place;
        if consensus::Membership::new(founders.clone()).is_err() {
            // No group can have begun with these: somebody else is asked.
            return;
        }
        // Founders take the id that they were told to; the others were let in by a cluster that has one.
        let named = if cluster_id.is_empty() { &self.cfg.directory.cluster_id } else { &cluster_id };
        self.dir.join(now.mono, named, founders.clone(), replica);
        self.cfg.voters = founders.iter().map(|r| (r.id, r.node_id)).collect();
        self.heard_cluster_id(&cluster_id);
        let (key, config) =
            (GroupKey::METADATA, Arc::new(metadata_config(self.metadata.image().broker_config())));
        let start = Start::Born(birth(key, founders));
        let (partition, _) =
            Partition::open(key, start, Default::default(), replica, config, &mut self.dir, self.cfg.seed);
        self.groups.insert(key, Slot::Open(Open::new(partition)));
        let others: Vec<NodeId> = self.cfg.voters.iter().map(|(_, node)| *node).collect();
        others.into_iter().for_each(|node| self.peers.liveness.add(now.mono, node));
        self.meet(now, &members);
        self.begin(now);
    }

    /// Members of the metadata group of which the log here says nothing yet: what changed while this node was
    /// down, or before it joined.
    pub fn meet(&mut self, now: Now, members: &[Replica]) {
        for member in members {
            self.peers.liveness.add(now.mono, member.node_id);
        }
        self.peers.contacts = members.iter().map(|m| (m.id, m.node_id)).collect();
        self.address_metadata();
    }

    /// Whether a node is one of those that [`Node::meet`] named.
    pub fn is_met(&self, node: NodeId) -> bool {
        self.peers.contacts.iter().any(|(_, met)| *met == node)
            || self.cfg.voters.iter().any(|(_, founder)| *founder == node)
    }

    /// Tells the replica of the metadata where members are that its log does not name.
    pub(crate) fn address_metadata(&mut self) {
        let image = self.metadata.image();
        let wanted = image.quorum.values().map(|r| (r.id, r.node));
        let addresses = self.peers.contacts.iter().copied().chain(wanted).collect();
        self.with(GroupKey::METADATA, |p, _, _| p.set_addresses(addresses));
    }

    /// The replica of the metadata is there: it elects or hears of a leader, and the node registers.
    pub(crate) fn begin(&mut self, now: Now) {
        let key = GroupKey::METADATA;
        let Some(open) = self.open_group(key) else { return };
        let alone = open.partition.is_alone();
        let only = open.partition.votes_alone() && !alone;
        self.peers.registering = (!alone).then_some(now.mono);
        self.address_metadata();
        self.first_look(now);
        self.with(key, |p, dir, fx| p.touch(now, dir, fx));
        if only {
            // Those that only follow cannot elect anybody.
            self.with(key, |p, dir, fx| p.campaign(now, dir, fx));
        }
        self.settle(now);
    }

    /// This node's registration, for the node that is to let it in.
    pub fn registration_bytes(&self) -> Bytes {
        cluster::encode_command(&self.registration().command())
    }

    /// What node `asker`, which looks for its cluster, is told.
    pub fn whereabouts(&self, asker: NodeId) -> Whereabouts {
        let image = self.metadata.image();
        let reached =
            image.nodes.values().filter_map(|n| n.peer.as_ref().map(|p| (n.id, p.host.clone(), p.port)));
        let members = self.open_group(GroupKey::METADATA).map(|o| o.partition.members().to_vec());
        Whereabouts {
            cluster_id: image.cluster_id.to_string(),
            founders: self.dir.founders().0.to_vec(),
            replica: image.quorum.get(&asker).map_or(0, |r| r.id),
            leader: self.metadata_leader(),
            nodes: reached.collect(),
            members: members.unwrap_or_default(),
        }
    }
}
