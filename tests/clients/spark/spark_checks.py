"""Spark and its connector for Kafka: batches, and a stream from topic to topic that starts again from its checkpoint.

What Spark wrote is read by another client, and what it read was written by one.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))

from contract import arguments, expect, run_named  # noqa: E402

PARTITIONS = 3
WAIT = 180
WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "spark_stream.py")


def session(jars):
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").appName("checks")
    settings = {
        "spark.driver.extraClassPath": os.path.join(jars, "*"),
        "spark.driver.memory": "768m",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # These jobs are small: most of their time would be spent in compilers.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


class Outside:
    """The client that is not Spark."""

    def __init__(self, args):
        self.args = args
        self.config = {"bootstrap.servers": args.bootstrap}

    def create(self, topic):
        admin = AdminClient(self.config)
        admin.create_topics([NewTopic(topic, PARTITIONS, self.args.replicas)])[topic].result(WAIT)

    def send(self, topic, records, pause):
        """Keys and values by partitions in turn; `pause` seconds for each."""
        failed = []
        producer = Producer({**self.config, "enable.idempotence": True, "linger.ms": 5})
        for index, (key, value) in enumerate(records):
            told = lambda error, _: error and failed.append(str(error))  # noqa: E731
            producer.produce(topic, value, key, index % PARTITIONS, on_delivery=told)
            if index % 10 == 0:
                producer.poll(10 * pause)
                time.sleep(10 * pause)
        expect(producer.flush(WAIT) == 0 and not failed, f"not acknowledged: {failed[:3]}")

    def ends(self, topic):
        """One past the last offset of each partition; another client asks again where a broker that is asked dies."""
        limit = time.monotonic() + WAIT
        while True:
            consumer = Consumer({**self.config, "group.id": "unused"})
            try:
                where = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
                return [consumer.get_watermark_offsets(one, 10)[1] for one in where]
            except KafkaException:
                if time.monotonic() > limit:
                    raise
                time.sleep(0.2)
            finally:
                consumer.close()

    def count(self, topic):
        return sum(self.ends(topic))

    def read(self, topic):
        """All records up to the ends, as rows of partition, offset, key, value and headers."""
        ends = self.ends(topic)
        consumer = Consumer({**self.config, "group.id": "unused", "enable.auto.commit": False})
        try:
            consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
            rows, last, limit = [], None, time.monotonic() + WAIT
            while len(rows) < sum(ends):
                expect(time.monotonic() < limit, f"{len(rows)} of {sum(ends)} records of {topic} read; {last}")
                for m in consumer.consume(1000, 0.5):
                    if m.error():
                        last = m.error()
                        continue
                    rows.append((m.partition(), m.offset(), m.key(), m.value(), tuple(m.headers() or ())))
            return sorted(rows, key=lambda row: row[:2])
        finally:
            consumer.close()


def kafka(io, args, **options):
    """A reader or a writer of Spark's, for these brokers."""
    io = io.format("kafka").option("kafka.bootstrap.servers", args.bootstrap)
    for name, value in options.items():
        io = io.option(name, value)
    return io


# What `row` says, as Spark makes it.
COLUMNS = [
    f"cast(id % {PARTITIONS} as int) as partition",
    "if(id % 30 = 29, null, cast(concat('key ', id) as binary)) as key",
    "if(id % 20 = 19, null, concat(cast(concat('value ', id, ' ') as binary), X'00FF')) as value",
    """if(id % 4 = 0, array(named_struct('key', 'name', 'value', cast(cast(id as string) as binary)),
                         named_struct('key', 'name', 'value', cast(null as binary))), null) as headers""",
]


def row(index):
    """One in twenty without a value, one in thirty without a key; the headers of one in four."""
    key = None if index % 30 == 29 else b"key %d" % index
    value = None if index % 20 == 19 else b"value %d \x00\xff" % index
    headers = (("name", b"%d" % index), ("name", None)) if index % 4 == 0 else ()
    return index % PARTITIONS, key, value, headers


def read_write(args, topic):
    """Batches that Spark writes are read by it and by another client, each record once, in order and as it was."""
    outside, spark = Outside(args), session(args.jars)
    outside.create(topic)
    rounds, wanted = 5, [[] for _ in range(PARTITIONS)]
    size = min(args.records, 15_000) // rounds
    for turn in range(rounds):
        first, last = turn * size, (turn + 1) * size
        # One task, so that there is an order.
        batch = spark.range(first, last, numPartitions=1).selectExpr(*COLUMNS)
        kafka(batch.write, args, topic=topic, includeHeaders="true").save()
        for partition, *rest in map(row, range(first, last)):
            wanted[partition].append(tuple(rest))
        read = kafka(spark.read, args, subscribe=topic, includeHeaders="true").load()
        judge_rows([spark_row(found) for found in read.collect()], wanted, "Spark")
        judge_rows(outside.read(topic), wanted, "the other client")
    # From and to offsets: what lies between, and nothing else.
    end = {"0": 12, "1": 0, "2": 3}
    some = kafka(
        spark.read,
        args,
        subscribe=topic,
        includeHeaders="true",
        startingOffsets=json.dumps({topic: {"0": 5, "1": -2, "2": 0}}),
        endingOffsets=json.dumps({topic: end}),
    )
    places = sorted((found.partition, found.offset) for found in some.load().collect())
    expect(places == [(0, at) for at in range(5, 12)] + [(2, at) for at in range(3)], f"between offsets: {places}")
    spark.stop()


def spark_row(found):
    def whole(value):
        return None if value is None else bytes(value)

    headers = tuple((header.key, whole(header.value)) for header in found.headers or ())
    return found.partition, found.offset, whole(found.key), whole(found.value), headers


def judge_rows(rows, wanted, reader):
    for partition, records in enumerate(wanted):
        found = [row[1:] for row in sorted(rows, key=lambda row: row[:2]) if row[0] == partition]
        expect(len(found) == len(records), f"{reader}: {len(found)} of {len(records)} in partition {partition}")
        for offset, (left, right) in enumerate(zip(records, found)):
            expect((offset, *left) == right, f"{reader}: partition {partition}: wrote {offset} {left}, read {right}")


class Stream:
    """The stream, in processes of its own."""

    def __init__(self, args, topic, directory, batch):
        self.command = [sys.executable, WORKER, "--bootstrap", args.bootstrap, "--jars", args.jars]
        self.command += ["--input", topic, "--output", topic + "-out", "--batch", str(batch)]
        self.command += ["--checkpoint", os.path.join(directory, "checkpoint")]
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )

    def alive(self):
        status = self.process.poll()
        expect(status is None, f"the stream ended with {status}")
        return True

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stop(self):
        """In good order: it stops when its input ends."""
        self.process.stdin.close()
        expect(self.process.wait(WAIT) == 0, f"the stream stopped with {self.process.returncode}")


def stream(args, topic):
    """From topic to topic, at least once: it is killed, and stopped, and goes on from its checkpoint each time."""
    outside, count = Outside(args), min(args.records, 9_000)
    for name in (topic, topic + "-out"):
        outside.create(name)
    batch, pause = count // 10, args.pause_ms / 1000
    records = [(b"key %d" % index, b"value %d" % index) for index in range(count)]
    directory, sending = tempfile.mkdtemp(), []
    job = Stream(args, topic, directory, batch)

    def send():
        try:
            outside.send(topic, records, pause)
        except Exception as error:
            sending.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        reach(outside, job, topic, count // 3)
        job.kill()
        job.start()
        reach(outside, job, topic, count * 2 // 3)
        job.stop()
        sender.join()
        expect(not sending, f"{sending}")
        job.start()
        reach(outside, job, topic, count)
        found = wait_for_all(outside, job, topic, records)
        job.stop()
    finally:
        job.kill()
        sender.join()
        shutil.rmtree(directory)
    wanted = {key: value.upper() for key, value in records}
    expect(found == wanted, f"{len(found)} keys, {count} wanted, or other values")
    twice = outside.count(topic + "-out") - count
    # A batch for each start; a stream that began anew would have written a third at least again.
    expect(0 <= twice <= 2 * batch, f"{twice} records twice, a batch has {batch}")


def reach(outside, job, topic, count):
    limit = time.monotonic() + 2 * WAIT
    while job.alive() and outside.count(topic + "-out") < count:
        expect(time.monotonic() < limit, f"no {count} records within {2 * WAIT} s")
        time.sleep(0.2)


def wait_for_all(outside, job, topic, records):
    """The output by key, once there is something for each; a key's values are all the same."""
    limit = time.monotonic() + WAIT
    while True:
        found = {}
        for _, offset, key, value, _ in outside.read(topic + "-out"):
            expect(found.setdefault(key, value) == value, f"{key} at {offset}: {found[key]} and {value}")
        if len(found) >= len(records):
            return found
        expect(job.alive() and time.monotonic() < limit, f"{len(found)} of {len(records)} keys within {WAIT} s")
        time.sleep(0.5)


CHECKS = {"read-write": read_write, "stream": stream}


def main():
    parser = arguments()
    parser.add_argument("--pause-ms", type=int, default=2, help="after each record of the stream's input")
    parser.add_argument("--jars", required=True)
    args = parser.parse_args()
    sys.exit(run_named(version("pyspark"), args, CHECKS, lambda check, topic: check(args, topic)))


if __name__ == "__main__":
    main()
