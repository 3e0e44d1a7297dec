//! Who leads the metadata, for the log: a new leader, and that there is none.
use model::{LeaderEpoch, NodeId};
use std::time::Duration;

/// An election takes less.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two lines that say that there is no leader.
const AGAIN: Duration = Duration::from_secs(60);

/// What there is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// A node leads; the time before without a leader, where that was said.
    Leads(NodeId, LeaderEpoch, Option<Duration>),
    /// Nobody does, for so long.
    Nobody(Duration),
}

/// What was seen of it last. All times are those since the start.
#[derive(Debug, Default)]
pub(crate) struct MetadataWatch {
    lead: Option<(NodeId, LeaderEpoch)>,
    /// Since when there is no leader.
    none_since: Option<Duration>,
    /// When that was said last.
    said: Option<Duration>,
}

impl MetadataWatch {
    /// Logs what has changed.
    pub(crate) fn look(&mut self, uptime: Duration, lead: Option<(NodeId, LeaderEpoch)>) {
        match self.news(uptime, lead) {
            None => {}
            Some(News::Leads(node, epoch, None)) => tracing::info!(epoch, "node {node} leads the metadata"),
            Some(News::Leads(node, epoch, Some(time))) => tracing::info!(
                epoch,
                "node {node} leads the metadata, which had no leader for {} s",
                time.as_secs()
            ),
            Some(News::Nobody(time)) => tracing::warn!(
                "the metadata has no leader since {} s, as far as this node knows: topics, configs and nodes cannot \
                 change",
                time.as_secs()
            ),
        }
    }

    fn news(&mut self, uptime: Duration, lead: Option<(NodeId, LeaderEpoch)>) -> Option<News> {
        let Some((node, epoch)) = lead else {
            let time = uptime.saturating_sub(*self.none_since.get_or_insert(uptime));
            let due = self.said.is_none_or(|said| uptime.saturating_sub(said) >= AGAIN);
            if time < PATIENCE || !due {
                return None;
            }
            self.said = Some(uptime);
            return Some(News::Nobody(time));
        };
        let said = self.said.take();
        let without = self.none_since.take().filter(|_| said.is_some());
        let changed = self.lead.replace((node, epoch)) != lead;
        let time = without.map(|since| uptime.saturating_sub(since));
        (changed || said.is_some()).then_some(News::Leads(node, epoch, time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_said_once_and_a_lack_of_leaders_after_a_while() {
        let (mut watch, at) = (MetadataWatch::default(), Duration::from_millis);
        assert_eq!(watch.news(at(0), Some((1, 4))), Some(News::Leads(1, 4, None)));
        assert_eq!(watch.news(at(500), Some((1, 4))), None);
        assert_eq!(watch.news(at(1_000), None), None);
        assert_eq!(watch.news(at(2_000), Some((1, 4))), None, "it was not even an election");
        assert_eq!(watch.news(at(2_500), Some((2, 5))), Some(News::Leads(2, 5, None)));
        assert_eq!(watch.news(at(3_000), None), None);
        assert_eq!(watch.news(at(7_500), None), None);
        assert_eq!(watch.news(at(8_000), None), Some(News::Nobody(at(5_000))));
        assert_eq!(watch.news(at(67_500), None), None);
        assert_eq!(watch.news(at(68_000), None), Some(News::Nobody(at(65_000))));
        let back = Some(News::Leads(2, 5, Some(at(66_000))));
        assert_eq!(
            watch.news(at(69_000), Some((2, 5))),
            back,
            "that it is over is said of the same leader too"
        );
        assert_eq!(watch.news(at(69_500), Some((2, 5))), None);
        assert_eq!(watch.news(at(70_000), None), None);
        assert_eq!(watch.news(at(71_000), None), None, "the next lack begins anew");
    }
}
