//! The numbers of partitions for the metrics page.
use crate::core;
use crate::metrics::names;
use crate::metrics::render::{LedRow, PartitionRow, Snapshot, labels};
use crate::observe::MOST_ROWS;
use crate::shared::Shared;

/// Adds what there is to say of partitions: how many are how, and a row for each that is open.
pub(crate) fn partitions(shared: &Shared, snapshot: &mut Snapshot) {
    let (image, live) = (shared.core.image(), shared.core.live_nodes());
    snapshot.values.push((names::TOPICS, String::new(), image.topic_count() as f64));
    let (mut open, mut offline, mut leaderless, mut behind, mut under_min) = (0, 0, 0, 0, 0);
    for topic in image.topics() {
        for partition in 0..topic.partitions.len() as i32 {
            let Some(key) = core::group_key(topic, partition) else { continue };
            let standing = shared.core.standing(topic, key, &live);
            offline += usize::from(standing.offline);
            leaderless += usize::from(standing.leaderless);
            behind += usize::from(standing.behind);
            under_min += usize::from(standing.under_min);
            let Some(info) = shared.core.partition_info(key) else { continue };
            open += 1;
            if snapshot.partitions.len() >= MOST_ROWS {
                continue;
            }
            let led = shared.core.look(|node| node.led_view(key)).filter(|_| standing.leads);
            snapshot.partitions.push(PartitionRow {
                topic: topic.name.clone(),
                partition,
                log_start: info.log_start,
                log_end: info.log_end,
                high_watermark: info.high_watermark,
                last_stable_offset: info.last_stable_offset,
                size: info.size_bytes,
                leads: standing.leads,
                led: led.map(|led| LedRow { rate: led.rate, lags: led.lags }),
            });
        }
    }
    for (name, count) in [
        (names::OFFLINE_PARTITIONS, offline),
        (names::LEADERLESS, leaderless),
        (names::UNDER_REPLICATED, behind),
        (names::UNDER_MIN_ISR, under_min),
    ] {
        snapshot.values.push((name, String::new(), count as f64));
    }
    for (state, count) in [("all", image.partition_count()), ("open", open)] {
        snapshot.values.push((names::PARTITIONS, labels([("state", state)].into_iter()), count as f64));
    }
}
