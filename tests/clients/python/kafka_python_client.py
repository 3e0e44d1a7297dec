"""kafka-python."""

import time
from importlib.metadata import version

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.structs import OffsetAndMetadata

from contract import WAIT, Record, main, positions, starts


def to_records(polled):
    return [
        Record(m.value, m.key, list(m.headers), m.partition, m.timestamp, m.offset)
        for messages in polled.values()
        for m in messages
    ]


class Member:
    def __init__(self, bootstrap, group, topics):
        self.consumer = KafkaConsumer(
            *topics,
            bootstrap_servers=bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=10000,
            heartbeat_interval_ms=500,
        )
        # A poll of kafka-python 3.0.12 that ends between JoinGroup and SyncGroup forgets to take its assignment and to
        # go on with heartbeats, if it joined again because it learned of the topic after its first join. So the topic
        # is known before.
        for topic in topics:
            self.consumer.partitions_for_topic(topic)

    def poll(self, seconds):
        return to_records(self.consumer.poll(timeout_ms=int(seconds * 1000)))

    def assignment(self):
        return {p.partition for p in self.consumer.assignment()}

    def commit(self):
        self.consumer.commit()

    def close(self):
        self.consumer.close()


class Worker:
    """A transactional producer and a member of a group."""

    def __init__(self, bootstrap, name, group, topic):
        self.topic = topic
        self.producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=name)
        self.producer.init_transactions()
        self.consumer = Member(bootstrap, group, [topic]).consumer

    def take(self, count, seconds):
        return to_records(self.consumer.poll(timeout_ms=int(seconds * 1000), max_records=count))

    def begin(self):
        self.producer.begin_transaction()

    def send(self, topic, records):
        sent = [self.producer.send(topic, r.value, r.key, r.headers, r.partition) for r in records]
        for future in sent:
            future.get(WAIT)

    def offsets(self, records):
        places = {TopicPartition(self.topic, p): OffsetAndMetadata(o, "", -1) for p, o in positions(records).items()}
        self.producer.send_offsets_to_transaction(places, self.consumer.group_metadata())

    def commit(self):
        self.producer.commit_transaction()

    def abort(self, records):
        self.producer.abort_transaction()
        for partition, offset in starts(records).items():
            self.consumer.seek(TopicPartition(self.topic, partition), offset)

    def close(self):
        self.producer.close()
        self.consumer.close()


class Client:
    version = version("kafka-python")
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    null_headers = False  # it refuses them when sending

    def __init__(self, bootstrap, replicas):
        self.bootstrap = bootstrap
        self.replicas = replicas
        self.admin = KafkaAdminClient(bootstrap_servers=bootstrap)

    def create_topic(self, topic, partitions):
        self.admin.create_topics([NewTopic(topic, partitions, self.replicas)])

    def produce(self, topic, records, codec=None):
        producer = KafkaProducer(
            bootstrap_servers=self.bootstrap,
            linger_ms=5,
            enable_idempotence=True,
            compression_type=None if codec in (None, "none") else codec,
        )
        sent = [
            producer.send(topic, r.value, r.key, r.headers, r.partition, r.timestamp) for r in records
        ]
        producer.flush(WAIT)
        for future in sent:
            future.get(WAIT)
        producer.close()

    def worker(self, name, group, topic):
        return Worker(self.bootstrap, name, group, topic)

    def committed(self, group, topic, partitions):
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False)
        found = {p: consumer.committed(TopicPartition(topic, p)) for p in partitions}
        consumer.close()
        return found

    def read(self, topic, begins, count, seconds, committed=False):
        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            enable_auto_commit=False,
            isolation_level="read_committed" if committed else "read_uncommitted",
        )
        consumer.assign([TopicPartition(topic, p) for p in begins])
        for partition, offset in begins.items():
            consumer.seek(TopicPartition(topic, partition), offset)
        records, end = [], time.monotonic() + seconds
        while len(records) < count and time.monotonic() < end:
            records.extend(to_records(consumer.poll(timeout_ms=100)))
        consumer.close()
        return records

    def member(self, group, topics):
        return Member(self.bootstrap, group, topics)

    def offset_for_time(self, topic, partition, timestamp):
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap)
        where = TopicPartition(topic, partition)
        found = consumer.offsets_for_times({where: timestamp})[where]
        consumer.close()
        return None if found is None else found.offset

    def close(self):
        self.admin.close()


main(Client)
