//! After everything was healed: each group with members is stable, and each of its partitions is read by one of them.
use super::super::clients::Clients;
use super::super::world::World;
use super::steps::{coordinator_of, wanted};
use super::{Kind, Members, Part};
use std::collections::BTreeMap;

impl Members {
    /// Which group is not as it should be, if one is.
    pub(crate) fn unsettled(&self, world: &World) -> Option<String> {
        (0..self.groups.len()).find_map(|group| self.unsettled_group(world, group))
    }

    fn unsettled_group(&self, world: &World, group: usize) -> Option<String> {
        let of = &self.groups[group];
        // A coordinator that nobody ever needed is not made now.
        let key = coordinator_of(world, of.name)?;
        let living: Vec<_> = self.clients.values().filter(|m| m.group == group && m.is_living()).collect();
        let mut owners: BTreeMap<&Part, Vec<&str>> = BTreeMap::new();
        for member in &living {
            if !member.is_in() {
                return Some(format!("{} is not in {}: {member:?}", member.id, of.name));
            }
            if !member.has_read && !member.owned.is_empty() {
                return Some(format!("{} of {} cannot read its offsets", member.id, of.name));
            }
            member.owned.iter().for_each(|part| owners.entry(part).or_default().push(&member.id));
        }
        let wanted = wanted(world);
        if let Some((part, of_part)) = owners.iter().find(|(part, of)| of.len() > 1 || !wanted.contains(part))
        {
            return Some(format!("{part:?} of {} is read by {of_part:?}", of.name));
        }
        if let Some(part) = wanted.iter().find(|part| !owners.contains_key(part)) {
            return Some(format!("{part:?} of {} is read by nobody", of.name));
        }
        let state = world.machines.iter().filter_map(|m| m.node.as_ref()).find_map(|node| {
            node.replica_view(key)?.epoch?;
            let names = [of.name.to_owned()];
            let state = |c: &coordinator::GroupCoordinator| match of.kind {
                Kind::Classic => c.describe(&names).first().map(|group| group.state),
                Kind::Consumer => c.describe_consumers(&names).first().map(|group| group.state),
            };
            node.coordinators().filter_map(state).find(|state| !matches!(*state, "" | "Dead"))
        });
        (state != Some("Stable")).then(|| format!("{} is {state:?}", of.name))
    }
}

impl Clients {
    /// What was seen of members goes into the report of the run.
    pub(crate) fn count_members(&self, world: &mut World) {
        let (counts, found) = (&mut world.sometimes, self.members.model.counts);
        counts.partitions_handed_over = found.handed_over;
        counts.member_commits = found.commits;
        counts.members_refused = found.refused;
        counts.member_reads = found.reads;
    }
}
