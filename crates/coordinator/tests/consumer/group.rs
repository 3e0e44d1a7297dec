//! Members of a consumer group, as clients know themselves.
use crate::common::Bench;
use coordinator::consumer::DescribedConsumerGroup;
use coordinator::*;
use model::{ErrorCode, TopicId};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) type Owned = BTreeMap<TopicId, Vec<i32>>;

pub(crate) fn topic(n: u8) -> TopicId {
    TopicId([n; 16])
}

/// An image of topics `t1`, `t2` and so on with these numbers of partitions.
pub(crate) fn image(version: u64, partitions: &[i32]) -> Arc<TopicImage> {
    let mut image = TopicImage::new(version);
    for (at, n) in partitions.iter().enumerate() {
        image.add(&format!("t{}", at + 1), topic(at as u8 + 1), *n, &[]);
    }
    Arc::new(image)
}

/// A coordinator that computes an assignment whenever one is due, with one topic of `partitions`.
pub(crate) fn bench(partitions: i32) -> Bench {
    let mut config = GroupConfig::default();
    config.consumer.assignment_interval_ms = 0;
    let mut bench = Bench::with(config);
    bench.c.topics_changed(image(1, &[partitions]));
    bench
}

pub(crate) fn join(id: &str) -> ConsumerHeartbeatRequest {
    ConsumerHeartbeatRequest {
        group_id: "g".into(),
        member_id: id.into(),
        member_epoch: 0,
        rebalance_timeout_ms: 30_000,
        topics: Some(vec!["t1".into()]),
        owned: Some(Vec::new()),
        client_id: "app".into(),
        client_host: "/127.0.0.1".into(),
        must_have_id: true,
        ..ConsumerHeartbeatRequest::default()
    }
}

pub(crate) fn static_join(id: &str, instance: &str) -> ConsumerHeartbeatRequest {
    ConsumerHeartbeatRequest { instance_id: Some(instance.into()), ..join(id) }
}

/// A heartbeat without news.
pub(crate) fn beat(id: &str, epoch: i32) -> ConsumerHeartbeatRequest {
    ConsumerHeartbeatRequest {
        member_epoch: epoch,
        rebalance_timeout_ms: -1,
        topics: None,
        owned: None,
        ..join(id)
    }
}

pub(crate) fn beat_with(id: &str, epoch: i32, owned: &[(u8, &[i32])]) -> ConsumerHeartbeatRequest {
    let owned = owned.iter().map(|(t, ps)| (topic(*t), ps.to_vec())).collect();
    ConsumerHeartbeatRequest { owned: Some(owned), ..beat(id, epoch) }
}

impl Bench {
    pub(crate) fn send_beat(&mut self, request: ConsumerHeartbeatRequest) -> Token {
        let (token, mut fx) = (self.token(), Vec::new());
        self.c.consumer_heartbeat(self.now(), token, request, &mut fx);
        self.take(fx);
        token
    }

    pub(crate) fn beaten(&mut self, token: Token) -> ConsumerHeartbeatReply {
        match self.reply(token) {
            Some(Reply::ConsumerHeartbeat(reply)) => reply,
            other => panic!("no heartbeat answer: {other:?}"),
        }
    }

    pub(crate) fn beat(&mut self, request: ConsumerHeartbeatRequest) -> ConsumerHeartbeatReply {
        let token = self.send_beat(request);
        self.beaten(token)
    }

    /// The epoch that an accepted heartbeat gives, and the assignment if one came.
    pub(crate) fn ok(&mut self, request: ConsumerHeartbeatRequest) -> (i32, Option<Owned>) {
        let reply = self.beat(request);
        assert_eq!(reply.error, ErrorCode::None, "{:?}", reply.error_message);
        (reply.member_epoch, reply.assignment.map(|a| a.into_iter().collect()))
    }

    pub(crate) fn refused(&mut self, request: ConsumerHeartbeatRequest) -> ErrorCode {
        let reply = self.beat(request);
        assert!(!reply.error.is_none());
        reply.error
    }

    pub(crate) fn consumers(&self) -> DescribedConsumerGroup {
        self.c.describe_consumers(&["g".to_owned()]).remove(0)
    }

    pub(crate) fn member(&self, id: &str) -> Option<consumer::DescribedConsumer> {
        self.consumers().members.into_iter().find(|m| m.member_id == id)
    }

    pub(crate) fn has(&self, id: &str) -> usize {
        self.member(id).map_or(0, |m| m.assignment.iter().map(|t| t.partitions.len()).sum())
    }

    /// Two members that share four partitions: `a` with 0 and 1 less, `b` stable too. Returns their epoch.
    pub(crate) fn pair(&mut self) -> i32 {
        let (epoch, got) = self.ok(join("a"));
        assert_eq!((epoch, got), (1, Some(Owned::from([(topic(1), vec![0, 1, 2, 3])]))));
        let (epoch, got) = self.ok(join("b"));
        assert_eq!((epoch, got), (2, Some(Owned::new())));
        let (epoch, got) = self.ok(beat("a", 1));
        assert_eq!((epoch, got), (2, Some(Owned::from([(topic(1), vec![0, 1])]))));
        assert_eq!(self.ok(beat_with("a", 2, &[(1, &[0, 1])])), (2, None));
        assert_eq!(self.ok(beat("b", 2)), (2, Some(Owned::from([(topic(1), vec![2, 3])]))));
        assert_eq!(self.consumers().state, "Stable");
        2
    }
}
