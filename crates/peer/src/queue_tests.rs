//! What is pushed is taken in order and within bounds, and what does not fit is counted.
use crate::{
    Body, Decoder, Frame, Kind, Limits, MOST_SLEEPING, NotQueued, PREFIX_BYTES, SendQueue, Unsendable,
};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use proto::peer::{
    EntryHead, EntryType, Forward, Heartbeat, LeaderRow, LeaderRows, RaftMessage, SleepingGroup,
};

const BOUND: usize = 20_000;

fn queue() -> SendQueue {
    SendQueue::new(BOUND, Limits::DEFAULT)
}

/// A raft message of index `index` and so many bytes of payload.
fn raft(index: u64, payload: usize) -> Frame {
    let head = EntryHead { r#type: EntryType::Data as i32, length: payload as u32, ..EntryHead::default() };
    let message = RaftMessage { index, entries: vec![head], ..RaftMessage::default() };
    Frame::raft(message, vec![Bytes::from(vec![index as u8; payload])])
}

fn ack(index: u64) -> Frame {
    Frame::raft(RaftMessage { index, ..RaftMessage::default() }, vec![])
}

fn asleep(partition: i32, term: u64) -> SleepingGroup {
    SleepingGroup { topic_id: Bytes::from(vec![1; 16]), partition, term, last_index: 5, last_term: 1 }
}

fn heartbeat(sequence: u64, sleeping: Vec<SleepingGroup>) -> Frame {
    Frame::bare(Body::Heartbeat(Heartbeat { process_start: 1, sequence, sleeping, ..Heartbeat::default() }))
}

fn rows(whole: bool, partitions: std::ops::Range<i32>) -> Frame {
    let topic_id = Bytes::from(vec![1; 16]);
    let row =
        |partition| LeaderRow { topic_id: topic_id.clone(), partition, leader: 1, ..LeaderRow::default() };
    Frame::bare(Body::LeaderRows(LeaderRows { whole, rows: partitions.map(row).collect() }))
}

/// Takes everything in writes of `max_bytes` and returns the frames that the peer reads.
fn drain(queue: &mut SendQueue, max_bytes: usize) -> Vec<Frame> {
    let (mut decoder, mut buffer, mut found) = (Decoder::new(), BytesMut::new(), Vec::new());
    decoder.establish(Limits::DEFAULT);
    loop {
        let pieces = queue.take(max_bytes, 8);
        if pieces.is_empty() {
            break;
        }
        assert!(pieces.len() <= 8 && pieces.iter().map(Bytes::len).sum::<usize>() <= max_bytes);
        assert!(pieces.iter().all(|piece| !piece.is_empty()));
        pieces.iter().for_each(|piece| buffer.extend_from_slice(piece));
        while let Some(received) = decoder.decode(&mut buffer).unwrap() {
            found.push(received.frame);
        }
    }
    assert!(buffer.is_empty() && queue.is_empty());
    assert_eq!(queue.queued_bytes(), 0);
    found
}

fn row_count(frames: &[Frame]) -> Vec<(bool, usize)> {
    let of = |frame: &Frame| match &frame.body {
        Body::LeaderRows(rows) => Some((rows.whole, rows.rows.len())),
        _ => None,
    };
    frames.iter().filter_map(of).collect()
}

#[test]
fn frames_leave_in_order_and_payloads_uncopied() {
    let mut queue = queue();
    let frames = [ack(1), raft(2, 3000), ack(3), ack(4), raft(5, 10)];
    for frame in &frames {
        queue.push(frame.clone()).unwrap();
    }
    let pieces = queue.take(usize::MAX, 64);
    assert_eq!(pieces.len(), 4, "heads that follow each other share a piece");
    assert_eq!(pieces[1].as_ptr(), frames[1].payloads[0].as_ptr());
    assert_eq!(pieces[3].as_ptr(), frames[4].payloads[0].as_ptr());
    assert!(queue.is_empty() && queue.take(usize::MAX, 64).is_empty());

    for frame in &frames {
        queue.push(frame.clone()).unwrap();
    }
    assert_eq!(drain(&mut queue, 100), frames);
}

#[test]
fn a_write_ends_within_a_payload_where_its_bytes_end() {
    let mut queue = queue();
    queue.push(raft(1, 5000)).unwrap();
    let first = queue.take(1000, 64);
    assert_eq!(first.iter().map(Bytes::len).sum::<usize>(), 1000);
    let rest = queue.take(10_000, 64).concat();
    let mut buffer = BytesMut::from(&[first.concat(), rest].concat()[..]);
    let mut decoder = Decoder::new();
    decoder.establish(Limits::DEFAULT);
    assert_eq!(decoder.decode(&mut buffer).unwrap().unwrap().frame, raft(1, 5000));
    queue.push(raft(2, 10)).unwrap();
    assert!(queue.take(0, 64).is_empty() && queue.take(10, 0).is_empty());
    assert_eq!(drain(&mut queue, 1), [raft(2, 10)]);
}

#[test]
fn frames_are_encoded_when_they_are_taken() {
    let mut queue = queue();
    for index in 0..10 {
        queue.push(raft(index, 1000)).unwrap();
    }
    queue.take(1, 64);
    queue.push(heartbeat(1, vec![])).unwrap();
    let pieces = queue.take(usize::MAX, 64).concat();
    let mut decoder = Decoder::new();
    decoder.establish(Limits::DEFAULT);
    let mut buffer = BytesMut::from(&pieces[..]);
    // The frame that was begun goes on; then comes what is urgent.
    let begun = &mut BytesMut::from(&raft(0, 1000).encode(Limits::DEFAULT).unwrap().concat()[..]);
    let rest = buffer.split_to(begun.len() - 1);
    assert_eq!(rest, begun[1..]);
    let next = decoder.decode(&mut buffer).unwrap().unwrap().frame;
    assert!(matches!(next.body, Body::Heartbeat(_)), "{next:?}");
}

#[test]
fn a_full_queue_drops_raft_messages_and_refuses_requests_and_counts_both() {
    let mut queue = queue();
    let mut taken = 0;
    while queue.push(raft(taken, 1000)).is_ok() {
        taken += 1;
        assert!(queue.queued_bytes() <= BOUND);
    }
    assert!(taken > 10 && taken < 20, "{taken}");
    assert_eq!(queue.push(raft(99, 1000)), Err(NotQueued::Full));
    let request = Frame::forward(Forward::default(), Bytes::from(vec![0; 2000]));
    assert_eq!(queue.push(request.clone()), Err(NotQueued::Full));
    let counters = queue.counters();
    assert_eq!((counters.dropped(Kind::Raft), counters.dropped(Kind::Forward)), (2, 1));
    assert_eq!(counters.dropped(Kind::Node), 0);
    // Room comes with what is taken, not before.
    queue.take(5000, 64);
    assert_eq!(queue.push(request), Ok(()));
}

#[test]
fn what_waits_goes_with_its_connection_and_the_counters_stay() {
    let mut queue = queue();
    while queue.push(raft(1, 1000)).is_ok() {}
    queue.push(heartbeat(1, vec![])).unwrap();
    queue.take(10, 64);
    queue.clear();
    assert!(queue.is_empty() && queue.take(usize::MAX, 64).is_empty());
    assert_eq!((queue.queued_bytes(), queue.counters().dropped(Kind::Raft)), (0, 1));
}

#[test]
fn one_frame_is_taken_when_none_waits_however_large() {
    let mut queue = queue();
    assert_eq!(queue.push(raft(1, 10 * BOUND)), Ok(()));
    assert_eq!(queue.push(ack(2)), Err(NotQueued::Full));
    queue.take(1000, 64);
    assert_eq!(queue.push(ack(3)), Err(NotQueued::Full), "what is begun still waits");
    queue.take(usize::MAX, 64);
    assert_eq!(queue.push(ack(4)), Ok(()));
}

#[test]
fn small_messages_count_with_the_memory_that_they_take() {
    let mut queue = queue();
    let mut taken = 0;
    while queue.push(ack(taken)).is_ok() {
        taken += 1;
    }
    let bytes = drain(&mut queue, 1000).len() * PREFIX_BYTES;
    assert!(taken < 100 && bytes < BOUND / 10, "{taken} messages, {bytes} bytes");
}

#[test]
fn what_could_never_be_sent_is_told_and_counted_apart() {
    let mut queue = SendQueue::new(BOUND, Limits { head: 4096, payload: 1000 });
    let large = NotQueued::Unsendable(Unsendable::Payload { length: 1001, limit: 1000 });
    assert_eq!(queue.push(raft(1, 1001)), Err(large));
    assert_eq!((queue.counters().unsendable, queue.counters().dropped(Kind::Raft)), (1, 0));
    assert!(queue.is_empty());
}

#[test]
fn a_heartbeat_goes_first_and_takes_the_place_of_an_older_one() {
    let mut queue = queue();
    while queue.push(raft(1, 1000)).is_ok() {}
    queue.push(heartbeat(1, vec![])).unwrap();
    queue.push(heartbeat(2, vec![])).unwrap();
    assert_eq!(queue.counters().heartbeats_replaced, 1);
    let frames = drain(&mut queue, 4000);
    assert_eq!(frames[0], heartbeat(2, vec![]));
    assert!(frames[1..].iter().all(|frame| matches!(frame.body, Body::Raft(_))));
    queue.push(heartbeat(3, vec![])).unwrap();
    assert_eq!(drain(&mut queue, 4000), [heartbeat(3, vec![])]);
    assert_eq!(queue.counters().heartbeats_replaced, 1);
}

#[test]
fn a_group_that_fell_asleep_is_named_though_its_heartbeat_gave_way() {
    let mut queue = queue();
    queue.push(heartbeat(1, vec![asleep(1, 1), asleep(2, 1)])).unwrap();
    queue.push(heartbeat(2, vec![])).unwrap();
    queue.push(heartbeat(3, vec![asleep(2, 7), asleep(3, 1)])).unwrap();
    let all = vec![asleep(1, 1), asleep(2, 7), asleep(3, 1)];
    assert_eq!(drain(&mut queue, 4000), [heartbeat(3, all)]);
}

#[test]
fn more_sleeping_groups_than_a_heartbeat_names_are_left_out_and_told() {
    let mut queue = queue();
    let many: Vec<_> =
        (0..MOST_SLEEPING as i32).map(|partition| asleep(partition, i32::MAX as u64)).collect();
    queue.push(heartbeat(1, many.clone())).unwrap();
    assert_eq!(queue.push(heartbeat(2, vec![asleep(-1, 1)])), Err(NotQueued::Sleeping));
    assert_eq!(queue.counters().dropped(Kind::Heartbeat), 1);
    assert_eq!(drain(&mut queue, 1 << 20), [heartbeat(2, many)], "a head of that size may be sent");
}

#[test]
fn a_new_connection_wants_a_whole_table_before_any_row() {
    let mut queue = queue();
    assert!(queue.table_due());
    assert_eq!(queue.push(rows(false, 0..3)), Err(NotQueued::TableDue));
    queue.push(rows(true, 0..0)).unwrap();
    assert!(!queue.table_due());
    queue.push(rows(false, 0..3)).unwrap();
    assert_eq!(row_count(&drain(&mut queue, 4000)), [(true, 0), (false, 3)]);
    assert_eq!(queue.counters().rows_collapsed, 3);
    queue.clear();
    assert!(queue.table_due());
}

#[test]
fn rows_that_find_no_room_collapse_into_a_table_that_is_due() {
    let mut queue = queue();
    queue.push(rows(true, 0..10)).unwrap();
    queue.push(ack(1)).unwrap();
    let mut pushed = 0;
    while queue.push(rows(false, 0..20)).is_ok() {
        pushed += 1;
    }
    assert!(pushed > 3, "{pushed}");
    assert!(queue.table_due());
    assert_eq!(queue.counters().rows_collapsed, 10 + 20 * (pushed + 1));
    assert_eq!(queue.counters().dropped(Kind::LeaderRows), 0, "nothing is lost: a table follows");
    assert_eq!(queue.push(rows(false, 0..1)), Err(NotQueued::TableDue));
    assert_eq!(queue.push(rows(true, 0..20)), Ok(()), "their room is free again");
    assert!(!queue.table_due());
    let frames = drain(&mut queue, 4000);
    assert_eq!((frames[0].clone(), row_count(&frames)), (ack(1), vec![(true, 20)]));
}

#[test]
fn a_table_that_finds_no_room_stays_due() {
    let mut queue = queue();
    while queue.push(raft(1, 1000)).is_ok() {}
    assert_eq!(queue.push(rows(true, 0..500)), Err(NotQueued::TableDue));
    assert!(queue.table_due());
    drain(&mut queue, 4000);
    assert_eq!(queue.push(rows(true, 0..5000)), Ok(()), "any table when nothing waits");
    assert_eq!(queue.push(rows(true, 0..7)), Ok(()), "it takes the older one's place");
    assert_eq!(row_count(&drain(&mut queue, 4000)), [(true, 7)]);
}

#[test]
fn a_large_table_goes_in_several_frames_of_which_the_first_voids_what_was_known() {
    let mut queue = queue();
    queue.push(rows(true, 0..100_000)).unwrap();
    let parts = row_count(&drain(&mut queue, 1 << 20));
    assert!(parts.len() > 1);
    assert_eq!(parts.iter().map(|(_, count)| count).sum::<usize>(), 100_000);
    let whole: Vec<bool> = parts.iter().map(|(whole, _)| *whole).collect();
    assert!(whole[0] && whole[1..].iter().all(|whole| !whole));
}

proptest! {
    #[test]
    fn what_is_queued_is_read_in_order_whatever_is_taken_when(
        steps in proptest::collection::vec((0..4u8, 0..4000usize), 1..60),
    ) {
        let mut queue = SendQueue::new(BOUND, Limits::DEFAULT);
        let (mut decoder, mut buffer) = (Decoder::new(), BytesMut::new());
        decoder.establish(Limits::DEFAULT);
        let (mut pushed, mut found, mut index) = (Vec::new(), Vec::new(), 0);
        for (step, size) in steps.into_iter().chain(std::iter::repeat_n((3, usize::MAX), 60)) {
            index += 1;
            let frame = match step {
                0 => ack(index),
                1 => raft(index, size),
                2 => Frame::forward(Forward { correlation: index, ..Forward::default() }, vec![7; size].into()),
                _ => {
                    queue.take(size, 5).iter().for_each(|piece| buffer.extend_from_slice(piece));
                    while let Some(received) = decoder.decode(&mut buffer).unwrap() {
                        found.push(received.frame);
                    }
                    continue;
                }
            };
            match queue.push(frame.clone()) {
                Ok(()) => pushed.push(frame),
                Err(refused) => prop_assert_eq!(refused, NotQueued::Full),
            }
            prop_assert!(queue.queued_bytes() <= BOUND);
        }
        prop_assert_eq!(found, pushed);
        prop_assert!(queue.is_empty() && queue.queued_bytes() == 0);
    }
}
