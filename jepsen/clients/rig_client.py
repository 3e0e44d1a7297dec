"""The rig's clients by librdkafka: idempotent producers and assigned readers.

Writes the history as JSON lines; the line "final" on its input ends the work and begins the final read.
Arguments: bootstrap, topic, keys, first process, workers, pause in milliseconds.
"""

import itertools
import json
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

COUNT_BITS = 20
LIFE = 15.0
BOOTSTRAP, TOPIC = sys.argv[1], sys.argv[2]
KEYS, FIRST, WORKERS, PAUSE = (int(arg) for arg in sys.argv[3:7])
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


def consumer():
    reader = Consumer(
        COMMON
        | {
            "group.id": "rig-librdkafka",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
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
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            broken(process, error)
    if records:
        say(f="poll", start=start, time=time.monotonic_ns(), process=process, records=records)


def read():
    while working.is_set():
        process, born, reader = next(numbers), time.monotonic(), consumer()
        say(f="assign", time=time.monotonic_ns(), process=process)
        while working.is_set() and time.monotonic() - born < 4 * LIFE:
            poll(process, reader, {})
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
    reached = set()
    while len(reached) < KEYS and time.monotonic() < end:
        poll(process, reader, positions)
        reached = {key for key, last in ends.items() if positions.get(key, 0) >= last}
    for key in range(KEYS):
        at = {"time": time.monotonic_ns(), "process": process, "key": key, "high_watermark": ends.get(key, -1)}
        say(f="end", **at, reached=key in reached)
    reader.close()


def main():
    threads = [threading.Thread(target=produce) for _ in range(WORKERS)] + [threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for line in sys.stdin:
        if line.strip() == "final":
            break
    working.clear()
    for thread in threads:
        thread.join()
    final_read()


main()
