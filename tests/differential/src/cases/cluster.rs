//! Descriptions: cluster, topic partitions, log directories, producers.
use crate::script::Script;
use wire::describe_log_dirs_request::DescribableLogDirTopic;
use wire::describe_topic_partitions_request::{Cursor, TopicRequest};
use wire::{
    DescribeClusterRequest, DescribeLogDirsRequest, DescribeProducersRequest, DescribeTopicPartitionsRequest,
    Str, describe_producers_request,
};

pub(super) fn steps(script: &mut Script) {
    for (name, kind) in [("brokers", 1), ("controllers", 2), ("nobody", 3)] {
        script.over(name, 1..=2, move |_, _| DescribeClusterRequest {
            endpoint_type: kind,
            include_cluster_authorized_operations: true,
            ..Default::default()
        });
    }
    script.over("version 0", 0..=0, |_, _| DescribeClusterRequest { endpoint_type: 1, ..Default::default() });
    script.over("fenced ones too", 2..=2, |_, _| DescribeClusterRequest {
        endpoint_type: 1,
        include_fenced_brokers: true,
        ..Default::default()
    });
    topic_partitions(script);
    log_dirs(script);
    producers(script);
}

fn topic_partitions(script: &mut Script) {
    let ask = |names: Vec<Str>, limit: i32, cursor: Option<(Str, i32)>| DescribeTopicPartitionsRequest {
        topics: names.into_iter().map(|name| TopicRequest { name }).collect(),
        response_partition_limit: limit,
        cursor: cursor.map(|(topic_name, partition_index)| Cursor { topic_name, partition_index }),
    };
    script.each("two topics", move |side, _| ask(vec![side.name("main"), side.name("compact")], 2000, None));
    script.each("a page of one", move |side, _| ask(vec![side.name("main"), side.name("compact")], 1, None));
    script.each("from the second partition", move |side, _| {
        ask(vec![side.name("main")], 2000, Some((side.name("main"), 1)))
    });
    script.each("from past the end", move |side, _| {
        ask(vec![side.name("main")], 2000, Some((side.name("main"), 9)))
    });
    script.each("from a negative partition", move |side, _| {
        ask(vec![side.name("main")], 2000, Some((side.name("main"), -1)))
    });
    script.each("unknown", move |side, _| ask(vec![side.name("nowhere")], 2000, None));
    script.each("a bad name", move |_, _| ask(vec![Str::from("a b")], 2000, None));
    script.each("the same twice", move |side, _| ask(vec![side.name("main"), side.name("main")], 2000, None));
    script.each("a page of two", move |side, _| {
        ask(vec![side.name("packed"), side.name("main"), side.name("compact")], 2, None)
    });
    script.each("from a topic that is not asked", move |side, _| {
        ask(vec![side.name("main")], 2000, Some((side.name("compact"), 0)))
    });
    script.each("from an unknown topic", move |side, _| {
        ask(vec![side.name("main"), side.name("packed")], 2000, Some((side.name("nowhere"), 0)))
    });
    script.each("a negative limit", move |side, _| ask(vec![side.name("main")], -1, None));
    script.each("unknown and known", move |side, _| {
        ask(vec![side.name("nowhere"), side.name("main")], 2000, None)
    });
    script.each("an empty name", move |_, _| ask(vec![Str::default()], 2000, None));
    script.each("a limit of 0", move |side, _| ask(vec![side.name("main")], 0, None));
}

/// What lists everything that there is.
pub(super) fn all(script: &mut Script) {
    script.each("of all", |_, _| DescribeLogDirsRequest { topics: None });
    script.each("all topics", |_, _| DescribeTopicPartitionsRequest {
        response_partition_limit: 2000,
        ..Default::default()
    });
    script.each("all topics, page by page", |_, _| DescribeTopicPartitionsRequest {
        response_partition_limit: 2,
        ..Default::default()
    });
}

fn log_dirs(script: &mut Script) {
    script.each("of a topic", |side, _| DescribeLogDirsRequest {
        topics: Some(vec![DescribableLogDirTopic { topic: side.name("main"), partitions: vec![0, 1, 99] }]),
    });
    script.each("of an unknown topic", |side, _| DescribeLogDirsRequest {
        topics: Some(vec![DescribableLogDirTopic { topic: side.name("nowhere"), partitions: vec![0] }]),
    });
    script.each("of a partition twice", |side, _| DescribeLogDirsRequest {
        topics: Some(vec![
            DescribableLogDirTopic { topic: side.name("main"), partitions: vec![0, 0] },
            DescribableLogDirTopic { topic: side.name("main"), partitions: vec![0, 1] },
        ]),
    });
    script.each("of a topic without partitions", |side, _| DescribeLogDirsRequest {
        topics: Some(vec![DescribableLogDirTopic { topic: side.name("main"), partitions: vec![] }]),
    });
    script.each("of a negative partition", |side, _| DescribeLogDirsRequest {
        topics: Some(vec![DescribableLogDirTopic { topic: side.name("main"), partitions: vec![-1] }]),
    });
    script.each("of nothing", |_, _| DescribeLogDirsRequest { topics: Some(vec![]) });
}

fn producers(script: &mut Script) {
    let ask = |name: Str, partitions: &[i32]| DescribeProducersRequest {
        topics: vec![describe_producers_request::TopicRequest {
            name,
            partition_indexes: partitions.to_vec(),
        }],
    };
    script.each("active", move |side, _| ask(side.name("main"), &[1, 2]));
    script.each("none", move |side, _| ask(side.name("main"), &[0]));
    script.each("an unknown partition", move |side, _| ask(side.name("main"), &[99]));
    script.each("an unknown topic", move |side, _| ask(side.name("nowhere"), &[0]));
    script.each("a bad name", move |_, _| ask(Str::from("a b"), &[0]));
    script.each("a partition twice", move |side, _| ask(side.name("main"), &[0, 0]));
    script.each("no partitions", move |side, _| ask(side.name("main"), &[]));
    script.each("a negative partition", move |side, _| ask(side.name("main"), &[-1]));
    script.each("nothing", |_, _| DescribeProducersRequest::default());
}
