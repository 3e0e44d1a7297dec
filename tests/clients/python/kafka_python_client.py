"""kafka-python."""

import time
from importlib.metadata import version

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from contract import WAIT, Record, main


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

    def read(self, topic, starts, count, seconds):
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)
        consumer.assign([TopicPartition(topic, p) for p in starts])
        for partition, offset in starts.items():
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
