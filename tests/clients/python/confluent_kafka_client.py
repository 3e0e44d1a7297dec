"""confluent-kafka (librdkafka)."""

import time
from importlib.metadata import version

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition, libversion
from confluent_kafka.admin import AdminClient, NewTopic

from contract import WAIT, Record, main, positions, starts


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


# A connection that is reset at times is made again at once; the library would soon wait as long as a session lasts.
AGAIN = {"reconnect.backoff.max.ms": 200}


class Member:
    def __init__(self, bootstrap, group, topics, protocol="classic"):
        config = {"bootstrap.servers": bootstrap, "group.id": group, "group.protocol": protocol, **AGAIN}
        config |= {"auto.offset.reset": "earliest", "enable.auto.commit": False}
        if protocol == "classic":
            config |= {"session.timeout.ms": 10000, "heartbeat.interval.ms": 500}
        self.consumer = Consumer(config)
        self.consumer.subscribe(topics)

    def poll(self, seconds):
        return [to_record(m) for m in self.consumer.consume(10000, seconds)]

    def assignment(self):
        return {p.partition for p in self.consumer.assignment()}

    def commit(self):
        self.consumer.commit(asynchronous=False)

    def close(self):
        self.consumer.close()


class Worker:
    """A transactional producer and a member of a group."""

    def __init__(self, bootstrap, name, group, topic):
        self.topic = topic
        self.producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": name, **AGAIN})
        self.producer.init_transactions(WAIT)
        self.consumer = Member(bootstrap, group, [topic]).consumer

    def take(self, count, seconds):
        return [to_record(m) for m in self.consumer.consume(count, seconds)]

    def begin(self):
        self.producer.begin_transaction()

    def send(self, topic, records):
        for record in records:
            self.producer.produce(topic, record.value, record.key, record.partition)
        self.producer.flush(WAIT)

    def offsets(self, records):
        places = [TopicPartition(self.topic, p, o) for p, o in positions(records).items()]
        self.producer.send_offsets_to_transaction(places, self.consumer.consumer_group_metadata(), WAIT)

    def commit(self):
        self.producer.commit_transaction(WAIT)

    def abort(self, records):
        self.producer.abort_transaction(WAIT)
        for partition, offset in starts(records).items():
            self.consumer.seek(TopicPartition(self.topic, partition, offset))

    def close(self):
        self.consumer.close()


class Client:
    version = f"{version('confluent-kafka')}, librdkafka {libversion()[0]}"
    codecs = ["none", "gzip", "snappy", "lz4", "zstd"]
    null_headers = True
    consumer_protocol = {"protocol": "consumer"}

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

    def worker(self, name, group, topic):
        return Worker(self.bootstrap, name, group, topic)

    def committed(self, group, topic, partitions):
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": group})
        found = consumer.committed([TopicPartition(topic, p) for p in partitions], WAIT)
        consumer.close()
        return {place.partition: place.offset for place in found}

    def read(self, topic, begins, count, seconds, committed=False):
        config = {"bootstrap.servers": self.bootstrap, "group.id": "unused", "enable.auto.commit": False}
        config["isolation.level"] = "read_committed" if committed else "read_uncommitted"
        consumer = Consumer(config)
        consumer.assign([TopicPartition(topic, p, offset) for p, offset in begins.items()])
        records, end = [], time.monotonic() + seconds
        while len(records) < count and time.monotonic() < end:
            records.extend(to_record(m) for m in consumer.consume(10000, 0.1))
        consumer.close()
        return records

    def member(self, group, topics, **options):
        return Member(self.bootstrap, group, topics, **options)

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
