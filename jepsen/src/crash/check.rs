//! The final read, and what it must show.
use crate::history::{History, value};
use crate::load::{PARTITIONS, TOPIC};
use anyhow::Result;
use client_lite::{Client, FetchFrom, FetchOptions};
use std::collections::BTreeMap;

/// Every record of every partition: offset to value.
pub(crate) type Logs = BTreeMap<i32, BTreeMap<i64, String>>;

/// Reads all partitions from their start to their high watermark.
pub(crate) async fn read_all(client: &Client) -> Result<Logs> {
    let mut logs = Logs::new();
    for partition in 0..PARTITIONS {
        let log = logs.entry(partition).or_default();
        let mut offset = 0;
        loop {
            let from = FetchFrom { topic: TOPIC.to_owned(), partition, offset };
            let fetched = client.fetch(&[from], &FetchOptions::default()).await?;
            let Some(answer) = fetched.first() else { continue };
            answer.check()?;
            if offset >= answer.high_watermark {
                break;
            }
            let (records, next) = answer.decode()?;
            for record in records {
                let text = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned();
                log.insert(record.offset, text);
            }
            offset = next;
        }
    }
    Ok(logs)
}

/// Lost and duplicated records, in words; empty when all is well.
pub(crate) fn violations(history: &History, logs: &Logs) -> Vec<String> {
    let mut found = history.violations.clone();
    for ack in &history.acked {
        let log = logs.get(&ack.partition);
        for i in 0..ack.count {
            let expected = value(ack.producer, ack.first + i);
            let offset = ack.base_offset + i as i64;
            match log.and_then(|l| l.get(&offset)) {
                Some(seen) if *seen == expected || ack.base_offset < 0 => {}
                Some(seen) => {
                    found.push(format!("{}@{offset}: acked {expected}, read {seen}", ack.partition))
                }
                None if ack.base_offset < 0 => {}
                None => found.push(format!("{}@{offset}: acked {expected}, lost", ack.partition)),
            }
        }
    }
    for (partition, log) in logs {
        let mut seen: BTreeMap<&str, i64> = BTreeMap::new();
        for (offset, text) in log {
            if let Some(earlier) = seen.insert(text, *offset) {
                found.push(format!("{partition}: {text} stands at {earlier} and at {offset}"));
            }
        }
        for (expected, offset) in log.keys().enumerate() {
            if *offset != expected as i64 {
                found.push(format!("{partition}: offset {expected} is missing"));
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Acked;

    fn history() -> History {
        let acked = vec![Acked { producer: 1, partition: 0, base_offset: 0, first: 0, count: 2 }];
        History { acked, ..History::default() }
    }

    fn logs(values: &[&str]) -> Logs {
        let log = values.iter().enumerate().map(|(i, v)| (i as i64, (*v).to_owned())).collect();
        BTreeMap::from([(0, log)])
    }

    #[test]
    fn a_whole_history_is_clean() {
        assert!(violations(&history(), &logs(&["p1-0", "p1-1", "p1-2"])).is_empty());
    }

    #[test]
    fn lost_changed_and_doubled_records_are_found() {
        assert_eq!(violations(&history(), &logs(&["p1-0"])).len(), 1);
        assert_eq!(violations(&history(), &logs(&["p1-0", "other"])).len(), 1);
        assert_eq!(violations(&history(), &logs(&["p1-0", "p1-1", "p1-1"])).len(), 1);
    }
}
