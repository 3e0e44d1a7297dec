//! Two nodes of one cluster find each other; everybody else is told why not.
use crate::{
    Body, Decoder, Established, Frame, Handshake, HandshakeError, Identity, Limits, Local, MAGIC, Preface,
    Purpose, Reason, Received, Secret, Side, Step, preface,
};
use bytes::{Buf, Bytes, BytesMut};
use proto::peer::{Hello, Proof};

const NONCES: [[u8; 32]; 2] = [[1; 32], [2; 32]];

fn local(node_id: i32) -> Local {
    Local {
        versions: 1..=1,
        cluster_id: "cluster-a".into(),
        node_id,
        process_start: 100 + node_id as u64,
        directory_id: [node_id as u8; 16],
        secret: Secret::new(b"correct horse".to_vec()),
    }
}

fn side(local: &Local) -> Side {
    Side {
        node_id: local.node_id,
        cluster_id: local.cluster_id.clone(),
        versions: (*local.versions.start(), *local.versions.end()),
    }
}

/// The one frame that these bytes are.
fn read(bytes: &[u8]) -> Received {
    let mut buffer = BytesMut::from(bytes);
    let received = Decoder::new().decode(&mut buffer).unwrap().unwrap();
    assert!(buffer.is_empty());
    received
}

fn frame(body: Body) -> Received {
    read(&Frame::bare(body).encode(Limits::HANDSHAKE).unwrap().concat())
}

/// The bytes to send, or a panic.
fn sent(step: Result<Step, HandshakeError>) -> Bytes {
    match step {
        Ok(Step::Send(bytes)) => bytes,
        other => panic!("{other:?}"),
    }
}

fn judged(step: Result<Step, HandshakeError>) -> Identity {
    match step {
        Ok(Step::Judge(identity)) => identity,
        other => panic!("{other:?}"),
    }
}

/// The side that connects, and its Hello without the magic.
fn connect(local: Local, node: Option<i32>) -> (Handshake, Bytes) {
    let (handshake, mut bytes) = Handshake::connect(local, Purpose::Data, node, NONCES[0]);
    assert_eq!(preface(&bytes), Preface::Peer);
    bytes.advance(MAGIC.len());
    (handshake, bytes)
}

/// Runs both sides to the end: what each has, or its error and that of the side that was told so.
fn meet(
    one: Local,
    other: Local,
    node: Option<i32>,
) -> Result<(Established, Established), Box<[HandshakeError; 2]>> {
    let (mut connects, hello) = connect(one, node);
    let mut accepts = Handshake::accept(other, NONCES[1]);
    let told = |by: &HandshakeError, other: &mut Handshake| {
        let farewell = by.farewell().expect("a side that refuses says so");
        other.on_frame(read(&farewell)).expect_err("it is refused")
    };
    macro_rules! deliver {
        ($bytes:expr, $to:ident, $from:ident) => {
            match $to.on_frame(read(&$bytes)) {
                Ok(step) => Ok(step),
                Err(error) => {
                    let by_peer = told(&error, &mut $from);
                    return Err(Box::new([error, by_peer]));
                }
            }
        };
    }
    let hello = sent(deliver!(hello, accepts, connects));
    let proof = sent(deliver!(hello, connects, accepts));
    judged(deliver!(proof, accepts, connects));
    let accepted = accepts.approve().unwrap();
    let proof = accepted.send.clone().expect("the side that accepts proves itself last");
    let mut nobody = Handshake::accept(local(9), NONCES[1]);
    judged(deliver!(proof, connects, nobody));
    let connected = connects.approve().unwrap();
    assert_eq!(connected.send, None);
    Ok((connected, accepted))
}

/// Both errors of a refusal name both sides; returns the first.
fn refused(one: Local, other: Local, node: Option<i32>, reason: Reason) -> HandshakeError {
    let sides = [side(&one), side(&other)];
    let [error, told] = *meet(one, other, node).expect_err("they do not fit");
    assert_eq!([error.reason(), told.reason()], [Some(reason); 2]);
    match (&error, &told) {
        (
            HandshakeError::Refused { we, peer, .. },
            HandshakeError::RefusedByPeer { we: other, peer: by, .. },
        ) => {
            assert_eq!((we, peer), (by, other), "both tell the same");
            assert!(sides.contains(we) && sides.contains(peer));
        }
        other => panic!("{other:?}"),
    }
    for error in [&error, &told] {
        let text = error.to_string();
        for side in &sides {
            assert!(text.contains(&side.to_string()), "{text}");
        }
    }
    assert_eq!(told.farewell(), None, "who is refused says no more");
    error
}

#[test]
fn two_nodes_of_a_cluster_know_each_other_afterwards() {
    let (connected, accepted) = meet(local(1), local(2), Some(2)).unwrap();
    let expected = |local: Local| Identity {
        node_id: local.node_id,
        cluster_id: local.cluster_id,
        process_start: local.process_start,
        directory_id: local.directory_id,
    };
    assert_eq!((connected.peer, accepted.peer), (expected(local(2)), expected(local(1))));
    assert_eq!((connected.version, accepted.version), (1, 1));
    assert_eq!((connected.purpose, accepted.purpose), (Purpose::Data, Purpose::Data));
}

#[test]
fn without_a_secret_the_same_handshake_runs_with_an_empty_one() {
    let open = |id| Local { secret: Secret::default(), ..local(id) };
    assert!(meet(open(1), open(2), None).is_ok());
    refused(open(1), local(2), None, Reason::WrongSecret);
    refused(local(1), open(2), None, Reason::WrongSecret);
}

#[test]
fn the_highest_version_that_both_speak_is_taken() {
    let speaks = |id, versions| Local { versions, ..local(id) };
    let (one, other) = meet(speaks(1, 1..=3), speaks(2, 2..=7), None).unwrap();
    assert_eq!((one.version, other.version), (3, 3));
    let (one, other) = meet(speaks(1, 2..=9), speaks(2, 2..=2), None).unwrap();
    assert_eq!((one.version, other.version), (2, 2));
    for (one, other) in [(1..=2, 3..=4), (3..=4, 1..=2)] {
        let error = refused(speaks(1, one), speaks(2, other), None, Reason::NoCommonVersion);
        let text = error.to_string();
        assert!(text.contains("1 to 2") && text.contains("3 to 4") && text.contains("upgrade"), "{text}");
    }
}

#[test]
fn nodes_of_different_clusters_part_and_a_cluster_that_forms_takes_anybody() {
    let of = |id, cluster: &str| Local { cluster_id: cluster.into(), ..local(id) };
    let error = refused(of(1, "cluster-a"), of(2, "cluster-b"), None, Reason::WrongCluster);
    assert!(error.to_string().contains("correct the address"), "{error}");
    for (one, other) in [("", ""), ("", "cluster-b"), ("cluster-a", "")] {
        let (connected, accepted) = meet(of(1, one), of(2, other), None).unwrap();
        assert_eq!((connected.peer.cluster_id.as_str(), accepted.peer.cluster_id.as_str()), (other, one));
    }
}

#[test]
fn what_another_cluster_calls_itself_forges_no_line_of_a_log() {
    let evil = Local { cluster_id: "x\nERROR all is lost\u{1b}[2J".into(), ..local(2) };
    let text = meet(evil, local(1), None).unwrap_err()[0].to_string();
    assert!(!text.contains('\n') && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn different_secrets_are_told_to_both_and_never_shown() {
    let other = Local { secret: Secret::new(b"battery staple".to_vec()), ..local(2) };
    assert!(!format!("{other:?}").contains("battery"));
    let error = refused(local(1), other, None, Reason::WrongSecret);
    assert!(error.to_string().contains("cluster.secret.file"), "{error}");
}

#[test]
fn a_node_that_says_it_is_me_is_refused() {
    let error = refused(local(1), Local { process_start: 7, ..local(1) }, None, Reason::DuplicateNodeId);
    assert!(error.to_string().contains("another node.id"), "{error}");
}

#[test]
fn a_node_that_looks_for_its_cluster_recognises_its_own_address_and_no_twin() {
    let answer = |other: Local| {
        let (mut finds, mut hello) = Handshake::connect(local(1), Purpose::Find, None, NONCES[0]);
        hello.advance(MAGIC.len());
        let error = Handshake::accept(other, NONCES[1]).on_frame(read(&hello)).unwrap_err();
        let told = finds.on_frame(read(&error.farewell().unwrap())).unwrap_err();
        assert_eq!(told.reason(), error.reason());
        told.reason()
    };
    assert_eq!(answer(local(1)), Some(Reason::Itself));
    assert_eq!(answer(Local { process_start: 7, ..local(1) }), Some(Reason::DuplicateNodeId));
    assert_eq!(answer(Local { directory_id: [9; 16], ..local(1) }), Some(Reason::DuplicateNodeId));
}

#[test]
fn a_node_that_was_not_meant_is_refused_by_either_side() {
    let error = refused(local(1), local(2), Some(3), Reason::WrongNode);
    assert!(error.to_string().contains("node 2 (cluster \"cluster-a\") refuses node 1"), "{error}");
    // An older node that does not look at whom it is called: the side that connects does.
    let (mut connects, _) = connect(local(1), Some(3));
    let (_, hello) = connect(Local { node_id: 2, ..local(2) }, Some(1));
    let error = connects.on_frame(read(&other_nonce(&hello))).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::WrongNode));
    assert!(error.to_string().contains("node 1 (cluster \"cluster-a\") refuses node 2"), "{error}");
}

/// The same Hello with another nonce.
fn other_nonce(hello: &[u8]) -> Bytes {
    changed(hello, |hello| hello.nonce = Bytes::copy_from_slice(&NONCES[1]))
}

/// A Hello as somebody on the way may alter it, checksum and all.
fn changed(hello: &[u8], change: impl FnOnce(&mut Hello)) -> Bytes {
    let Body::Hello(mut hello) = read(hello).frame.body else { panic!("a Hello") };
    change(&mut hello);
    Frame::bare(Body::Hello(hello)).encode(Limits::HANDSHAKE).unwrap().concat().into()
}

#[test]
fn the_caller_judges_who_has_proven_itself_and_may_refuse() {
    for (reason, advice) in [
        (Reason::UnknownPeer, "let it register"),
        (Reason::OlderProcess, "stop the one that started first"),
        (Reason::WrongDirectory, "another data directory"),
    ] {
        let (mut connects, hello) = connect(local(1), Some(2));
        let mut accepts = Handshake::accept(local(2), NONCES[1]);
        let hello = sent(accepts.on_frame(read(&hello)));
        let proof = sent(connects.on_frame(read(&hello)));
        assert_eq!(judged(accepts.on_frame(read(&proof))).process_start, 101);
        let error = accepts.refuse(reason).unwrap();
        let told = connects.on_frame(read(&error.farewell().unwrap())).unwrap_err();
        for text in [error.to_string(), told.to_string()] {
            let both = "node 2 (cluster \"cluster-a\") refuses node 1 (cluster \"cluster-a\")";
            assert!(text.contains(both) && text.contains(advice), "{text}");
        }
        assert_eq!(told.reason(), Some(reason));
    }
}

#[test]
fn the_side_that_connects_may_refuse_as_well() {
    let (mut connects, hello) = connect(local(1), Some(2));
    let mut accepts = Handshake::accept(local(2), NONCES[1]);
    let hello = sent(accepts.on_frame(read(&hello)));
    let proof = sent(connects.on_frame(read(&hello)));
    judged(accepts.on_frame(read(&proof)));
    let proof = accepts.approve().unwrap().send.unwrap();
    assert_eq!(judged(connects.on_frame(read(&proof))).node_id, 2);
    let error = connects.refuse(Reason::OlderProcess).unwrap();
    let mut decoder = Decoder::new();
    decoder.establish(Limits::DEFAULT);
    let farewell = decoder.decode(&mut BytesMut::from(&error.farewell().unwrap()[..])).unwrap().unwrap();
    assert!(matches!(farewell.frame.body, Body::Refuse(_)), "it is read after the handshake too");
}

#[test]
fn nobody_is_judged_and_nothing_approved_before_the_proof() {
    let (mut connects, hello) = connect(local(1), None);
    let mut accepts = Handshake::accept(local(2), NONCES[1]);
    let bytes = sent(accepts.on_frame(read(&hello)));
    assert!(matches!(read(&bytes).frame.body, Body::Hello(_)), "it has told no more than ids");
    sent(connects.on_frame(read(&bytes)));
    assert!(accepts.approve().is_none() && connects.refuse(Reason::UnknownPeer).is_none());
}

#[test]
fn a_sides_own_proof_played_back_is_no_proof() {
    // Somebody without the secret answers with a Hello of a made-up node, then with the proof that it hears.
    let (mut connects, hello) = connect(local(1), None);
    let forged = changed(&hello, |hello| {
        (hello.node_id, hello.to) = (2, Some(1));
        hello.nonce = Bytes::copy_from_slice(&NONCES[1]);
    });
    let proof = sent(connects.on_frame(read(&forged)));
    let error = connects.on_frame(read(&proof)).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::WrongSecret));
}

#[test]
fn a_sides_own_hello_played_back_is_refused() {
    let (mut connects, hello) = connect(local(1), None);
    let error = connects.on_frame(read(&hello)).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::DuplicateNodeId));
    // With another id in it, but the same nonce: a proof over it would be one over our own bytes.
    let (mut connects, hello) = connect(local(1), None);
    let error = connects.on_frame(read(&changed(&hello, |hello| hello.node_id = 2))).unwrap_err();
    assert!(matches!(error, HandshakeError::Echo { .. }), "{error}");
    assert_eq!(error.farewell(), None);
}

#[test]
fn the_proof_of_another_connection_is_no_proof() {
    let (mut connects, hello) = connect(local(1), Some(2));
    let mut accepts = Handshake::accept(local(2), NONCES[1]);
    let answer = sent(accepts.on_frame(read(&hello)));
    let proof = sent(connects.on_frame(read(&answer)));
    judged(accepts.on_frame(read(&proof)));
    // The same bytes again, to the same node; only its nonce is new.
    let mut again = Handshake::accept(local(2), [3; 32]);
    sent(again.on_frame(read(&hello)));
    let error = again.on_frame(read(&proof)).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::WrongSecret));
}

#[test]
fn whatever_is_altered_on_the_way_in_either_hello_breaks_the_proof() {
    let alterations: [fn(&mut Hello); 6] = [
        |h| h.process_start += 1,
        |h| h.directory_id = vec![9; 16].into(),
        |h| h.nonce = vec![9; 32].into(),
        |h| h.highest_version = 5,
        |h| h.cluster_id.clear(),
        |h| h.to = None,
    ];
    for alter in alterations {
        for of_connecting in [true, false] {
            let (mut connects, mut hello) = connect(local(1), Some(2));
            let mut accepts = Handshake::accept(local(2), NONCES[1]);
            if of_connecting {
                hello = changed(&hello, alter);
            }
            let mut answer = sent(accepts.on_frame(read(&hello)));
            if !of_connecting {
                answer = changed(&answer, alter);
            }
            let proof = sent(connects.on_frame(read(&answer)));
            let error = accepts.on_frame(read(&proof)).unwrap_err();
            assert_eq!(error.reason(), Some(Reason::WrongSecret));
        }
    }
    // The purpose, which the side that connects sees repeated.
    let (mut connects, hello) = connect(local(1), Some(2));
    let hello = changed(&hello, |hello| hello.purpose = Purpose::Liveness as i32);
    let answer = sent(Handshake::accept(local(2), NONCES[1]).on_frame(read(&hello)));
    let error = connects.on_frame(read(&answer)).unwrap_err();
    assert!(matches!(error, HandshakeError::Echo { .. }), "{error}");
}

#[test]
fn frames_out_of_turn_end_the_handshake() {
    let proof = || frame(Body::Proof(Proof { mac: vec![7; 32].into() }));
    let (mut connects, hello) = connect(local(1), None);
    let mut accepts = Handshake::accept(local(2), NONCES[1]);
    let out_of_turn = |error: HandshakeError| match error {
        HandshakeError::OutOfTurn { got, expected, we } => (got, expected, we.node_id),
        other => panic!("{other}"),
    };
    assert_eq!(out_of_turn(connects.on_frame(proof()).unwrap_err()), ("Proof", "Hello", 1));
    sent(accepts.on_frame(read(&hello)));
    assert_eq!(out_of_turn(accepts.on_frame(read(&hello)).unwrap_err()), ("Hello", "Proof", 2));
    // It is over: nothing that follows brings it back.
    assert_eq!(out_of_turn(accepts.on_frame(read(&hello)).unwrap_err()), ("Hello", "nothing", 2));
    assert!(accepts.approve().is_none());

    let (mut connects, hello) = connect(local(1), None);
    let mut accepts = Handshake::accept(local(2), NONCES[1]);
    let answer = sent(accepts.on_frame(read(&hello)));
    let right = sent(connects.on_frame(read(&answer)));
    judged(accepts.on_frame(read(&right)));
    assert_eq!(out_of_turn(accepts.on_frame(read(&right)).unwrap_err()), ("Proof", "nothing", 2));
    assert!(accepts.approve().is_none());
}

#[test]
fn a_wrong_proof_of_any_kind_is_refused_and_cannot_be_tried_again() {
    let (mut connects, hello) = connect(local(1), None);
    let mut accepts = Handshake::accept(local(2), NONCES[1]);
    let answer = sent(accepts.on_frame(read(&hello)));
    let right = sent(connects.on_frame(read(&answer)));
    let Body::Proof(Proof { mac }) = read(&right).frame.body else { panic!("a proof") };
    let mut wrong = mac.to_vec();
    wrong[31] ^= 1;
    let wrong = frame(Body::Proof(Proof { mac: wrong.into() }));
    assert_eq!(accepts.on_frame(wrong).unwrap_err().reason(), Some(Reason::WrongSecret));
    assert_eq!(accepts.on_frame(read(&right)).unwrap_err().reason(), None, "there is one try");
}

#[test]
fn a_reason_of_a_later_version_is_told_as_one() {
    let refuse = proto::peer::Refuse { reason: 77, node_id: 2, ..Default::default() };
    let (mut connects, _) = connect(local(1), None);
    let error = connects.on_frame(frame(Body::Refuse(refuse))).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("node 2 (no cluster yet) refuses node 1") && text.contains("see the log"),
        "{text}"
    );
}
