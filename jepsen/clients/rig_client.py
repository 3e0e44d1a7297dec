"""The rig's clients by librdkafka: idempotent producers and assigned readers, or transactions that send, poll in a
group and commit its offsets, by Kafka's old protocol.

Writes the history as JSON lines; the line "final" on its input ends the work and begins the final read.
Arguments: bootstrap, topic, keys, first process, workers, pause in milliseconds, workload
(queue, txn or money).
"""

import contextlib
import faulthandler
import itertools
import json
import os
import random
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

COUNT_BITS = 20
LIFE = 15.0
BOOTSTRAP, TOPIC = sys.argv[1], sys.argv[2]
KEYS, FIRST, WORKERS, PAUSE = (int(arg) for arg in sys.argv[3:7])
WORKLOAD = sys.argv[7]
# The group of all transactional clients, and when their coordinator aborts.
GROUP = "rig-transactions"
TIMEOUT = 6.0
GIVE_UP = 30.0
COMMON = {
    "bootstrap.servers": BOOTSTRAP,
    "socket.timeout.ms": 3000,
    "socket.connection.setup.timeout.ms": 1000,
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 200,
    "topic.metadata.refresh.interval.ms": 5000,
    "log_level": 0,
}
# What an idempotent producer that did nothing wrong must not be told.
BROKEN = {
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError.UNKNOWN_PRODUCER_ID,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.DUPLICATE_SEQUENCE_NUMBER,
}

working = threading.Event()
working.set()
numbers = itertools.count(FIRST)
lock = threading.Lock()


def say(**line):
    text = json.dumps(line, separators=(",", ":"))
    with lock:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def broken(process, error):
    say(f="broken", time=time.monotonic_ns(), process=process, error=f"librdkafka: {error}")


def produce():
    while working.is_set():
        live(next(numbers))


def live(process):
    failed = threading.Event()

    def wrong(error):
        if error.fatal() or error.code() in BROKEN:
            broken(process, error)
            failed.set()

    producer = Producer(
        COMMON
        | {
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": 30000,
            "request.timeout.ms": 3000,
            "retry.backoff.ms": 20,
            "linger.ms": 0,
            "error_cb": wrong,
        }
    )

    def told(key, value):
        def callback(error, message):
            line = {"f": "send", "time": time.monotonic_ns(), "process": process, "key": key, "value": value}
            if error is None:
                say(**line, type="ok", offset=message.offset())
                return
            failed.set()
            say(**line, type="fail" if error.code() == KafkaError.MSG_SIZE_TOO_LARGE else "info", error=str(error))
            if error.code() in BROKEN:
                broken(process, error)

        return callback

    born = time.monotonic()
    for n in itertools.count():
        if not working.is_set() or failed.is_set() or time.monotonic() - born > LIFE:
            break
        key, value = n % KEYS, (process << COUNT_BITS) + n
        say(f="send", type="invoke", time=time.monotonic_ns(), process=process, key=key, value=value)
        producer.produce(TOPIC, str(value).encode(), partition=key, on_delivery=told(key, value))
        time.sleep(PAUSE / 1000)
        producer.poll(0)
    producer.flush(1 if working.is_set() else 30)
    # What is still on its way when the producer goes is of unknown outcome: no line says how it ended.


# An error that the library meets in a callback comes out of whatever is called next, as either of these.
ENDS = (KafkaException, SystemError)


class Aborted(Exception):
    """Ends a transaction that is not to be committed."""


def transact():
    while working.is_set():
        process = next(numbers)
        try:
            Life(process).live()
        except ENDS as error:
            print(f"process {process}: {error!r}", file=sys.stderr)
            time.sleep(PAUSE / 1000)


class Life:
    """One life of a transactional client."""

    def __init__(self, process):
        self.process, self.random = process, random.Random(process)
        self.values = self.txns = 0
        # First offset and the one after the last, of each partition that was polled in this transaction.
        self.polled, self.rebalanced, self.begun = {}, False, False
        self.producer = Producer(
            COMMON
            | {
                "transactional.id": f"rig-{process}",
                "transaction.timeout.ms": int(TIMEOUT * 1000),
                "message.timeout.ms": 5000,
                "request.timeout.ms": 3000,
                "retry.backoff.ms": 20,
                "linger.ms": 0,
            }
        )
        self.consumer = Consumer(
            COMMON
            | {
                "group.id": GROUP,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "session.timeout.ms": 8000,
                "heartbeat.interval.ms": 1000,
                "max.poll.interval.ms": 12000,
                "fetch.wait.max.ms": 100,
                "fetch.error.backoff.ms": 20,
            }
        )

    def live(self):
        try:
            self.producer.init_transactions(10)
            self.consumer.subscribe([TOPIC], on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.revoked)
            born = time.monotonic()
            while working.is_set() and time.monotonic() - born < LIFE and self.transaction():
                time.sleep(PAUSE / 1000)
        finally:
            # What is open is left to its coordinator, as by a client that dies.
            self.consumer.close()

    def assigned(self, _consumer, _partitions):
        self.rebalanced = True
        self.polled.clear()
        self.say(f="assign")

    def revoked(self, _consumer, _partitions):
        self.rebalanced = True
        self.polled.clear()

    def say(self, **line):
        say(time=time.monotonic_ns(), process=self.process, **line)

    def step(self, txn, step, error=None):
        self.say(f="txn", type=step, txn=txn, **({} if error is None else {"error": str(error)}))

    def transaction(self):
        """Whether the client goes on."""
        txn, self.txns = (self.process << COUNT_BITS) + self.txns, self.txns + 1
        self.polled.clear()
        self.begun = False
        try:
            if not (self.transfer(txn) if WORKLOAD == "money" else self.several(txn)):
                return True
            if self.random.random() < 0.05:
                raise Aborted()
            return self.commit(txn)
        except Aborted:
            if self.begun:
                return self.abort(txn)
            self.rewind()
            return True
        except ENDS as error:
            if not self.begun:
                return False
            if isinstance(error, SystemError) or error.args[0].fatal():
                # Without a commit that was asked for it is aborted sooner or later.
                self.step(txn, "unknown", error)
                return False
            return self.abort(txn, error)

    def begin(self, txn):
        self.begun = True
        self.step(txn, "begin")

    def several(self, txn):
        self.begin(txn)
        self.producer.begin_transaction()
        slow = self.random.random() < 0.5
        for _ in range(self.random.randint(1, 4)):
            if self.random.random() < 0.025:
                raise Aborted()
            if self.random.random() < 0.5:
                key = self.random.randrange(KEYS)
                for _ in range(self.random.randint(1, 3)):
                    self.send(txn, key, {})
            else:
                self.note(txn, *self.poll())
            if slow:
                time.sleep(self.random.random() * 0.06)
        if self.random.random() < 1 / 80:
            # About as long as the coordinator waits.
            time.sleep(TIMEOUT - 0.5 + self.random.random() * 1.5)
        return True

    def transfer(self, txn):
        start, records = self.poll()
        if not records:
            return False
        self.begin(txn)
        self.note(txn, start, records)
        self.producer.begin_transaction()
        for _, _, value in records:
            if self.random.random() < 0.005:
                raise Aborted()
            self.send(txn, self.random.randrange(KEYS), {"from": value})
        return True

    def send(self, txn, key, more):
        self.values += 1
        value = (self.process << COUNT_BITS) + self.values

        def told(error, message):
            end = {"type": "ok", "offset": message.offset()} if error is None else {"type": "info", "error": str(error)}
            self.say(f="send", key=key, value=value, **end)

        self.say(f="send", type="invoke", key=key, value=value, txn=txn, **more)
        try:
            self.producer.produce(TOPIC, str(value).encode(), partition=key, on_delivery=told)
        except BufferError as error:
            raise Aborted() from error
        self.producer.poll(0)

    def poll(self):
        """Polls; one that finds other partitions than the one before it in this transaction ends it."""
        had, self.rebalanced = bool(self.polled), False
        start, records, wait = time.monotonic_ns(), [], 0.1
        while len(records) < 100:
            message = self.consumer.poll(wait)
            if message is None:
                break
            if self.rebalanced and (had or records):
                # What came before is of partitions that may be another one's now.
                if message.error() is None:
                    self.polled[message.partition()] = (message.offset(), 0)
                raise Aborted()
            self.rebalanced = False
            if message.error() is None:
                records.append((message.partition(), message.offset(), int(message.value())))
            wait = 0
        if self.rebalanced and (had or records):
            raise Aborted()
        return start, records

    def note(self, txn, start, records):
        for partition, offset, _ in records:
            first, _ = self.polled.get(partition, (offset, 0))
            self.polled[partition] = (first, offset + 1)
        if records:
            self.say(f="poll", start=start, txn=txn, records=records)

    def commit(self, txn):
        if self.polled:
            offsets = [TopicPartition(TOPIC, key, after) for key, (_, after) in self.polled.items()]
            self.producer.send_offsets_to_transaction(offsets, self.consumer.consumer_group_metadata(), 10)
        self.producer.flush(5)
        self.step(txn, "commit")
        begun = time.monotonic()
        while True:
            try:
                self.producer.commit_transaction(5)
            except KafkaException as raised:
                error = raised.args[0]
                if error.txn_requires_abort():
                    raise
                fenced = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
                if error.fatal() or time.monotonic() - begun > GIVE_UP:
                    self.step(txn, "aborted" if error.code() in fenced else "unknown", error)
                    return False
                continue
            self.step(txn, "committed")
            return True

    def abort(self, txn, why=None):
        try:
            self.producer.abort_transaction(10)
        except KafkaException as error:
            self.step(txn, "unknown", f"{why}, then {error}")
            return False
        self.step(txn, "aborted", why)
        self.rewind()
        return True

    def rewind(self):
        """The consumer goes back to where this transaction began to read: what it read does not count."""
        mine = {partition.partition for partition in self.consumer.assignment()}
        for key, (first, _) in self.polled.items():
            if key in mine:
                self.consumer.seek(TopicPartition(TOPIC, key, first))
        self.say(f="assign")


def consumer():
    reader = Consumer(
        COMMON
        | {
            "group.id": "rig-librdkafka",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 200,
            "fetch.error.backoff.ms": 20,
        }
    )
    reader.assign([TopicPartition(TOPIC, key, 0) for key in range(KEYS)])
    return reader


def poll(process, reader, positions):
    start = time.monotonic_ns()
    records = []
    for message in reader.consume(500, 0.1):
        error = message.error()
        if error is None:
            records.append([message.partition(), message.offset(), int(message.value())])
            positions[message.partition()] = message.offset() + 1
        elif error.code() == KafkaError._PARTITION_EOF:
            # Markers and what was aborted are passed without a record.
            positions[message.partition()] = message.offset()
        elif error.code() == KafkaError._AUTO_OFFSET_RESET and "truncation" in str(error):
            # It compares the answer about an earlier epoch with where it is by then. Whether anything that was read is
            # another thing later, or gone, the checker sees from what all readers read.
            print(f"process {process}: {error}", file=sys.stderr)
            reader.seek(TopicPartition(TOPIC, message.partition(), positions.get(message.partition(), 0)))
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            broken(process, error)
    if records:
        say(f="poll", start=start, time=time.monotonic_ns(), process=process, records=records)


def read():
    while working.is_set():
        process, born, reader, positions = next(numbers), time.monotonic(), consumer(), {}
        say(f="assign", time=time.monotonic_ns(), process=process)
        while working.is_set() and time.monotonic() - born < 4 * LIFE:
            poll(process, reader, positions)
            time.sleep(PAUSE / 1000)
        reader.close()


def final_read():
    process, reader, end = next(numbers), consumer(), time.monotonic() + 100
    say(f="assign", time=time.monotonic_ns(), process=process)
    ends, positions = {}, {}
    while len(ends) < KEYS and time.monotonic() < end:
        for key in set(range(KEYS)) - ends.keys():
            try:
                ends[key] = reader.get_watermark_offsets(TopicPartition(TOPIC, key), timeout=3)[1]
            except KafkaException as error:
                print(f"watermarks of {key}: {error}", file=sys.stderr)
                with contextlib.suppress(KafkaException):
                    # It asks for no metadata anew by itself where it once heard of no leader.
                    reader.list_topics(TOPIC, timeout=3)
    reached = set()
    while len(reached) < KEYS and time.monotonic() < end:
        poll(process, reader, positions)
        reached = {key for key, last in ends.items() if positions.get(key, 0) >= last}
    for key in range(KEYS):
        at = {"time": time.monotonic_ns(), "process": process, "key": key, "high_watermark": ends.get(key, -1)}
        say(f="end", **at, reached=key in reached)
    reader.close()


def main():
    # The rig ends a client that does not end with SIGABRT: the stacks are written even if nobody lets go of the interpreter.
    faulthandler.enable()
    work = produce if WORKLOAD == "queue" else transact
    threads = [threading.Thread(target=work) for _ in range(WORKERS)] + [threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for line in sys.stdin:
        if line.strip() == "final":
            break
    working.clear()
    # Where the library does not come back, its threads' stacks tell why; what is in the log is read all the same.
    faulthandler.dump_traceback_later(120)
    end = time.monotonic() + 45
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
        if thread.is_alive():
            print("a thread does not end", file=sys.stderr)
            faulthandler.dump_traceback(all_threads=True)
    final_read()
    sys.stderr.flush()
    os._exit(0)


main()
