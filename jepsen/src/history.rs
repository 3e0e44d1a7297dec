//! What clients did and what they were told: the input of the checker, kept as JSON lines.
//!
//! Times are nanoseconds of the machine's monotonic clock, which every process on it reads alike. A *process* is
//! one life of one client (a producer and a consumer); after a crash its successor has another number. Values
//! are unique: whoever sees one twice sees a duplicate.
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "f", rename_all = "kebab-case")]
pub enum Line {
    /// A send begins (`invoke`) or ends (`ok`, `fail`, `info`). One that never ends counts as `info`.
    Send {
        /// When.
        time: u64,
        /// Which client.
        process: u32,
        /// Which of the four.
        #[serde(rename = "type")]
        kind: Type,
        /// The partition.
        key: u32,
        /// What is sent.
        value: u64,
        /// Where it went; with `ok`, when the client was told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offset: Option<i64>,
        /// Why it did not work, in the client's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        /// The transaction that it is part of.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        txn: Option<u64>,
        /// The value that was read and is passed on with this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<u64>,
    },
    /// A transaction begins, is to end, or has ended. One of which nothing more is heard counts as unknown if its
    /// commit was asked for, and else as aborted.
    Txn {
        /// When.
        time: u64,
        /// Which client.
        process: u32,
        /// Which transaction; a client's sends and polls within it name it.
        txn: u64,
        /// Which of these.
        #[serde(rename = "type")]
        step: Step,
        /// Why, in the client's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// What the group whose offsets are committed in transactions has committed, after all is healed.
    Position {
        /// When.
        time: u64,
        /// The partition.
        key: u32,
        /// The next offset to be read.
        offset: i64,
    },
    /// A consumer was told where to read from; the next poll follows no earlier one.
    Assign {
        /// When.
        time: u64,
        /// Which client.
        process: u32,
    },
    /// Records were read.
    Poll {
        /// When it began.
        start: u64,
        /// When it ended.
        time: u64,
        /// Which client.
        process: u32,
        /// Key, offset and value of each record, in the order in which they came.
        records: Vec<(u32, i64, u64)>,
        /// The transaction whose offsets say that they were read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        txn: Option<u64>,
    },
    /// What one client was told of a partition's bounds.
    Bounds {
        /// When the request began.
        start: u64,
        /// When the answer was there.
        time: u64,
        /// Which client.
        process: u32,
        /// The partition.
        key: u32,
        /// The high watermark.
        high_watermark: i64,
        /// First offset of the log; -1 if not told.
        log_start: i64,
        /// The end of what the answer held; -1 if it held nothing.
        #[serde(default = "none_read")]
        read_to: i64,
        /// The last stable offset; -1 if not told, or if it bounds nothing because all is read.
        #[serde(default = "none_read")]
        last_stable: i64,
    },
    /// A group's offset was committed and acknowledged.
    Commit {
        /// When the acknowledgement came.
        time: u64,
        /// The only one that commits for this key.
        process: u32,
        /// The partition.
        key: u32,
        /// The offset.
        offset: i64,
    },
    /// A group's offset was to be committed, and nobody knows what came of it: a network may deliver the request at
    /// any later time, and nothing in it says that it is late.
    CommitUnknown {
        /// When it was given up.
        time: u64,
        /// As in [`Line::Commit`].
        process: u32,
        /// The partition.
        key: u32,
        /// The offset.
        offset: i64,
    },
    /// A group's committed offset was read.
    Committed {
        /// When the request began.
        start: u64,
        /// Whose commits these are.
        process: u32,
        /// The partition.
        key: u32,
        /// The offset; -1 for none.
        offset: i64,
    },
    /// The final read of a key ended here: all that is below was asked for.
    End {
        /// When.
        time: u64,
        /// Which client.
        process: u32,
        /// The partition.
        key: u32,
        /// The high watermark that the read reached, or stopped short of.
        high_watermark: i64,
        /// Whether it was reached.
        reached: bool,
    },
    /// A client ended because it was told something that it may not be told.
    Broken {
        /// When.
        time: u64,
        /// Which client.
        process: u32,
        /// What it was told.
        error: String,
    },
    /// The nemesis did something.
    Fault {
        /// When.
        time: u64,
        /// What.
        what: String,
        /// Whether it begins (else it ends).
        begins: bool,
    },
    /// What one node has on its disk of a partition after all is healed.
    Replica {
        /// Which node.
        node: u32,
        /// The partition.
        key: u32,
        /// First and last entry that are compared.
        first: u64,
        /// See `first`.
        last: u64,
        /// A sum over indexes, terms, offsets and bytes of these entries.
        digest: String,
    },
    /// Records on disk whose idempotent producer was in a later epoch than its first: it counts anew then, and what
    /// it sends again is new to a broker.
    Renumbered {
        /// The partition.
        key: u32,
        /// Of the first record.
        offset: i64,
        /// How many there are.
        count: u64,
        /// The producer.
        producer: i64,
        /// Its epoch.
        epoch: i16,
    },
}

fn none_read() -> i64 {
    -1
}

/// What is heard of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// It begins.
    Begin,
    /// From here on its commit is asked for, or may be.
    Commit,
    /// It is committed.
    Committed,
    /// It is aborted.
    Aborted,
    /// Nobody knows.
    Unknown,
}

/// How a send ended, or that it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// It begins.
    Invoke,
    /// It happened.
    Ok,
    /// It did not happen and never will.
    Fail,
    /// Nobody knows.
    Info,
}

/// How a send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged, at this offset if the client was told one.
    Ok(Option<i64>),
    /// It did not happen and never will.
    Fail,
    /// Nobody knows.
    Info,
}

/// One send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// Which client.
    pub process: u32,
    /// The partition.
    pub key: u32,
    /// What was sent.
    pub value: u64,
    /// When it began.
    pub start: u64,
    /// When it ended; `u64::MAX` if it never did.
    pub end: u64,
    /// How it ended; in a transaction this says nothing of what became of that.
    pub outcome: Outcome,
    /// The transaction that it is part of.
    pub txn: Option<u64>,
    /// The value that it passes on.
    pub from: Option<u64>,
}

/// One transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Txn {
    /// Which client.
    pub process: u32,
    /// When it began.
    pub start: u64,
    /// When its commit was asked for; `None` if it never was.
    pub asked: Option<u64>,
    /// [`Outcome::Ok`] if it is committed, [`Outcome::Fail`] if it never will be.
    pub outcome: Outcome,
}

/// One read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Which client.
    pub process: u32,
    /// Counts the times that this client was told where to read from.
    pub assign: u32,
    /// When it began.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// Key, offset and value, in the order in which they came.
    pub records: Vec<(u32, i64, u64)>,
    /// The transaction that it is part of.
    pub txn: Option<u64>,
}

/// All that happened, by kind and in the order of the lines.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Sends by when they began.
    pub sends: Vec<Send>,
    /// Reads.
    pub polls: Vec<Poll>,
    /// Transactions by their numbers.
    pub txns: BTreeMap<u64, Txn>,
    /// Everything else.
    pub rest: Vec<Line>,
}

/// Puts lines together: a send's two lines become one operation.
#[derive(Debug, Default)]
pub struct Builder {
    history: History,
    open: HashMap<u64, usize>,
    assigns: HashMap<u32, u32>,
}

impl Builder {
    /// Takes the next line. Errors: an end of what never began, a value that is sent twice.
    pub fn push(&mut self, line: Line) -> Result<()> {
        match line {
            Line::Send { time, process, kind: Type::Invoke, key, value, txn, from, .. } => {
                let (end, outcome) = (u64::MAX, Outcome::Info);
                let send = Send { process, key, value, start: time, end, outcome, txn, from };
                if self.open.insert(value, self.history.sends.len()).is_some() {
                    bail!("value {value} is sent twice");
                }
                self.history.sends.push(send);
            }
            Line::Send { time, kind, value, offset, .. } => {
                let at = self.open.get(&value).with_context(|| format!("value {value} was never sent"))?;
                let send = &mut self.history.sends[*at];
                send.end = if kind == Type::Info { u64::MAX } else { time };
                send.outcome = match kind {
                    Type::Ok => Outcome::Ok(offset.filter(|o| *o >= 0)),
                    Type::Fail => Outcome::Fail,
                    _ => Outcome::Info,
                };
            }
            Line::Assign { process, .. } => *self.assigns.entry(process).or_default() += 1,
            Line::Poll { start, time, process, records, txn } => {
                let assign = self.assigns.get(&process).copied().unwrap_or_default();
                self.history.polls.push(Poll { process, assign, start, end: time, records, txn });
            }
            Line::Txn { time, process, txn, step, .. } => self.txn(time, process, txn, step)?,
            other => self.history.rest.push(other),
        }
        Ok(())
    }

    fn txn(&mut self, time: u64, process: u32, id: u64, step: Step) -> Result<()> {
        if step == Step::Begin {
            // Until its commit is asked for nothing can commit it.
            let txn = Txn { process, start: time, asked: None, outcome: Outcome::Fail };
            if self.history.txns.insert(id, txn).is_some() {
                bail!("transaction {id} begins twice");
            }
            return Ok(());
        }
        let txn = self.history.txns.get_mut(&id).with_context(|| format!("transaction {id} never began"))?;
        match step {
            Step::Committed => txn.outcome = Outcome::Ok(None),
            Step::Aborted => txn.outcome = Outcome::Fail,
            Step::Commit => {
                txn.asked = txn.asked.or(Some(time));
                txn.outcome = Outcome::Info;
            }
            Step::Unknown | Step::Begin => {}
        }
        Ok(())
    }

    /// The history so far.
    pub fn finish(mut self) -> History {
        self.history.sends.sort_by_key(|send| send.start);
        self.history
    }
}

impl History {
    /// Reads JSON lines. Errors name the line.
    pub fn read(from: impl BufRead) -> Result<History> {
        let mut builder = Builder::default();
        for (number, line) in from.lines().enumerate() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let told = || format!("line {}: {line}", number + 1);
            builder.push(serde_json::from_str(&line).with_context(told)?).with_context(told)?;
        }
        Ok(builder.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::{History, Outcome};

    #[test]
    fn a_send_without_an_end_is_of_unknown_outcome() {
        let text = r#"{"f":"send","type":"invoke","time":5,"process":1,"key":0,"value":7}
{"f":"send","type":"invoke","time":6,"process":1,"key":0,"value":8}
{"f":"send","type":"ok","time":9,"process":1,"key":0,"value":8,"offset":3}"#;
        let history = History::read(text.as_bytes()).unwrap();
        assert_eq!((history.sends[0].outcome, history.sends[0].end), (Outcome::Info, u64::MAX));
        assert_eq!((history.sends[1].outcome, history.sends[1].end), (Outcome::Ok(Some(3)), 9));
    }

    #[test]
    fn a_history_that_contradicts_itself_is_refused_with_its_line() {
        let end = r#"{"f":"send","type":"ok","time":9,"process":1,"key":0,"value":8,"offset":3}"#;
        assert!(History::read(end.as_bytes()).unwrap_err().to_string().starts_with("line 1: "));
        let begin = r#"{"f":"send","type":"invoke","time":5,"process":1,"key":0,"value":7}"#;
        assert!(History::read(format!("{begin}\n{begin}").as_bytes()).is_err());
    }
}
