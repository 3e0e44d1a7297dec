//! ApiVersions, and frames that are no requests.
use crate::script::Script;
use wire::{ApiVersionsRequest, InitProducerIdRequest, Str};

pub(super) fn steps(script: &mut Script) {
    let asks = |name: &'static str, version: &'static str| {
        move |_: &crate::side::Side, _| ApiVersionsRequest {
            client_software_name: Str::from(name),
            client_software_version: Str::from(version),
            ..Default::default()
        }
    };
    script.each("all", asks("differential", "1.0"));
    script.over("no name", 3..=4, asks("", ""));
    script.over("a name with a blank", 3..=3, asks("a b", "1.0"));
    script.over("a version with a bracket", 3..=3, asks("a", "1(0)"));
    // API, version, correlation id, client id; a header of version 1.
    script.raw("ApiVersions v99", |_| framed(&[0, 18, 0, 99, 0, 0, 0, 77, 0xff, 0xff, 0, 1, 1, 0]));
    script.raw("ApiVersions v-1", |_| framed(&[0, 18, 0xff, 0xff, 0, 0, 0, 77, 0xff, 0xff]));
    script.raw("an API of the future", |_| framed(&[0x7f, 0, 0, 0, 0, 0, 0, 77, 0xff, 0xff]));
    script.raw("a negative API", |_| framed(&[0xff, 0xff, 0, 0, 0, 0, 0, 77, 0xff, 0xff]));
    script.raw("Metadata v99", |_| framed(&[0, 3, 0, 99, 0, 0, 0, 77, 0xff, 0xff]));
    script.raw("Produce v2", |_| {
        framed(&[0, 0, 0, 2, 0, 0, 0, 77, 0xff, 0xff, 0, 1, 0, 0, 3, 0xe8, 0, 0, 0, 0])
    });
    script.raw("Fetch v3", |_| framed(&[0, 1, 0, 3, 0, 0, 0, 77, 0xff, 0xff]));
    script.raw("an empty frame", |_| framed(&[]));
    script.raw("a header cut short", |_| framed(&[0, 3, 0, 1, 0, 0]));
    script.raw("a body cut short", |_| framed(&[0, 3, 0, 1, 0, 0, 0, 77, 0xff, 0xff, 0, 0]));
    script.raw("an array of 2^31-1 items", |_| {
        framed(&[0, 3, 0, 1, 0, 0, 0, 77, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff])
    });
    script.raw("text that is not UTF-8", |_| {
        framed(&[0, 15, 0, 0, 0, 0, 0, 77, 0xff, 0xff, 0, 0, 0, 1, 0, 2, 0xff, 0xfe])
    });
    // Tagged fields that nobody knows, in the header and in the body.
    script.raw("unknown tagged fields", |_| {
        framed(&[0, 42, 0, 2, 0, 0, 0, 77, 0xff, 0xff, 1, 99, 2, 7, 7, 1, 2, 5, 1, 9, 6, 0])
    });
    script.raw("a tagged field longer than the frame", |_| {
        framed(&[0, 3, 0, 12, 0, 0, 0, 77, 0xff, 0xff, 1, 99, 0x7f, 7])
    });
    script.raw("a client id longer than the frame", |_| framed(&[0, 3, 0, 1, 0, 0, 0, 77, 0x7f, 0xff, 0x61]));
    script
        .raw("a negative client id length", |_| framed(&[0, 15, 0, 0, 0, 0, 0, 77, 0xff, 0xfe, 0, 0, 0, 0]));
    script.raw("an array of -2 items", |_| {
        framed(&[0, 15, 0, 0, 0, 0, 0, 77, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe])
    });
    script.raw("an array that is null where it may not", |_| {
        framed(&[0, 15, 0, 0, 0, 0, 0, 77, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
    });
    script.raw("a text that is null where it may not", |_| {
        framed(&[0, 15, 0, 0, 0, 0, 0, 77, 0xff, 0xff, 0, 0, 0, 1, 0xff, 0xff])
    });
    script.raw("a length of six bytes", |_| {
        framed(&[0, 42, 0, 2, 0, 0, 0, 77, 0xff, 0xff, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 1])
    });
    script.raw("no correlation id", |_| framed(&[0, 18, 0, 0]));
    script.raw("nothing behind the client id of a flexible header", |_| {
        framed(&[0, 42, 0, 2, 0, 0, 0, 77, 0xff, 0xff])
    });
    script.raw("a negative version", |_| framed(&[0, 3, 0xff, 0xff, 0, 0, 0, 77, 0xff, 0xff]));
    script.raw("a negative frame length", |_| vec![0xff, 0xff, 0xff, 0xff]);
    script.raw("a frame of 2 GiB", |_| vec![0x7f, 0xff, 0xff, 0xff]);
    script
        .each("a producer id", |_, _| InitProducerIdRequest {
            transaction_timeout_ms: 1000,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        })
        .settled()
        .learn(|side, body| {
            if let wire::ResponseBody::InitProducerId(answer) = body {
                side.learn_number("producer", "producer_id", answer.producer_id);
            }
        });
    script.over("an id without an epoch", 3..=5, |_, _| InitProducerIdRequest {
        transaction_timeout_ms: 1000,
        producer_id: 5,
        producer_epoch: -1,
        ..Default::default()
    });
    script
        .over("an unknown id", 3..=5, |_, _| InitProducerIdRequest {
            transaction_timeout_ms: 1000,
            producer_id: 4_000_000,
            producer_epoch: 3,
            ..Default::default()
        })
        .learn(|side, body| {
            if let wire::ResponseBody::InitProducerId(answer) = body {
                side.call_field("producer_id", answer.producer_id, "a new producer");
            }
        });
    script.over("a cluster of another name", 5..=5, |_, _| ApiVersionsRequest {
        client_software_name: Str::from("a"),
        client_software_version: Str::from("1"),
        cluster_id: super::some("elsewhere"),
        node_id: 1,
    });
    script.over("a broker of another number", 5..=5, |side, _| ApiVersionsRequest {
        client_software_name: Str::from("a"),
        client_software_version: Str::from("1"),
        cluster_id: Some(side.text("cluster id")).filter(|id| !id.is_empty()),
        node_id: 77,
    });
    script.over("an epoch without an id", 3..=5, |_, _| InitProducerIdRequest {
        transaction_timeout_ms: 1000,
        producer_id: -1,
        producer_epoch: 5,
        ..Default::default()
    });
    script
        .each("no time for a transaction that is none", |_, _| InitProducerIdRequest {
            transaction_timeout_ms: -1,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        })
        .learn(|side, body| {
            if let wire::ResponseBody::InitProducerId(answer) = body {
                side.call_field("producer_id", answer.producer_id, "a third producer");
            }
        });
    script.each("an empty transactional id", |_, _| InitProducerIdRequest {
        transactional_id: super::some(""),
        transaction_timeout_ms: 1000,
        producer_id: -1,
        producer_epoch: -1,
    });
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes()[..], body].concat()
}
