"""The checks every Python client runs, written once over a small adapter (see README.md)."""

import argparse
import json
import os
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

WAIT = 60.0
# An hour ago: older than any clock difference, younger than any retention.
FIRST_TIMESTAMP = (int(time.time()) - 3600) * 1000


@dataclass
class Record:
    value: bytes | None
    key: bytes | None = None
    headers: list = field(default_factory=list)
    partition: int = 0
    timestamp: int | None = None
    offset: int | None = None

    def content(self):
        return (self.key, self.value, [(name, value) for name, value in self.headers])


class Mismatch(Exception):
    """What came back is not what was sent."""


class NotSupported(Exception):
    """The client has no way to do this; the reason is the message."""


class Skipped(Exception):
    """These brokers cannot be put to the check; the reason is the message."""


def expect(condition, detail):
    if not condition:
        raise Mismatch(detail)


def pattern(index, length):
    """Bytes that differ for each index and do not compress to nothing."""
    step = (index * 2 + 1) & 0xFF
    row = bytes((index + j * step) & 0xFF for j in range(256))
    return (row * (length // 256 + 1))[:length]


def text(index):
    return (b"record %d of a compressible kind; " % index) * 8


def same(sent, received):
    expect(len(sent) == len(received), f"{len(sent)} records sent, {len(received)} received")
    for index, (left, right) in enumerate(zip(sent, received)):
        expect(
            left.content() == right.content(),
            f"record {index}: sent {brief(left)}, received {brief(right)}",
        )


def same_by_partition(sent, received):
    """Equal bytes and order within each partition, nothing missing, nothing twice."""
    expect(len(sent) == len(received), f"{len(sent)} records sent, {len(received)} received")
    for partition in sorted({record.partition for record in sent}):
        mine = [r for r in received if r.partition == partition]
        offsets = [r.offset for r in mine]
        expect(offsets == sorted(set(offsets)), f"partition {partition}: offsets out of order or repeated")
        same([r for r in sent if r.partition == partition], mine)


def positions(records):
    """Where a group goes on after these."""
    return {r.partition: r.offset + 1 for r in records}


def starts(records):
    """The first of each partition."""
    return {r.partition: r.offset for r in reversed(records)}


def brief(record):
    def cut(value):
        return None if value is None else f"{len(value)}:{value[:24]!r}"

    return f"key={cut(record.key)} value={cut(record.value)} headers={record.headers[:6]}"


def keys(client, topic, args):
    sent = [Record(pattern(i, 20), key=pattern(i, i % 65)) for i in range(200)]
    sent.append(Record(b"no key"))
    roundtrip(client, topic, sent)


def nulls(client, topic, args):
    sent = [
        Record(b"value", key=None),
        Record(None, key=b"tombstone"),
        Record(b"", key=b""),
        Record(b"", key=None),
        Record(None, key=b""),
        Record(b"end", key=b"end"),
    ]
    roundtrip(client, topic, sent)


def headers(client, topic, args):
    sent = [
        Record(b"none"),
        Record(b"one", headers=[("a", b"1")]),
        Record(b"twice", headers=[("a", b"1"), ("b", b"x"), ("a", b"2"), ("a", b"1")]),
        Record(b"empty", headers=[("empty", b""), ("binary", bytes(range(256)))]),
        Record(b"many", headers=[(f"h{i}", pattern(i, i)) for i in range(100)]),
    ]
    if client.null_headers:
        sent.append(Record(b"null", headers=[("null", None), ("after", b"x")]))
    roundtrip(client, topic, sent)


def codec(client, topic, args, name):
    sent = [Record(text(i), key=b"%d" % i, headers=[("codec", name.encode())]) for i in range(500)]
    roundtrip(client, topic, sent, codec=name)


def sizes(client, topic, args):
    lengths = [0, 1, 100, 1023, 4096, 16384, 65537, 250_000, 500_000, 900_000]
    roundtrip(client, topic, [Record(pattern(i, n), key=b"%d" % n) for i, n in enumerate(lengths)])


def bulk(client, topic, args):
    client.create_topic(topic, 3)
    sent = [
        Record(pattern(i, 10 + i * 37 % 200), key=b"%d" % i, partition=i % 3) for i in range(args.records)
    ]
    client.produce(topic, sent)
    received = client.read(topic, {0: 0, 1: 0, 2: 0}, len(sent), WAIT + args.records / 500)
    same_by_partition(sent, received)


def assign(client, topic, args):
    client.create_topic(topic, 3)
    sent = [Record(pattern(i, 50), key=b"%d" % i, partition=i % 3) for i in range(300)]
    client.produce(topic, sent)
    received = client.read(topic, {1: 5}, 95, WAIT)
    expect(received[0].offset == 5, f"first offset {received[0].offset}, asked for 5")
    same([r for r in sent if r.partition == 1][5:], received)


def subscribe(client, topic, args):
    client.create_topic(topic, 3)
    sent = [Record(pattern(i, 50), key=b"%d" % i, partition=i % 3) for i in range(600)]
    client.produce(topic, sent)
    member = client.member(topic + "-group", [topic])
    try:
        received = drain([member], len(sent))
        expect(
            sorted(member.assignment()) == [0, 1, 2], f"assigned {sorted(member.assignment())}, not all three"
        )
    finally:
        member.close()
    same_by_partition(sent, received)


def resume(client, topic, args):
    client.create_topic(topic, 2)
    group = topic + "-group"
    sent = [Record(pattern(i, 50), key=b"%d" % i, partition=i % 2) for i in range(200)]
    client.produce(topic, sent[:80])
    member = client.member(group, [topic])
    first = drain([member], 80)
    member.commit()
    member.close()
    client.produce(topic, sent[80:])
    member = client.member(group, [topic])
    try:
        rest = drain([member], 120)
        more = member.poll(1.0)
        expect(not more, f"{len(more)} records beyond the last one")
    finally:
        member.close()
    same_by_partition(sent, first + rest)


def rebalance(client, topic, args, **options):
    client.create_topic(topic, 4)
    group = topic + "-group"
    first = client.member(group, [topic], **options)
    second = None
    try:
        settle([first], [4])
        second = client.member(group, [topic], **options)
        settle([first, second], [2, 2])
        overlap = set(first.assignment()) & set(second.assignment())
        expect(not overlap, f"both members own {sorted(overlap)}")
        sent = [Record(pattern(i, 50), key=b"%d" % i, partition=i % 4) for i in range(400)]
        client.produce(topic, sent)
        received = drain([first, second], 400)
        same_by_partition(sent, received)
        first.commit()
        second.commit()
        second.close()
        second = None
        settle([first], [4])
        more = [Record(pattern(i, 60), key=b"%d" % i, partition=i % 4) for i in range(100)]
        client.produce(topic, more)
        same_by_partition(more, drain([first], 100))
    finally:
        if second:
            second.close()
        first.close()


def consumer_protocol(client, topic, args):
    """The group protocol of KIP-848."""
    if not hasattr(client, "consumer_protocol"):
        raise NotSupported("the client has the classic protocol alone")
    if os.environ.get("CONSUMER_PROTOCOL") != "yes":
        raise Skipped("the broker does not serve ConsumerGroupHeartbeat")
    rebalance(client, topic, args, **client.consumer_protocol)


def times(client, topic, args):
    sent = [Record(b"%d" % i, timestamp=FIRST_TIMESTAMP + i * 1000) for i in range(100)]
    client.create_topic(topic, 1)
    client.produce(topic, sent)
    for asked, wanted in [(0, 0), (50_000, 50), (50_001, 51), (99_000, 99), (99_001, None)]:
        found = client.offset_for_time(topic, 0, FIRST_TIMESTAMP + asked)
        expect(found == wanted, f"offset for first+{asked} ms is {found}, not {wanted}")
    received = client.read(topic, {0: 50}, 50, WAIT)
    same(sent[50:], received)
    got = [r.timestamp for r in received]
    expect(got == [r.timestamp for r in sent[50:]], f"timestamps differ: {got[:3]}")


def transactions(client, topic, args):
    """A topic is copied in transactions, with the group's offsets; some are aborted, and a zombie changes nothing."""
    client.create_topic(topic, 2)
    output = topic + "-out"
    client.create_topic(output, 2)
    sent = [Record(pattern(i, 40), key=b"%d" % i, partition=i % 2) for i in range(400)]
    client.produce(topic, sent)
    group = topic + "-group"
    written = copy(client, topic, output, group, len(sent))
    heir = supersede(client, topic, output)
    committed = sent + heir[1:]
    same_by_partition(committed, client.read(output, {0: 0, 1: 0}, len(committed), WAIT, committed=True))
    written += heir
    expect(len(written) > len(committed) + 40, f"of {len(written)} records few were aborted")
    same_by_partition(written, client.read(output, {0: 0, 1: 0}, len(written), WAIT))
    found = client.committed(group, topic, [0, 1])
    expect(found == {0: 200, 1: 200}, f"the group's offsets are {found}")


def copy(client, source, target, group, count):
    """Each third transaction is aborted. After the first of these another worker goes on where the last commit was,
    else the same worker goes back. Gives all that was written."""
    written, copied, turn = [], 0, 0
    end = time.monotonic() + 2 * WAIT
    worker = client.worker(group, group, source)
    try:
        while copied < count:
            expect(time.monotonic() < end, f"{copied} of {count} records copied")
            records = worker.take(40, 0.5)
            if not records:
                continue
            turn += 1
            worker.begin()
            worker.send(target, records)
            worker.offsets(records)
            written += records
            if turn % 3:
                worker.commit()
                copied += len(records)
                continue
            worker.abort(records)
            if turn == 3:
                worker.close()
                worker = client.worker(group, group, source)
    finally:
        worker.close()
    return written


def transaction_loop(client, topic, args):
    """A topic is copied in transactions while whoever runs this resets the connections; after an error another worker
    goes on where the last commit was. Readers of committed records get each once and in order."""
    client.create_topic(topic, 2)
    output, group = topic + "-out", topic + "-group"
    client.create_topic(output, 2)
    sent = [Record(pattern(i, 40), key=b"%d" % i, partition=i % 2) for i in range(2000)]
    client.produce(topic, sent)
    print(json.dumps({"check": "transaction-loop", "connections": "reset"}), flush=True)
    loop(client, topic, output, group, {0: 1000, 1: 1000})
    print(json.dumps({"check": "transaction-loop", "connections": "stay"}), flush=True)
    # After the last record of each partition, so that one that is there twice shows.
    ends = [Record(b"end", key=b"end", partition=partition) for partition in (0, 1)]
    client.produce(output, ends)
    received = client.read(output, {0: 0, 1: 0}, len(sent + ends), WAIT, committed=True)
    same_by_partition(sent + ends, received)


def loop(client, source, target, group, wanted):
    worker, end, last = None, time.monotonic() + 10 * WAIT, None
    while True:
        expect(time.monotonic() < end, f"not copied; the last error: {last!r}")
        try:
            worker = worker or client.worker(group, group, source)
            records = worker.take(40, 0.5)
            if records:
                worker.begin()
                worker.send(target, records)
                worker.offsets(records)
                worker.commit()
                time.sleep(0.2)
            elif client.committed(group, source, [0, 1]) == wanted:
                break
        except Exception as error:
            last = error
            print(f"another worker after {error!r}", file=sys.stderr, flush=True)
            quietly_close(worker)
            worker = None
    quietly_close(worker)


def quietly_close(worker):
    try:
        if worker:
            worker.close()
    except Exception as error:
        print(f"closed with {error!r}", file=sys.stderr, flush=True)


def supersede(client, topic, target):
    """A second producer takes over a transactional id: the transaction of the first is aborted, and it is fenced."""
    records = [Record(b"zombie", key=b"0"), Record(b"heir", key=b"1")]
    zombie = client.worker(topic + "-id", topic + "-zombie", topic)
    zombie.begin()
    zombie.send(target, records[:1])
    heir = client.worker(topic + "-id", topic + "-heir", topic)
    heir.begin()
    heir.send(target, records[1:])
    heir.commit()
    heir.close()
    started = time.monotonic()
    try:
        zombie.commit()
    except Exception as error:
        expect(time.monotonic() - started < WAIT / 2, f"the zombie was not fenced at once: {error}")
    else:
        raise Mismatch("the zombie committed")
    zombie.close()
    return records


def roundtrip(client, topic, sent, codec=None):
    client.create_topic(topic, 1)
    client.produce(topic, sent, codec)
    same(sent, client.read(topic, {0: 0}, len(sent), WAIT))


def poll(members):
    """Polls all members at once, each on a thread of its own as in applications; returns what came.

    In turns would not do: while one is polled, the join of another can end. kafka-python 3.0.12 forgets a join that
    ended between two polls and joins again, so both members would rebalance for ever, on any broker.
    """
    with ThreadPoolExecutor(len(members)) as threads:
        polled = list(threads.map(lambda member: member.poll(0.1), members))
    return [record for records in polled for record in records]


def drain(members, count):
    """Polls the members until `count` records have come."""
    received = []
    end = time.monotonic() + WAIT
    while len(received) < count and time.monotonic() < end:
        received.extend(poll(members))
    return received


def settle(members, wanted):
    """Polls until every member owns as many partitions as wanted."""
    end = time.monotonic() + WAIT
    owned = []
    while time.monotonic() < end:
        poll(members)
        owned = [len(member.assignment()) for member in members]
        if owned == wanted:
            return
    raise Mismatch(f"members own {owned} partitions after {WAIT:.0f} s, wanted {wanted}")


CHECKS = {
    "keys": keys,
    "nulls": nulls,
    "headers": headers,
    "codec": codec,
    "sizes": sizes,
    "bulk": bulk,
    "assign": assign,
    "subscribe": subscribe,
    "resume": resume,
    "rebalance": rebalance,
    "time": times,
    "transactions": transactions,
    "consumer-protocol": consumer_protocol,
}
# What is run by its name alone.
NAMED = {"transaction-loop": transaction_loop}


def report(check, codec_name, ok, detail, started):
    line = {"check": check, "codec": codec_name, "ok": ok, "detail": detail}
    line["seconds"] = round(time.monotonic() - started, 2)
    print(json.dumps(line), flush=True)
    return ok is not False


def run_one(client, check, args, codec_name=None):
    topic = f"{args.topic_prefix}-{check}" + (f"-{codec_name}" if codec_name else "")
    started = time.monotonic()
    try:
        if codec_name:
            CHECKS[check](client, topic, args, codec_name)
        else:
            (CHECKS | NAMED)[check](client, topic, args)
        return report(check, codec_name, True, "", started)
    except Skipped as why:
        print(json.dumps({"check": check, "skipped": str(why)}), flush=True)
        return True
    except NotSupported as reason:
        return report(check, codec_name, None, str(reason), started)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        detail = f"{type(error).__name__}: {error} ({where.name}:{where.lineno})"
        return report(check, codec_name, False, detail, started)


def arguments():
    """What every program of checks is started with."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--check", default="all", help="one check, or all")
    parser.add_argument("--topic-prefix", required=True)
    parser.add_argument("--replicas", type=int, default=1, help="of each topic that is created, on as many nodes")
    return parser


def run_named(version, args, checks, run):
    """Runs the checks that were asked for; `run` is given each and the beginning of its topics' names. The exit status."""
    print(json.dumps({"check": "version", "ok": True, "detail": version}), flush=True)
    fine = True
    for name in checks if args.check == "all" else [args.check]:
        started = time.monotonic()
        try:
            run(checks[name], f"{args.topic_prefix}-{name}")
            fine &= report(name, None, True, "", started)
        except Skipped as why:
            print(json.dumps({"check": name, "skipped": str(why)}), flush=True)
        except Exception as error:
            fine &= report(name, None, False, f"{type(error).__name__}: {str(error)[:1500]}", started)
    return 0 if fine else 1


def main(make_client):
    args = arguments().parse_args()
    client = make_client(args.bootstrap, args.replicas)
    print(json.dumps({"check": "version", "ok": True, "detail": client.version}), flush=True)
    fine = True
    for check in CHECKS if args.check == "all" else [args.check]:
        if check == "codec":
            for name in client.codecs:
                fine &= run_one(client, check, args, name)
        else:
            fine &= run_one(client, check, args)
    client.close()
    sys.exit(0 if fine else 1)
