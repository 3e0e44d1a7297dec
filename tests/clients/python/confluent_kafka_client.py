"""confluent-kafka (librdkafka)."""

import time
from importlib.metadata import version

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition, libversion
from confluent_kafka.admin import AdminClient, NewTopic

from contract import WAIT, Record, main


def to_record(message):
    if message.error():
        raise KafkaException(message.error())
    return Record(
        message.value(),
        message.key(),
        message.headers() or [],
        message.partition(),
        message.timestamp()[1],
        message.offset(),
    )


class Member:
    def __init__(self, bootstrap, group, topics):
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 10000,
                "heartbeat.interval.ms": 500,
            }
        )
        self.consumer.subscribe(topics)

    def poll(self, seconds):
        return [to_record(m) for m in self.consumer.consume(10000, seconds)]

    def assignment(self):
        return {p.partition for p in self.consumer.assignment()}

    def commit(self):
        self.consumer.commit(asynchronous=False)

    def close(self):
        self.consumer.close()


class Client:
    version = f"{version('confluent-kafka')}, librdkafka {libversion()[0]}"
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    null_headers = True

    def __init__(self, bootstrap, replicas):
        self.bootstrap = bootstrap
        self.replicas = replicas
        self.admin = AdminClient({"bootstrap.servers": bootstrap})

    def create_topic(self, topic, partitions):
        new = NewTopic(topic, num_partitions=partitions, replication_factor=self.replicas)
        self.admin.create_topics([new])[topic].result()

    def produce(self, topic, records, codec=None):
        failed = []
        config = {"bootstrap.servers": self.bootstrap, "linger.ms": 5, "enable.idempotence": True}
        config["compression.type"] = codec or "none"
        producer = Producer(config)
        for record in records:
            stamp = {} if record.timestamp is None else {"timestamp": record.timestamp}
            while True:
                try:
                    producer.produce(
                        topic,
                        record.value,
                        record.key,
                        record.partition,
                        headers=record.headers,
                        on_delivery=lambda error, _: failed.append(error) if error else None,
                        **stamp,
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
        left = producer.flush(WAIT)
        if failed or left:
            raise KafkaException(failed[0] if failed else f"{left} records not sent")

    def read(self, topic, starts, count, seconds):
        config = {"bootstrap.servers": self.bootstrap, "group.id": "unused", "enable.auto.commit": False}
        consumer = Consumer(config)
        consumer.assign([TopicPartition(topic, p, offset) for p, offset in starts.items()])
        records, end = [], time.monotonic() + seconds
        while len(records) < count and time.monotonic() < end:
            records.extend(to_record(m) for m in consumer.consume(10000, 0.1))
        consumer.close()
        return records

    def member(self, group, topics):
        return Member(self.bootstrap, group, topics)

    def offset_for_time(self, topic, partition, timestamp):
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "unused"})
        found = consumer.offsets_for_times([TopicPartition(topic, partition, timestamp)], WAIT)[0]
        consumer.close()
        if found.error:
            raise KafkaException(found.error)
        return found.offset if found.offset >= 0 else None

    def close(self):
        pass


main(Client)
