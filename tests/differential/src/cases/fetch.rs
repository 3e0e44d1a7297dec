//! Fetch, with and without sessions.
use crate::script::Script;
use crate::side::Side;
use model::TopicId;
use wire::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use wire::{FetchRequest, ResponseBody, Str};

fn partition(partition: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition {
        partition,
        fetch_offset,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        partition_max_bytes: 1 << 20,
        high_watermark: i64::MAX,
        ..Default::default()
    }
}

fn fetch(side: &Side, v: i16, topic: &str, partitions: Vec<FetchPartition>) -> FetchRequest {
    let name = if v <= 12 { side.name(topic) } else { Str::default() };
    let topic_id = if v <= 12 { TopicId::ZERO } else { side.id(topic) };
    FetchRequest {
        replica_id: -1,
        max_wait_ms: 100,
        min_bytes: 0,
        max_bytes: 10 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic { topic: name, topic_id, partitions }],
        replica_state: wire::fetch_request::ReplicaState { replica_id: -1, replica_epoch: -1 },
        ..Default::default()
    }
}

pub(super) fn steps(script: &mut Script) {
    script.each("from the start", |side, v| fetch(side, v, "main", vec![partition(0, 0)]));
    script.each("compressed", |side, v| fetch(side, v, "main", vec![partition(1, 0)]));
    script.each("recompressed", |side, v| fetch(side, v, "packed", vec![partition(0, 0)]));
    script.each("stamped", |side, v| fetch(side, v, "stamped", vec![partition(0, 0)]));
    script.each("committed only", |side, v| FetchRequest {
        isolation_level: 1,
        ..fetch(side, v, "main", vec![partition(2, 0)])
    });
    script.each("inside a batch", |side, v| fetch(side, v, "main", vec![partition(0, 1)]));
    script.each("one batch above its size", |side, v| {
        let small = FetchPartition { partition_max_bytes: 1, ..partition(0, 0) };
        FetchRequest { max_bytes: 1, ..fetch(side, v, "main", vec![small]) }
    });
    script.each("past the end", |side, v| fetch(side, v, "main", vec![partition(0, 1_000_000)]));
    script.each("before the start", |side, v| fetch(side, v, "main", vec![partition(0, -5)]));
    script.each("an unknown partition", |side, v| fetch(side, v, "main", vec![partition(99, 0)]));
    script.each("an unknown topic", |side, v| {
        let mut request = fetch(side, v, "nowhere", vec![partition(0, 0)]);
        request.topics[0].topic_id = TopicId(if v >= 13 { [7; 16] } else { [0; 16] });
        request
    });
    script.over("a zero id", 13..=18, |side, v| fetch(side, v, "nowhere", vec![partition(0, 0)]));
    script.each("no topics", |side, v| FetchRequest { topics: vec![], ..fetch(side, v, "main", vec![]) });
    script.each("one good, one unknown partition", |side, v| {
        fetch(side, v, "compact", vec![partition(0, 0), partition(7, 0)])
    });
    // Epochs of new topics begin at 0 in Kafka: there is none that is older.
    for (name, by) in [("the right epoch", 0), ("a newer epoch", 1)] {
        script.over(name, 9..=18, move |side, v| {
            let epoch = side.number("epoch", 0) as i32 + by;
            let here = FetchPartition { current_leader_epoch: epoch, ..partition(2, 0) };
            fetch(side, v, "main", vec![here])
        });
    }
    script.over("a last fetched epoch", 12..=18, |side, v| {
        let here = FetchPartition { last_fetched_epoch: side.number("epoch", 0) as i32, ..partition(2, 1) };
        fetch(side, v, "main", vec![here])
    });
    script.over("a last fetched epoch of the future", 12..=18, |side, v| {
        let here = FetchPartition { last_fetched_epoch: 1000, ..partition(2, 1) };
        fetch(side, v, "main", vec![here])
    });
    odd_numbers(script);
    sessions(script);
    more_sessions(script);
}

fn odd_numbers(script: &mut Script) {
    script
        .each("a partition twice", |side, v| fetch(side, v, "main", vec![partition(2, 0), partition(2, 1)]));
    script.each("a topic twice", |side, v| {
        let mut request = fetch(side, v, "main", vec![partition(2, 0)]);
        request.topics.extend(fetch(side, v, "main", vec![partition(1, 0)]).topics);
        request
    });
    script.each("a topic without partitions", |side, v| fetch(side, v, "main", vec![]));
    script.each("a negative partition", |side, v| fetch(side, v, "main", vec![partition(-1, 0)]));
    script.each("at the end", |side, v| FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        ..fetch(side, v, "grown", vec![partition(1, 0)])
    });
    script.each("at the end, waiting", |side, v| FetchRequest {
        max_wait_ms: 20,
        min_bytes: 1,
        ..fetch(side, v, "grown", vec![partition(1, 0)])
    });
    script.each("more than there is, waiting", |side, v| FetchRequest {
        max_wait_ms: 20,
        min_bytes: 1 << 20,
        ..fetch(side, v, "unasked", vec![partition(0, 0)])
    });
    script.each("negative waiting", |side, v| FetchRequest {
        max_wait_ms: -1,
        min_bytes: -1,
        ..fetch(side, v, "unasked", vec![partition(0, 0)])
    });
    script.each("a maximum of 0", |side, v| FetchRequest {
        max_bytes: 0,
        ..fetch(side, v, "unasked", vec![partition(0, 0)])
    });
    script.each("a partition's maximum of 0", |side, v| {
        let none = FetchPartition { partition_max_bytes: 0, ..partition(0, 0) };
        fetch(side, v, "unasked", vec![none])
    });
    script.each("negative maxima", |side, v| {
        let none = FetchPartition { partition_max_bytes: -1, ..partition(0, 0) };
        FetchRequest { max_bytes: -1, ..fetch(side, v, "unasked", vec![none]) }
    });
    script.each("two partitions, room for one", |side, v| {
        let small = |at| FetchPartition { partition_max_bytes: 1, ..partition(at, 0) };
        fetch(side, v, "main", vec![small(2), small(1)])
    });
    script.each("two topics, room for one batch", |side, v| {
        let mut request = fetch(side, v, "unasked", vec![partition(0, 0)]);
        request.topics.extend(fetch(side, v, "main", vec![partition(2, 0)]).topics);
        FetchRequest { max_bytes: 1, ..request }
    });
    script.each("an isolation that is none", |side, v| FetchRequest {
        isolation_level: 7,
        ..fetch(side, v, "unasked", vec![partition(0, 0)])
    });
    script.over("an old log start", 5..=18, |side, v| {
        let here = FetchPartition { log_start_offset: 99, ..partition(0, 0) };
        fetch(side, v, "unasked", vec![here])
    });
    script.over("a rack", 11..=18, |side, v| FetchRequest {
        rack_id: Str::from("r1"),
        ..fetch(side, v, "unasked", vec![partition(0, 0)])
    });
    script.over("an epoch below all", 9..=18, |side, v| {
        let here = FetchPartition { current_leader_epoch: -2, ..partition(0, 0) };
        fetch(side, v, "unasked", vec![here])
    });
    script.over("a last fetched epoch below all", 12..=18, |side, v| {
        let here = FetchPartition { last_fetched_epoch: -2, ..partition(0, 1) };
        fetch(side, v, "unasked", vec![here])
    });
    script.over("before the start of what was deleted", 4..=18, |side, v| {
        fetch(side, v, "main", vec![FetchPartition { partition_max_bytes: 1, ..partition(1, 0) }])
    });
}

/// Sessions with errors in them, ended and begun anew.
fn more_sessions(script: &mut Script) {
    let learn = |side: &mut Side, body: &ResponseBody| {
        let ResponseBody::Fetch(answer) = body else { return };
        if answer.session_id != 0 {
            side.learn_number("second", "session_id", i64::from(answer.session_id));
        }
    };
    let within = |side: &Side, v: i16, epoch: i32, topic: &str, partitions: Vec<FetchPartition>| {
        let mut request = fetch(side, v, topic, partitions);
        request.topics.retain(|topic| !topic.partitions.is_empty());
        FetchRequest { session_id: side.number("second", 0) as i32, session_epoch: epoch, ..request }
    };
    script
        .once("a session with an unknown partition", move |side, v| FetchRequest {
            session_id: 0,
            ..within(side, v, 0, "unasked", vec![partition(0, 3), partition(9, 0)])
        })
        .learn(learn);
    script.once("the error again", move |side, v| within(side, v, 1, "unasked", vec![]));
    script.once("the error once more", move |side, v| within(side, v, 2, "unasked", vec![]));
    script.once("past the end in a session", move |side, v| {
        within(side, v, 3, "unasked", vec![partition(0, 77)])
    });
    script.once("past the end in a session, again", move |side, v| within(side, v, 4, "unasked", vec![]));
    script.once("back to the start", move |side, v| within(side, v, 5, "unasked", vec![partition(0, 0)]));
    script.once("not read on", move |side, v| within(side, v, 6, "unasked", vec![]));
    script.once("read to the end", move |side, v| within(side, v, 7, "unasked", vec![partition(0, 3)]));
    script.once("forgotten and added", move |side, v| {
        let request = within(side, v, 8, "unasked", vec![partition(0, 0)]);
        let forgotten =
            ForgottenTopic { topic: Str::default(), topic_id: side.id("unasked"), partitions: vec![0, 9, 5] };
        FetchRequest { forgotten_topics_data: vec![forgotten], ..request }
    });
    script
        .once("begun anew", move |side, v| within(side, v, 0, "unasked", vec![partition(0, 0)]))
        .learn(learn);
    script.once("the epoch of the one before", move |side, v| within(side, v, 9, "unasked", vec![]));
    script.once("the new one", move |side, v| within(side, v, 1, "unasked", vec![partition(0, 3)]));
    script.once("a negative epoch", move |side, v| within(side, v, -2, "unasked", vec![]));
    script
        .once("an end with partitions", move |side, v| within(side, v, -1, "unasked", vec![partition(0, 0)]));
    script.once("after its end", move |side, v| within(side, v, 2, "unasked", vec![]));
    script
        .once("a session of nothing", move |side, v| FetchRequest {
            session_id: 0,
            ..within(side, v, 0, "unasked", vec![])
        })
        .learn(learn);
    script
        .once("a session with an unknown id", move |side, v| {
            let mut request = within(side, v, 0, "unasked", vec![partition(0, 0)]);
            request.topics[0].topic_id = TopicId([7; 16]);
            FetchRequest { session_id: 0, ..request }
        })
        .learn(learn);
    script.once("the unknown id again", move |side, v| within(side, v, 1, "unasked", vec![]));
    script.once("a known id is added", move |side, v| within(side, v, 2, "unasked", vec![partition(0, 1)]));
    script.once("no session, with an epoch", move |side, v| FetchRequest {
        session_id: 0,
        ..within(side, v, 5, "unasked", vec![partition(0, 0)])
    });
}

fn sessions(script: &mut Script) {
    let learn = |side: &mut Side, body: &ResponseBody| {
        let ResponseBody::Fetch(answer) = body else { return };
        if answer.session_id != 0 {
            side.learn_number("session", "session_id", i64::from(answer.session_id));
        }
    };
    let within = |side: &Side, v: i16, epoch: i32, partitions: Vec<FetchPartition>| {
        let mut request = fetch(side, v, "main", partitions);
        request.topics.retain(|topic| !topic.partitions.is_empty());
        FetchRequest { session_id: side.number("session", 0) as i32, session_epoch: epoch, ..request }
    };
    script
        .over("a new session", 7..=18, move |side, v| FetchRequest {
            session_id: 0,
            ..within(side, v, 0, vec![partition(0, 0), partition(1, 0)])
        })
        .learn(learn);
    script.once("the session, nothing new", move |side, v| within(side, v, 1, vec![]));
    script.once("the session, one moved", move |side, v| within(side, v, 2, vec![partition(0, 3)]));
    script.once("the session, one added", move |side, v| within(side, v, 3, vec![partition(2, 0)]));
    script.once("the session, one forgotten", move |side, v| {
        let (name, id) =
            if v <= 12 { (side.name("main"), TopicId::ZERO) } else { (Str::default(), side.id("main")) };
        let forgotten = ForgottenTopic { topic: name, topic_id: id, partitions: vec![1] };
        FetchRequest { forgotten_topics_data: vec![forgotten], ..within(side, v, 4, vec![]) }
    });
    script.once("the session, out of turn", move |side, v| within(side, v, 9, vec![]));
    script.once("the session, in turn again", move |side, v| within(side, v, 5, vec![partition(0, 0)]));
    script.once("the session, closed", move |side, v| within(side, v, -1, vec![]));
    script.once("the session, after its end", move |side, v| within(side, v, 6, vec![]));
    script.over("an unknown session", 7..=18, move |side, v| FetchRequest {
        session_id: 123_456,
        ..within(side, v, 1, vec![partition(0, 0)])
    });
}
