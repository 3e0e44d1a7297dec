"""kcat, driven as a command; topics come into being by auto-creation, as kcat has no admin calls."""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))

from contract import CHECKS, WAIT, NotSupported, Record, drain, expect, main, pattern, same  # noqa: E402

# Lengths first, then the bytes: nothing needs escaping.
FORMAT = "%p %o %T %K %S %h\\n%k%s\\n"


def parse(data):
    records, at = [], 0
    while True:
        end = data.find(b"\n", at)
        if end < 0:
            return records, data[at:]
        partition, offset, timestamp, key_length, length, headers = data[at:end].split(b" ", 5)
        key_length, length = int(key_length), int(length)
        key_end = end + 1 + max(key_length, 0)
        value_end = key_end + max(length, 0)
        if len(data) < value_end + 1:
            return records, data[at:]
        pairs = [pair.partition(b"=") for pair in headers.split(b",") if pair]
        records.append(
            Record(
                None if length < 0 else data[key_end:value_end],
                None if key_length < 0 else data[end + 1 : key_end],
                [(name.decode(), value) for name, _, value in pairs],
                int(partition),
                int(timestamp),
                int(offset),
            )
        )
        at = value_end + 1


class Member:
    """A `kcat -G` process; what it owns is read from what it says of each rebalance."""

    def __init__(self, bootstrap, group, topics):
        command = ["kcat", "-b", bootstrap, "-G", group, "-X", "auto.offset.reset=earliest", "-u"]
        command += ["-X", "session.timeout.ms=10000", "-X", "heartbeat.interval.ms=500"]
        command += ["-X", "topic.metadata.refresh.interval.ms=1000"]
        command += ["-X", "partition.assignment.strategy=roundrobin", "-f", FORMAT, *topics]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.records, self.owned = [], set()
        for read in (self.read_records, self.read_rebalances):
            threading.Thread(target=read, daemon=True).start()

    def read_records(self):
        left = b""
        while chunk := self.process.stdout.read1(1 << 16):
            records, left = parse(left + chunk)
            self.records.extend(records)

    def read_rebalances(self):
        for line in self.process.stderr:
            if b"assigned:" in line:
                parts = line.decode().partition("assigned:")[2].split(",")
                self.owned = {part.strip() for part in parts if "[" in part}
            elif b"revoked:" in line:
                self.owned = set()

    def poll(self, seconds):
        time.sleep(seconds)
        taken, self.records = self.records, []
        return taken

    def assignment(self):
        return self.owned

    def close(self):
        """SIGTERM: kcat commits what it printed and leaves the group."""
        self.process.terminate()
        self.process.wait(WAIT)


class Client:
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    null_headers = False

    def __init__(self, bootstrap, replicas):
        self.bootstrap = bootstrap
        said = subprocess.run(["kcat", "-V"], capture_output=True, text=True, check=True).stdout
        release, library = re.search(r"Version (\S+).*librdkafka ([0-9.]+)", said, re.DOTALL).groups()
        self.version = f"{release}, librdkafka {library}"

    def run(self, *arguments, data=None):
        command = ["kcat", "-b", self.bootstrap, *arguments]
        done = subprocess.run(command, input=data, capture_output=True, timeout=WAIT * 3)
        expect(done.returncode == 0, f"{' '.join(command[:8])}: {done.stderr.decode()[-300:]}")
        return done.stdout

    def produce_lines(self, topic, lines, *options):
        self.run("-P", "-t", topic, "-K", "\t", *options, data=b"\n".join(lines) + b"\n")

    def produce_files(self, topic, values, *options):
        """One message a file: the only way to send any byte."""
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for index, value in enumerate(values):
                paths.append(os.path.join(folder, f"{index:06}"))
                with open(paths[-1], "wb") as file:
                    file.write(value)
            self.run("-P", "-t", topic, *options, *paths)

    def read(self, topic, *options):
        records, left = parse(self.run("-C", "-t", topic, "-e", "-q", "-f", FORMAT, *options))
        expect(not left, f"{len(left)} bytes left over")
        return records

    def close(self):
        pass


def lines_of(count, size=50):
    return [Record(b"value %d " % i + b"x" * size, key=b"key %d" % i) for i in range(count)]


def send(client, topic, records, *options):
    client.produce_lines(topic, [r.key + b"\t" + r.value for r in records], *options)


def keys(client, topic, args):
    sent = lines_of(200)
    send(client, topic, sent)
    client.produce_files(topic, [b"no key"])
    same(sent + [Record(b"no key")], client.read(topic))


def nulls(client, topic, args):
    client.produce_lines(topic, [b"key\tvalue", b"tombstone\t", b"\tnull key", b"end\tend"], "-Z")
    sent = [
        Record(b"value", b"key"),
        Record(None, b"tombstone"),
        Record(b"null key", None),
        Record(b"end", b"end"),
    ]
    same(sent, client.read(topic))


def headers(client, topic, args):
    pairs = [("a", b"1"), ("b", b"x"), ("a", b"2"), ("a", b"1")]
    options = [part for name, value in pairs for part in ("-H", f"{name}={value.decode()}")]
    send(client, topic, lines_of(3), *options)
    send(client, topic, lines_of(1))
    sent = [Record(r.value, r.key, pairs) for r in lines_of(3)] + lines_of(1)
    same(sent, client.read(topic))


def codec(client, topic, args, name):
    sent = lines_of(500, 200)
    send(client, topic, sent, "-z", name)
    same(sent, client.read(topic))


def sizes(client, topic, args):
    lengths = [1, 100, 1023, 4096, 16384, 65537, 250_000, 500_000, 900_000]
    sent = [Record(pattern(i, n)) for i, n in enumerate(lengths)]
    client.produce_files(topic, [record.value for record in sent])
    client.produce_lines(topic, [b"empty value\t"])
    same(sent + [Record(b"", b"empty value")], client.read(topic))


def bulk(client, topic, args):
    sent = lines_of(args.records)
    send(client, topic, sent, "-X", "enable.idempotence=true")
    same(sent, client.read(topic))


def assign(client, topic, args):
    sent = lines_of(100)
    send(client, topic, sent, "-p", "0")
    received = client.read(topic, "-p", "0", "-o", "5")
    expect(received[0].offset == 5, f"first offset {received[0].offset}, asked for 5")
    same(sent[5:], received)
    same(sent[-3:], client.read(topic, "-p", "0", "-o", "-3"))


def subscribe(client, topic, args):
    sent = lines_of(300)
    send(client, topic, sent)
    member = Member(client.bootstrap, topic + "-group", [topic])
    try:
        same(sent, drain([member], 300))
    finally:
        member.close()


def resume(client, topic, args):
    group = topic + "-group"
    sent = lines_of(200)
    send(client, topic, sent[:80])
    member = Member(client.bootstrap, group, [topic])
    first = drain([member], 80)
    member.close()
    send(client, topic, sent[80:])
    member = Member(client.bootstrap, group, [topic])
    try:
        rest = drain([member], 120)
        rest += member.poll(1.0)
        same(sent, first + rest)
    finally:
        member.close()


def settle(members, wanted):
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        owned = [len(member.assignment()) for member in members]
        if owned == wanted:
            return
        time.sleep(0.05)
    expect(False, f"members own {owned} partitions, wanted {wanted}")


def rebalance(client, topic, args):
    """Auto-created topics have one partition, so two topics are shared out."""
    topics = [topic + "-a", topic + "-b"]
    for name in topics:
        send(client, name, lines_of(10))
    group = topic + "-group"
    first = Member(client.bootstrap, group, topics)
    second = None
    try:
        settle([first], [2])
        expect(len(drain([first], 20)) == 20, "the first member did not read all")
        second = Member(client.bootstrap, group, topics)
        settle([first, second], [1, 1])
        for name in topics:
            send(client, name, lines_of(50))
        expect(sorted(len(drain([m], 50)) for m in (first, second)) == [50, 50], "not 50 each")
        second.close()
        second = None
        settle([first], [2])
        for name in topics:
            send(client, name, lines_of(5))
        got = drain([first], 10)
        expect(len(got) == 10, f"{len(got)} records after the second left, wanted 10")
    finally:
        if second:
            second.close()
        first.close()


def times(client, topic, args):
    """kcat cannot set timestamps: the broker's answer is judged by the clock between two sends."""
    sent = lines_of(20)
    send(client, topic, sent[:10])
    first = client.read(topic)
    middle = first[-1].timestamp + 1
    while time.time() * 1000 < middle + 1:
        time.sleep(0.001)
    send(client, topic, sent[10:])
    found = client.run("-Q", "-t", f"{topic}:0:{middle}").decode()
    expect("offset 10" in found, f"asked for {middle}: {found!r}")
    same(sent[10:], client.read(topic, "-o", f"s@{middle}"))


def transactions(client, topic, args):
    raise NotSupported("kcat has no transactions")


CHECKS.update(
    keys=keys,
    nulls=nulls,
    headers=headers,
    codec=codec,
    sizes=sizes,
    bulk=bulk,
    assign=assign,
    subscribe=subscribe,
    resume=resume,
    rebalance=rebalance,
    time=times,
    transactions=transactions,
)
main(Client)
