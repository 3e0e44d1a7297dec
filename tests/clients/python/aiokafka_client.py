"""aiokafka: one event loop on a thread of its own, so that heartbeats go on between the calls."""

import asyncio
import threading
import time
from importlib.metadata import version

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from contract import WAIT, Record, main, positions, starts

LOOP = asyncio.new_event_loop()
threading.Thread(target=LOOP.run_forever, daemon=True).start()


def wait(coroutine, seconds=WAIT):
    return asyncio.run_coroutine_threadsafe(coroutine, LOOP).result(seconds)


def to_records(polled):
    return [
        Record(m.value, m.key, list(m.headers), m.partition, m.timestamp, m.offset)
        for messages in polled.values()
        for m in messages
    ]


class Member:
    def __init__(self, bootstrap, group, topics):
        async def build():
            return AIOKafkaConsumer(
                *topics,
                bootstrap_servers=bootstrap,
                group_id=group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                session_timeout_ms=10000,
                heartbeat_interval_ms=500,
            )

        self.consumer = wait(build())
        # Joining waits for the other members to be polled, so it goes on in the background.
        self.starting = asyncio.run_coroutine_threadsafe(self.consumer.start(), LOOP)

    def poll(self, seconds):
        if not self.starting.done():
            time.sleep(seconds)
            return []
        self.starting.result()
        return to_records(wait(self.consumer.getmany(timeout_ms=int(seconds * 1000))))

    def assignment(self):
        return {p.partition for p in self.consumer.assignment()}

    def commit(self):
        if self.assignment():
            wait(self.consumer.commit())

    def close(self):
        wait(self.consumer.stop())


class Worker:
    """A transactional producer and a member of a group."""

    def __init__(self, bootstrap, name, group, topic):
        async def build():
            producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=name)
            await producer.start()
            return producer

        self.topic, self.group = topic, group
        self.producer = wait(build())
        self.member = Member(bootstrap, group, [topic])

    def take(self, count, seconds):
        self.member.starting.result(WAIT)
        polled = self.member.consumer.getmany(timeout_ms=int(seconds * 1000), max_records=count)
        return to_records(wait(polled))

    def begin(self):
        wait(self.producer.begin_transaction())

    def send(self, topic, records):
        async def run():
            sent = [await self.producer.send(topic, r.value, r.key, r.partition) for r in records]
            for future in sent:
                await future

        wait(run())

    def offsets(self, records):
        places = {TopicPartition(self.topic, p): o for p, o in positions(records).items()}
        # It takes a group's name alone: who the member is stays unsaid.
        wait(self.producer.send_offsets_to_transaction(places, self.group))

    def commit(self):
        wait(self.producer.commit_transaction())

    def abort(self, records):
        wait(self.producer.abort_transaction())
        for partition, offset in starts(records).items():
            self.member.consumer.seek(TopicPartition(self.topic, partition), offset)

    def close(self):
        self.member.starting.result(WAIT)
        self.member.close()
        wait(self.producer.stop())


class Client:
    version = version("aiokafka")
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    null_headers = True

    def __init__(self, bootstrap, replicas):
        self.bootstrap = bootstrap
        self.replicas = replicas

    def create_topic(self, topic, partitions):
        async def create():
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await admin.start()
            try:
                answer = await admin.create_topics([NewTopic(topic, partitions, self.replicas)])
                failed = [row for row in answer.topic_errors if row[1]]
                if failed:
                    raise RuntimeError(f"create topic: {failed}")
            finally:
                await admin.close()

        wait(create())

    def produce(self, topic, records, codec=None):
        async def send():
            producer = AIOKafkaProducer(
                bootstrap_servers=self.bootstrap,
                linger_ms=5,
                enable_idempotence=True,
                compression_type=None if codec in (None, "none") else codec,
            )
            await producer.start()
            try:
                sent = [
                    await producer.send(topic, r.value, r.key, r.partition, r.timestamp, r.headers)
                    for r in records
                ]
                await producer.flush()
                for future in sent:
                    await future
            finally:
                await producer.stop()

        wait(send(), WAIT + len(records) / 500)

    def worker(self, name, group, topic):
        return Worker(self.bootstrap, name, group, topic)

    def committed(self, group, topic, partitions):
        async def find():
            consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False)
            await consumer.start()
            try:
                return {p: await consumer.committed(TopicPartition(topic, p)) for p in partitions}
            finally:
                await consumer.stop()

        return wait(find())

    def read(self, topic, begins, count, seconds, committed=False):
        async def fetch():
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.bootstrap,
                enable_auto_commit=False,
                isolation_level="read_committed" if committed else "read_uncommitted",
            )
            await consumer.start()
            try:
                consumer.assign([TopicPartition(topic, p) for p in begins])
                for partition, offset in begins.items():
                    consumer.seek(TopicPartition(topic, partition), offset)
                records, end = [], time.monotonic() + seconds
                while len(records) < count and time.monotonic() < end:
                    records.extend(to_records(await consumer.getmany(timeout_ms=100)))
                return records
            finally:
                await consumer.stop()

        return wait(fetch(), seconds + WAIT)

    def member(self, group, topics):
        return Member(self.bootstrap, group, topics)

    def offset_for_time(self, topic, partition, timestamp):
        async def find():
            consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
            await consumer.start()
            try:
                where = TopicPartition(topic, partition)
                return (await consumer.offsets_for_times({where: timestamp}))[where]
            finally:
                await consumer.stop()

        found = wait(find())
        return None if found is None else found.offset

    def close(self):
        LOOP.call_soon_threadsafe(LOOP.stop)


main(Client)
