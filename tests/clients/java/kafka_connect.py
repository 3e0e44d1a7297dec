"""Kafka Connect in its distributed mode: two workers, of which the one that works is killed in each check."""

import argparse
import ctypes
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from java_tools import HERE, Tools, arguments, expect, run_named, wait_for

WORKER = "org.apache.kafka.connect.cli.ConnectDistributed"
STRINGS = "org.apache.kafka.connect.storage.StringConverter"
BYTES = "org.apache.kafka.connect.converters.ByteArrayConverter"


def dies_with_us():
    """A worker ends when this program is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Worker:
    def __init__(self, args, directory):
        self.port = free_port()
        self.log = os.path.join(directory, f"worker-{self.port}.log")
        config = {
            "bootstrap.servers": args.bootstrap,
            "group.id": f"{args.topic_prefix}-workers",
            "listeners": f"http://127.0.0.1:{self.port}",
            "key.converter": STRINGS,
            "value.converter": STRINGS,
            "exactly.once.source.support": "enabled",
            "offset.flush.interval.ms": "500",
            "session.timeout.ms": "6000",
            "heartbeat.interval.ms": "500",
            # A coordinator that takes over waits a whole session for those who died before.
            "consumer.session.timeout.ms": "6000",
            "consumer.heartbeat.interval.ms": "500",
            "plugin.discovery": "service_load",
            # Nobody waits minutes for a worker that died.
            "scheduled.rebalance.max.delay.ms": "1000",
        }
        for name in ("offset", "config", "status"):
            config[f"{name}.storage.topic"] = f"{args.topic_prefix}-{name}s"
            config[f"{name}.storage.replication.factor"] = args.replicas
        for name in ("offset", "status"):
            config[f"{name}.storage.partitions"] = "5"
        path = os.path.join(directory, f"worker-{self.port}.properties")
        with open(path, "w") as out:
            out.writelines(f"{key}={value}\n" for key, value in config.items())
        log4j = os.path.join(HERE, "log4j2.properties")
        self.command = ["java", f"-Dlog4j2.configurationFile={log4j}", "-Xmx512m", "-XX:+UseSerialGC"]
        self.command += ["-cp", os.path.join(args.connect_jars, "*"), WORKER, path]
        self.start()

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=dies_with_us
            )

    def kill(self):
        self.process.kill()
        self.process.wait()

    def ask(self, method, path, body=None):
        """Its answer; None while it starts or moves its work."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or "{}")
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")
            if error.code in (404, 409, 500, 503):
                return None
            raise RuntimeError(f"{method} {path}: {error.code} {said[:600]}") from None
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def tail(self):
        with open(self.log) as log:
            return "".join(log.readlines()[-12:])


class Connect:
    def __init__(self, args):
        self.args = args
        self.tools = Tools(args)
        self.directory = tempfile.mkdtemp()
        self.workers = [Worker(args, self.directory) for _ in range(2)]

    def file(self, name):
        return os.path.join(self.directory, name)

    def until(self, done, what):
        try:
            wait_for(done, what, patience=180)
        except Exception:
            for worker in self.workers:
                print(f"-- {worker.port}\n{worker.tail()}", file=sys.stderr)
            raise

    def ask(self, method, path, body=None):
        for worker in self.workers:
            answer = worker.ask(method, path, body)
            if answer is not None:
                return answer
        return None

    def create(self, name, config):
        path = f"/connectors/{name}/config"
        self.until(lambda: self.ask("PUT", path, {"name": name, **config}) is not None, f"{name} is created")
        self.until(lambda: self.owner(name), f"{name} runs")

    def owner(self, name):
        """The worker whose task runs."""
        status = self.ask("GET", f"/connectors/{name}/status") or {}
        for task in status.get("tasks", []):
            expect(task["state"] != "FAILED", f"{name}: {task.get('trace', '')[:800]}")
            if task["state"] == "RUNNING":
                port = int(task["worker_id"].rsplit(":", 1)[1])
                return next(worker for worker in self.workers if worker.port == port)
        return None

    def kill_owner(self, name):
        workers = []
        self.until(lambda: workers.append(self.owner(name)) or workers[-1], f"{name} runs")
        workers[-1].kill()
        workers[-1].start()

    def close(self):
        for worker in self.workers:
            worker.kill()
        shutil.rmtree(self.directory)


def committed(tools, topic):
    """The topic's lines by partition, of committed transactions alone, to its end."""
    command = ["kcat", "-C", "-b", tools.args.bootstrap, "-t", topic, "-o", "beginning", "-e", "-q"]
    command += ["-X", "isolation.level=read_committed", "-f", "%p\t%s\n"]
    lines = {}
    for line in retried(lambda: kcat(command)).splitlines():
        partition, _, value = line.partition("\t")
        lines.setdefault(int(partition), []).append(value)
    return lines


def kcat(command):
    done = subprocess.run(command, capture_output=True, timeout=300, text=True)
    expect(done.returncode == 0, f"kcat: {done.stderr[-600:]}")
    return done.stdout


def retried(ask):
    """A tool gives up where it meets a broker that dies, and is then asked again."""
    for left in reversed(range(10)):
        try:
            return ask()
        except Exception:
            if left == 0:
                raise
            time.sleep(1)


def append(path, first, count, pause):
    with open(path, "a") as out:
        for index in range(first, first + count):
            out.write(f"line {index}\n")
            if index % 50 == 0:
                out.flush()
                time.sleep(50 * pause)


def files(connect, topic):
    """A file to a topic, each line once, and to a file; the worker of each is killed while lines come."""
    source, sink, count = connect.file("source"), connect.file("sink"), 3000
    pause = connect.args.pause_ms / 1000
    open(source, "w").close()
    connect.tools.create(topic)
    reading = {"connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector", "file": source}
    connect.create(topic + "-source", {**reading, "topic": topic, "tasks.max": "1", "exactly.once.support": "required"})
    writing = {"connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector", "file": sink}
    connect.create(topic + "-sink", {**writing, "topics": topic, "tasks.max": "1"})
    for part in range(3):
        writer = threading.Thread(target=append, args=(source, part * count // 3, count // 3, pause))
        writer.start()
        if part < 2:
            connect.kill_owner(topic + ("-source" if part == 0 else "-sink"))
            for name in ("-source", "-sink"):
                connect.until(lambda: connect.owner(topic + name), f"{topic}{name} runs again")
        writer.join()
    wanted = [f"line {index}" for index in range(count)]

    def arrived():
        if not os.path.exists(sink):
            return []
        with open(sink) as lines:
            # A sink that was killed writes again what it had not committed.
            return list(dict.fromkeys(lines.read().splitlines()))

    connect.until(lambda: len(arrived()) >= count, f"{count} lines in the sink")
    expect(arrived() == wanted, "the sink's lines are not the source's, or not in order")
    found = committed(connect.tools, topic)
    expect(found == {0: wanted}, f"{[len(lines) for lines in found.values()]} lines in the topic, not {count} in order")


def mirror(connect, topic):
    """MirrorMaker 2 from Apache Kafka to here: each record once, and the groups' offsets."""
    copy(connect, topic, "apache", connect.args.source, 1)


def mirror_ours(connect, topic):
    """The same from a cluster of Plimsoll."""
    copy(connect, topic, "ours", connect.args.source_ours, connect.args.source_replicas)


def copy(connect, topic, alias, source, source_replicas):
    theirs = Tools(argparse.Namespace(**{**vars(connect.args), "bootstrap": source}))
    count, group, here = 3000, topic + "-group", f"{alias}.{topic}"
    theirs.create(topic, 3)
    theirs.produce(topic, [f"line {index}" for index in range(count // 2)])
    theirs.consume(topic, count // 2, "--group", group)
    start_mirror(connect, topic, alias, source, source_replicas)
    copied = lambda: sum(map(len, committed(connect.tools, here).values()))  # noqa: E731
    connect.kill_owner(topic)
    theirs.produce(topic, [f"line {index}" for index in range(count // 2, count)])
    connect.until(lambda: connect.owner(topic), "the copy goes on")
    connect.until(lambda: copied() >= count, f"{count} records copied")
    found, there = committed(connect.tools, here), committed(theirs, topic)
    expect(sum(map(len, there.values())) == count and found == there, f"{ {p: len(v) for p, v in found.items()} } copied")
    command = ["consumer.group.ConsumerGroupCommand", "--describe", "--group", group, "--offsets"]
    rows = []

    def offsets():
        said = [line.split() for line in retried(lambda: connect.tools.run(*command)).splitlines()]
        rows[:] = [(int(row[3]), int(row[4])) for row in said if row[1:2] == [here] and row[3] != "-"]
        return any(offset > 0 for offset, _ in rows)

    connect.until(offsets, "the group's offsets are here")
    expect(all(offset <= end for offset, end in rows), f"the group is beyond the end: {rows}")


def start_mirror(connect, topic, alias, source, source_replicas):
    common = {
        "source.cluster.alias": alias,
        "target.cluster.alias": "here",
        "source.cluster.bootstrap.servers": source,
        "target.cluster.bootstrap.servers": connect.args.bootstrap,
        "source.consumer.isolation.level": "read_committed",
        "key.converter": BYTES,
        "value.converter": BYTES,
        "topics": topic,
        "groups": topic + "-group",
        "tasks.max": "1",
        "offset-syncs.topic.replication.factor": str(source_replicas),
        "offset.lag.max": "0",
    }
    package, replicas = "org.apache.kafka.connect.mirror.Mirror", str(connect.args.replicas)
    copying = {"replication.factor": replicas, "refresh.topics.interval.seconds": "5"}
    copying |= {"sync.topic.acls.enabled": "false", "exactly.once.support": "required"}
    points = {"sync.group.offsets.enabled": "true", "emit.checkpoints.interval.seconds": "2"}
    points |= {"sync.group.offsets.interval.seconds": "2", "refresh.groups.interval.seconds": "5"}
    points |= {"checkpoints.topic.replication.factor": replicas}
    connect.create(topic, {"connector.class": package + "SourceConnector", **common, **copying})
    connect.create(topic + "-points", {"connector.class": package + "CheckpointConnector", **common, **points})


CHECKS = {"files": files, "mirror": mirror, "mirror-ours": mirror_ours}


def main():
    parser = arguments()
    parser.add_argument("--source", required=True, help="Apache Kafka, to copy from")
    parser.add_argument("--source-ours", required=True, help="a cluster of Plimsoll, to copy from")
    parser.add_argument("--source-replicas", type=int, default=1, help="of its topics")
    parser.add_argument("--pause-ms", type=int, default=1, help="after each line, where brokers die meanwhile")
    parser.add_argument("--jars", required=True)
    parser.add_argument("--connect-jars", required=True)
    args = parser.parse_args()
    jar = os.path.basename(glob.glob(os.path.join(args.connect_jars, "connect-runtime-*.jar"))[0])
    version = jar.removeprefix("connect-runtime-").removesuffix(".jar")
    connect = Connect(args)
    try:
        status = run_named(version, args, CHECKS, lambda check, topic: check(connect, topic))
    finally:
        connect.close()
    sys.exit(status)


if __name__ == "__main__":
    main()
