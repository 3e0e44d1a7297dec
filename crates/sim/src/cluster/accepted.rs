//! All nodes but one lose their disks for good, and an operator accepts what went with them.
use super::events::{Event, MS, SECOND};
use super::run::Run;
use super::verify::PATIENCE;
use cluster::PartitionTarget;
use model::{ErrorCode, GroupKey, NodeId};
use node::{AdminReply, AdminRequest, Node, RecoverAsk, Reply, Token};
use std::collections::BTreeSet;

/// Tokens of the operator's requests.
const OPERATOR: u64 = 1 << 59;
/// The machine that is left; it alone votes on the metadata.
const LEFT: usize = 0;

/// What the operator asked for last, and was told.
#[derive(Debug, Default)]
pub(super) struct Operator {
    /// The machine that is asked.
    pub(super) at: usize,
    asked: u64,
    answer: Option<AdminReply>,
    /// Looks that found everything led.
    led: u32,
}

/// A leader that has lost its majority goes on as one for a while: so many looks must find one.
const LED_LOOKS: u32 = 12;

impl Operator {
    fn token(&self) -> Token {
        Token(OPERATOR + self.asked)
    }
}

impl Run {
    /// One node is cut off while clients go on; the others, which alone have what is acknowledged then, are lost.
    pub(crate) fn lose_all_but_one(&mut self) {
        // What rots there and was not scrubbed yet would have no other copy to be mended from.
        if self.world.rotten == Some(LEFT) {
            return;
        }
        let mut operator = Operator { at: LEFT, ..Operator::default() };
        if !self.spread_everything(&mut operator) {
            return;
        }
        let others: Vec<usize> = (0..self.world.machines.len()).filter(|m| *m != LEFT).collect();
        (self.clients.draining, self.clients.settled) = (false, true);
        self.pass(300 * MS);
        for other in &others {
            self.world.net.cut((LEFT, *other));
            self.world.net.cut((*other, LEFT));
        }
        let while_cut = self.world.some(4 * SECOND);
        self.pass(while_cut);
        if !self.is_well() {
            return;
        }
        self.world.trace.add(format_args!("all disks but that of {LEFT} are lost"));
        let lost = others.iter().map(|other| self.world.machines[*other].directory_id());
        let lost: Vec<[u8; 16]> = lost.collect();
        for other in &others {
            self.world.sometimes.disks_lost += 1;
            self.world.crash(*other, true, MS);
            self.world.machines[*other].lose_disk();
        }
        if self.swarm.write_caching {
            // The one that is left may lack what it acknowledged; with nobody to ask it neither votes nor leads.
            self.world.crash(LEFT, true, MS);
        }
        self.clients.draining = true;
        self.clients.forget_all(&mut self.world);
        self.world.net.heal_all();
        self.world.go_on();
        for (other, lost) in others.into_iter().zip(lost) {
            let node = self.world.machines[other].id;
            if !self.until(&mut operator, "a lost node to be unregistered", |run, operator| {
                run.unregister(operator, node, lost)
            }) {
                return;
            }
            self.world.machines[other].barred = false;
            let after = self.world.some(5 * SECOND);
            self.world.later(after, Event::Start { machine: other });
        }
        if self.until(&mut operator, "what is lost to be accepted", Run::accept) {
            self.heal_and_verify();
        }
    }

    /// Asks for something every 300 ms until it is done. `step` answers whether it is.
    pub(super) fn until(
        &mut self,
        operator: &mut Operator,
        what: &str,
        mut step: impl FnMut(&mut Run, &mut Operator) -> bool,
    ) -> bool {
        let until = self.world.t + 2 * PATIENCE;
        while self.is_well() {
            if step(self, operator) {
                return true;
            }
            if self.world.t > until {
                let last = format!("waited for {what} in vain: {:?}", operator.answer);
                self.oracle.violate("liveness", last);
            }
            self.world.later(300 * MS, Event::Look);
            let next = self.world.t + 300 * MS;
            while self.world.t < next && self.is_well() {
                self.step_then(|world| {
                    let token = operator.token();
                    for replied in world.replies.extract_if(.., |r| r.token == token) {
                        if let Reply::Admin(reply) = replied.reply {
                            operator.answer = Some(reply);
                        }
                    }
                });
            }
        }
        false
    }

    pub(super) fn ask(&mut self, operator: &mut Operator, request: AdminRequest) {
        operator.asked += 1;
        operator.answer = None;
        let token = operator.token();
        self.world.call(operator.at, |node, now| node.admin(now, token, request));
    }

    fn asked(&self, operator: &Operator) -> Option<&Node> {
        self.world.machines[operator.at].node.as_ref().filter(|node| node.ready())
    }

    /// Every partition gets a replica on every node: one that has none on the node that is left could not go on.
    fn spread_everything(&mut self, operator: &mut Operator) -> bool {
        let nodes: Vec<NodeId> = (1..=self.world.machines.len() as NodeId).collect();
        self.until(operator, "every node to have a replica of everything", |run, operator| {
            let Some(image) = run.asked(operator).map(Node::image) else { return false };
            let mut targets = Vec::new();
            let mut moving = false;
            for topic in image.topics() {
                for (index, partition) in topic.partitions.iter().enumerate() {
                    moving |= partition.is_moving();
                    let have: BTreeSet<NodeId> = partition.copies().map(|r| r.node).collect();
                    if have.len() < nodes.len() {
                        let (topic, partition) = (topic.name.to_string(), index as i32);
                        targets.push(PartitionTarget { topic, partition, nodes: Some(nodes.clone()) });
                    }
                }
            }
            let done = targets.is_empty() && !moving;
            if !targets.is_empty() {
                run.ask(operator, AdminRequest::Reassign { targets, keep_factor: false });
            }
            done
        })
    }

    /// Unregisters a node that is not to count with directory `lost` any more; whether it does not.
    pub(super) fn unregister(&mut self, operator: &mut Operator, node: NodeId, lost: [u8; 16]) -> bool {
        let code = match &operator.answer {
            Some(AdminReply::Done(items)) => match items.first() {
                Some(Err(error)) => Some(error.code),
                _ => None,
            },
            _ => None,
        };
        let there = self
            .asked(operator)
            .is_none_or(|asked| asked.image().nodes.get(&node).is_some_and(|n| n.directories == [lost]));
        if !there || code == Some(ErrorCode::BrokerIdNotRegistered) {
            operator.answer = None;
            return !there;
        }
        self.ask(operator, AdminRequest::Unregister(node));
        false
    }

    /// Accepts the loss of the first partition that nobody leads. What is left crashes now and then meanwhile.
    fn accept(&mut self, operator: &mut Operator) -> bool {
        if let Some(AdminReply::Recovery(plan)) = &operator.answer
            && let Ok((loss, _)) = &plan.verdict
        {
            let key = GroupKey { topic: loss.topic, partition: loss.partition };
            self.world.trace.add(format_args!("accepted for {key} {loss:?}"));
        }
        let Some(left) = self.asked(operator) else { return false };
        let image = left.image();
        let mut due = None;
        for topic in image.topics() {
            for index in 0..topic.partitions.len() as i32 {
                let key = GroupKey { topic: topic.id, partition: index };
                if left.leader_of(key).1.is_none() {
                    due.get_or_insert((topic.name.to_string(), index));
                }
            }
        }
        let Some((topic, partition)) = due else {
            operator.led += 1;
            return operator.led > LED_LOOKS;
        };
        operator.led = 0;
        let (principal, accept) = ("User:operator".to_owned(), true);
        self.ask(operator, AdminRequest::Recover(RecoverAsk { topic, partition, principal, accept }));
        if self.world.rng.chance(1, 6) {
            let power = !self.swarm.write_caching && self.world.rng.chance(1, 2);
            let soon = self.world.some(100 * MS);
            self.pass(soon);
            self.world.crash(LEFT, power, 50 * MS);
        }
        false
    }
}
