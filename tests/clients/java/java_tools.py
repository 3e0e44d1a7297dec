"""Kafka's own command line tools: each tool is a check, driven as a user would."""

import glob
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))

from contract import Skipped, arguments, expect, run_named  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
WAIT = 120
TOOLS = "org.apache.kafka.tools."
# A small tool spends most of its time starting: these halve it.
QUICK = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]


class Tools:
    def __init__(self, args):
        self.args = args
        log4j = os.path.join(HERE, "log4j2.properties")
        self.java = ["java", f"-Dlog4j2.configurationFile={log4j}", "-Xmx512m"]
        self.java += [*QUICK, "-cp", os.path.join(args.jars, "*")]

    def topic(self, name):
        return f"{self.args.topic_prefix}-{name}"

    def command(self, name, *options):
        name = name if name.startswith("kafka.") else TOOLS + name
        return [*self.java, name, "--bootstrap-server", self.args.bootstrap, *options]

    def run(self, name, *options, data=None, fails=False):
        done = subprocess.run(self.command(name, *options), input=data, capture_output=True, timeout=WAIT)
        text = done.stdout.decode(errors="replace")
        errors = done.stderr.decode(errors="replace")
        if (done.returncode != 0) != fails:
            raise RuntimeError(f"{name} {' '.join(options)}: status {done.returncode}: {(text + errors)[-600:]}")
        return text + errors if fails else text

    def start(self, name, *options):
        """Runs on while its events, a line of JSON each, gather in `events`."""
        process = subprocess.Popen(
            self.command(name, *options), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        events = []

        def gather():
            for line in process.stdout:
                # A virtual machine says its own warnings here, too.
                if line.startswith("{"):
                    events.append(json.loads(line))

        threading.Thread(target=gather, daemon=True).start()
        return process, events

    def create(self, topic, partitions=1, *options):
        self.run("TopicCommand", "--create", "--topic", topic, "--partitions", str(partitions), *options)

    def produce(self, topic, lines, *options):
        self.run("ConsoleProducer", "--topic", topic, *options, data=("\n".join(lines) + "\n").encode())

    def consume(self, topic, count, *options):
        where = [] if "--partition" in options else ["--from-beginning"]
        options = [*where, "--max-messages", str(count), "--timeout-ms", "30000", *options]
        return self.run("consumer.ConsoleConsumer", "--topic", topic, *options).splitlines()


def console(tools, topic):
    """Auto-creation, lines there and back in order."""
    lines = [f"line {i} äöü" for i in range(1000)]
    tools.produce(topic, lines)
    got = tools.consume(topic, 1000)
    expect(got == lines, f"{len(got)} lines back, or not the same")


def console_records(tools, topic):
    """Keys, nulls and headers, a header name twice."""
    tools.create(topic)
    options = ["parse.key=true", "parse.headers=true", "null.marker=NULL"]
    lines = ["a:1,a:2,b:x\tkey\tvalue", "a:1\tkey\tNULL", "a:1\tNULL\tvalue"]
    tools.produce(topic, lines, *[part for o in options for part in ("--reader-property", o)])
    options = ["print.key=true", "print.headers=true", "print.offset=true", "null.literal=NULL"]
    got = tools.consume(topic, 3, *[part for o in options for part in ("--formatter-property", o)])
    wanted = [f"Offset:{i}\t{line}" for i, line in enumerate(lines)]
    expect(got == wanted, f"{got}")


def console_assign(tools, topic):
    tools.create(topic, 2)
    tools.produce(topic, [f"line {i}" for i in range(100)], "--producer-property", "partitioner.ignore.keys=true")
    lines = tools.run("GetOffsetShell", "--topic", topic).split()
    ends = {int(p): int(o) for _, p, o in (line.rsplit(":", 2) for line in lines)}
    expect(sum(ends.values()) == 100, f"end offsets {ends}")
    full = max(ends, key=ends.get)
    start = ends[full] // 2
    got = tools.consume(topic, ends[full] - start, "--partition", str(full), "--offset", str(start))
    expect(len(got) == ends[full] - start, f"{len(got)} lines from offset {start} of {ends[full]}")


def console_codecs(tools, topic):
    tools.create(topic)
    sent = []
    for codec in ["gzip", "snappy", "lz4", "zstd"]:
        lines = [f"{codec} line {i} of a compressible kind" for i in range(200)]
        tools.produce(topic, lines, "--compression-codec", codec)
        sent += lines
    expect(tools.consume(topic, len(sent)) == sent, "lines differ")


def perf(tools, topic):
    """kafka-producer-perf-test and kafka-consumer-perf-test."""
    count = str(tools.args.records)
    tools.create(topic, 3)
    options = ["--topic", topic, "--num-records", count, "--throughput", "-1"]
    said = tools.run("ProducerPerformance", *options, "--record-size", "1000", "--command-property", "acks=all")
    expect(f"{count} records sent" in said, said[-200:])
    said = tools.run("ConsumerPerformance", "--topic", topic, "--num-records", count, "--timeout", "60000")
    row = said.splitlines()[-1].split(", ")
    expect(int(row[4]) >= tools.args.records, said[-200:])


def verifiable(tools, topic):
    """VerifiableProducer, and two VerifiableConsumers that share a group."""
    tools.create(topic, 4)
    count = 2000
    group = ["--topic", topic, "--group-id", topic, "--session-timeout", "10000"]
    started = [tools.start("VerifiableConsumer", *group, "--reset-policy", "earliest") for _ in range(2)]
    events = [rows for _, rows in started]
    try:
        shared = "two partitions each"
        wait_for(lambda: [assigned(rows) for rows in events] == [2, 2], shared, lambda: story(tools, topic, events))
        options = ["--topic", topic, "--max-messages", str(count), "--acks", "-1"]
        said = tools.run("VerifiableProducer", *options, "--throughput", "-1")
        sent = [json.loads(line) for line in said.splitlines()]
        acked = [row for row in sent if row["name"] == "producer_send_success"]
        expect(len(acked) == count, f"{len(acked)} of {count} acknowledged")
        wait_for(lambda: consumed(events) >= count, f"{count} records consumed")
        expect(consumed(events) == count, f"{consumed(events)} records consumed")
    finally:
        for process, _ in started:
            process.terminate()
        for process, _ in started:
            process.wait(WAIT)


def assigned(events):
    owned = 0
    for row in events:
        if row["name"] == "partitions_assigned":
            owned += len(row["partitions"])
        elif row["name"] in ("partitions_revoked", "partitions_lost"):
            owned -= len(row["partitions"])
    return owned


def consumed(events):
    return sum(row["count"] for rows in events for row in rows if row["name"] == "records_consumed")


def story(tools, group, events):
    """What the members and the coordinator saw."""
    described = tools.run("consumer.group.ConsumerGroupCommand", "--describe", "--group", group, "--members", "--verbose")
    return f"{[rows[-6:] for rows in events]}\n{described}"


def wait_for(done, what, story=lambda: "", patience=60):
    end = time.monotonic() + patience
    while not done():
        if time.monotonic() > end:
            expect(False, f"not within {patience} s: {what} {story()}")
        time.sleep(0.05)


def client_compatibility(tools, topic):
    tools.run("TopicCommand", "--delete", "--topic", "newtopic", "--if-exists")
    tools.create(topic)
    # The test fails unless it is told whether the broker has ACLs.
    acls = "DescribeAcls(29): UNSUPPORTED" not in tools.run("BrokerApiVersionsCommand")
    options = ["--topic", topic, "--num-cluster-nodes", str(tools.args.replicas), "--create-topics-supported", "True"]
    options += ["--describe-acls-supported", str(acls), "--offsets-for-times-supported", "True"]
    options += ["--cluster-id-supported", "True", "--expect-record-too-large-exception", "False"]
    options += ["--describe-configs-supported", "True", "--idempotent-producer-supported", "True"]
    said = tools.run("ClientCompatibilityTest", *options)
    expect("SUCCESS" in said, said[-400:])


def topics(tools, topic):
    tools.create(topic, 2, "--config", "retention.ms=3600000")
    expect(topic in tools.run("TopicCommand", "--list").split(), "not listed")
    said = tools.run("TopicCommand", "--describe", "--topic", topic)
    expect("PartitionCount: 2" in said and "retention.ms=3600000" in said, said)
    tools.run("TopicCommand", "--alter", "--topic", topic, "--partitions", "5")
    said = tools.run("TopicCommand", "--describe", "--topic", topic)
    expect("PartitionCount: 5" in said and len(re.findall(r"Leader: \d", said)) == 5, said)
    said = tools.run("TopicCommand", "--create", "--topic", topic, fails=True)
    expect("already exists" in said, said)
    tools.run("TopicCommand", "--delete", "--topic", topic)
    expect(topic not in tools.run("TopicCommand", "--list").split(), "still listed")


def configs(tools, topic):
    tools.create(topic)
    where = ["--entity-type", "topics", "--entity-name", topic]
    config = "kafka.admin.ConfigCommand"
    tools.run(config, *where, "--alter", "--add-config", "retention.ms=1000,cleanup.policy=[compact,delete]")
    said = tools.run(config, *where, "--describe")
    expect("retention.ms=1000" in said and "cleanup.policy=compact,delete" in said, said)
    tools.run(config, *where, "--alter", "--delete-config", "retention.ms")
    said = tools.run(config, *where, "--describe")
    expect("retention.ms" not in said, said)
    said = tools.run(config, *where, "--describe", "--all")
    expect("retention.ms=604800000" in said and "min.insync.replicas=" in said, said[:600])
    said = tools.run(config, *where, "--alter", "--add-config", "no.such.key=1", fails=True)
    expect("no.such.key" in said, said)
    said = tools.run(config, "--entity-type", "brokers", "--entity-name", "1", "--describe", "--all")
    expect("log.retention.hours=" in said and "num.partitions=" in said, said[:600])


def consumer_groups(tools, topic):
    group = topic + "-group"
    tools.create(topic)
    tools.produce(topic, [f"line {i}" for i in range(50)])
    got = tools.consume(topic, 50, "--group", group)
    expect(len(got) == 50, f"{len(got)} lines")
    command = "consumer.group.ConsumerGroupCommand"
    expect(group in tools.run(command, "--list").split(), "not listed")

    def row():
        said = tools.run(command, "--describe", "--group", group)
        rows = [line.split() for line in said.splitlines() if line.split()[1:2] == [topic]]
        expect(len(rows) == 1, said)
        return rows[0][3:6]

    expect(row() == ["50", "50", "0"], f"offset, end, lag: {row()}")
    reset = [command, "--group", group, "--topic", topic, "--reset-offsets", "--execute"]
    tools.run(*reset, "--to-offset", "20")
    expect(row() == ["20", "50", "30"], f"after a reset: {row()}")
    tools.run(*reset, "--to-datetime", "2000-01-01T00:00:00.000")
    expect(row() == ["0", "50", "50"], f"after a reset by time: {row()}")
    said = tools.run(command, "--describe", "--group", group, "--state")
    expect("Empty" in said, said)
    tools.run(command, "--delete-offsets", "--group", group, "--topic", topic)
    tools.run(command, "--delete", "--group", group)
    expect(group not in tools.run(command, "--list").split(), "still listed")


def transactions(tools, topic):
    """kafka-transactions: what is open, what ended, nothing hangs; one is ended by force."""
    tools.create(topic, 2)
    command = "TransactionsCommand"

    def rows(*options):
        lines = tools.run(command, *options).splitlines()
        head = lines[0].split() if lines else []
        return [dict(zip(head, line.split())) for line in lines[1:]]

    def state(name):
        return {row["TransactionalId"]: row["TransactionState"] for row in rows("list")}.get(name)

    load = ["--topic", topic, "--record-size", "100", "--transactional-id"]
    ended = [topic + "-ended", "--transaction-duration-ms", "100", "--throughput", "500", "--num-records", "300"]
    tools.run("ProducerPerformance", *load, *ended)
    wait_for(lambda: state(topic + "-ended") == "CompleteCommit", "the transaction is complete")
    open_for = ["--transaction-duration-ms", "50000", "--throughput", "50", "--num-records", "100000"]
    process, _ = tools.start("ProducerPerformance", *load, topic + "-open", *open_for)
    try:
        wait_for(lambda: state(topic + "-open") == "Ongoing", "the transaction is open")
        found = rows("describe", "--transactional-id", topic + "-open")[0]
        expect(found["TransactionState"] == "Ongoing" and topic + "-" in str(found), found)
        producers = rows("describe-producers", "--topic", topic, "--partition", "0")
        producers += rows("describe-producers", "--topic", topic, "--partition", "1")
        mine = [row for row in producers if row["ProducerId"] == found["ProducerId"]]
        expect(any(row["CurrentTransactionStartOffset"] != "None" for row in mine), producers)
        hanging = rows("find-hanging", "--topic", topic, "--max-transaction-timeout", "1")
        expect(hanging == [], hanging)
        tools.run(command, "forceTerminateTransaction", "--transactionalId", topic + "-open")
        # The tool asks until its own initialization is answered, and that leaves the id without a transaction.
        wait_for(lambda: state(topic + "-open") in ("CompleteAbort", "Empty"), "the transaction is aborted")
    finally:
        process.kill()
        process.wait()


def groups(tools, topic):
    """kafka-groups, with a group of each protocol that there is."""
    tools.create(topic)
    tools.produce(topic, [f"line {i}" for i in range(20)])
    found = {}
    for protocol in protocols(tools):
        group = f"{topic}-{protocol}"
        options = ["--group", group, "--command-property", f"group.protocol={protocol}"]
        expect(len(tools.consume(topic, 20, *options)) == 20, f"{protocol}: lines are missing")
        found[group] = protocol.capitalize()
    lines = [line.split() for line in tools.run("GroupsCommand", "--list").splitlines()[1:]]
    listed = {line[0]: line[1] for line in lines}
    expect(found.items() <= listed.items(), f"{listed}, not {found}")
    only = tools.run("GroupsCommand", "--list", "--group-type", "classic").splitlines()[1:]
    expect([line.split()[0] for line in only if line.startswith(topic)] == [f"{topic}-classic"], only)


def protocols(tools):
    """Those of consumer groups; the newer one where the broker serves it."""
    served = tools.run("BrokerApiVersionsCommand")
    there = "ConsumerGroupHeartbeat(68): " in served and "ConsumerGroupHeartbeat(68): UNSUPPORTED" not in served
    return ["classic", "consumer"] if there else ["classic"]


def members(tools, topic):
    """VerifiableConsumers of the newer protocol share a group; kafka-consumer-groups names them."""
    if "consumer" not in protocols(tools):
        raise Skipped("the broker does not serve ConsumerGroupHeartbeat")
    tools.create(topic, 4)
    group = ["--topic", topic, "--group-id", topic, "--group-protocol", "consumer", "--reset-policy", "earliest"]
    started = [tools.start("VerifiableConsumer", *group) for _ in range(2)]
    events = [rows for _, rows in started]
    try:
        wait_for(lambda: [assigned(rows) for rows in events] == [2, 2], "two partitions each")
        tools.produce(topic, [f"line {i}" for i in range(500)])
        wait_for(lambda: consumed(events) >= 500, "500 records consumed")
        expect(consumed(events) == 500, f"{consumed(events)} records consumed")
        command = ["consumer.group.ConsumerGroupCommand", "--describe", "--group", topic]
        said = tools.run(*command, "--members", "--verbose")
        expect(len([line for line in said.splitlines() if line.startswith(topic)]) == 2, said)
        expect("Stable" in tools.run(*command, "--state"), "not stable")
    finally:
        for process, _ in started:
            process.terminate()
        for process, _ in started:
            process.wait(WAIT)


def get_offsets(tools, topic):
    tools.create(topic, 2)
    tools.produce(topic, [f"line {i}" for i in range(30)])
    latest = tools.run("GetOffsetShell", "--topic", topic).split()
    expect(sum(int(line.rsplit(":", 1)[1]) for line in latest) == 30 and len(latest) == 2, f"{latest}")
    earliest = tools.run("GetOffsetShell", "--topic", topic, "--time", "earliest").split()
    expect(sorted(earliest) == [f"{topic}:0:0", f"{topic}:1:0"], f"{earliest}")
    newest = tools.run("GetOffsetShell", "--topic", topic, "--time", "max-timestamp").split()
    ends = {line.rsplit(":", 1)[0]: int(line.rsplit(":", 1)[1]) for line in latest}
    for line in newest:
        name, offset = line.rsplit(":", 1)
        expect(-1 <= int(offset) < ends[name] or ends[name] == 0, f"max-timestamp: {newest}")


def delete_records(tools, topic):
    tools.create(topic)
    tools.produce(topic, [f"line {i}" for i in range(30)])
    path = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"{topic}.json")
    with open(path, "w") as file:
        json.dump({"partitions": [{"topic": topic, "partition": 0, "offset": 10}], "version": 1}, file)
    said = tools.run("DeleteRecordsCommand", "--offset-json-file", path)
    os.remove(path)
    expect("low_watermark: 10" in said, said)
    earliest = tools.run("GetOffsetShell", "--topic", topic, "--time", "earliest").strip()
    expect(earliest == f"{topic}:0:10", earliest)
    expect(tools.consume(topic, 20)[0] == "line 10", "the first line left is not line 10")


def log_dirs(tools, topic):
    tools.create(topic, 2)
    tools.produce(topic, ["line"] * 10)
    said = tools.run("LogDirsCommand", "--describe", "--topic-list", topic)
    found = json.loads(said[said.index("{") :])
    rows = [p for b in found["brokers"] for d in b["logDirs"] for p in d["partitions"]]
    replicas = [f"{topic}-{partition}" for partition in (0, 1) for _ in range(tools.args.replicas)]
    expect(sorted(p["partition"] for p in rows) == replicas, said)
    expect(sum(p["size"] for p in rows) > 0, said)


def cluster(tools, topic):
    """kafka-cluster: its subcommand comes first."""

    def ask(what):
        where = ["--bootstrap-server", tools.args.bootstrap]
        command = [*tools.java, TOOLS + "ClusterTool", what, *where]
        done = subprocess.run(command, capture_output=True, timeout=WAIT, text=True)
        expect(done.returncode == 0, f"{what}: {(done.stdout + done.stderr)[-600:]}")
        return done.stdout

    expect(re.search(r"Cluster ID: \S+", ask("cluster-id")), "no cluster id")
    listed = ask("list-endpoints")
    rows = [line for line in listed.splitlines() if re.match(r"\d+\s", line)]
    expect(len(rows) == tools.args.replicas, listed)


def leader_election(tools, topic):
    """Preferred leaders lead already, or are elected."""
    tools.create(topic, 3)
    where = ["--topic", topic, "--partition", "0"]
    said = tools.run("LeaderElectionCommand", "--election-type", "preferred", *where)
    expect("Valid replica already elected" in said or "Successfully completed" in said, said)
    said = tools.run("LeaderElectionCommand", "--election-type", "preferred", "--all-topic-partitions")
    expect("Error" not in said, said)
    said = tools.run("TopicCommand", "--describe", "--topic", topic)
    rows = re.findall(r"Leader: (\d+)\tReplicas: (\d+)", said)
    expect(len(rows) == 3 and all(leader == first for leader, first in rows), said)


def metadata_quorum(tools, topic):
    said = tools.run("MetadataQuorumCommand", "describe", "--status")
    leader = re.search(r"LeaderId:\s+(\d+)", said)
    voters = re.search(r"CurrentVoters:\s+(\[.*\])", said)
    expect(leader and voters and "HighWatermark:" in said, said)
    ids = [voter["id"] if isinstance(voter, dict) else voter for voter in json.loads(voters.group(1))]
    expect(int(leader.group(1)) in ids, said)
    said = tools.run("MetadataQuorumCommand", "describe", "--replication")
    rows = [line.split() for line in said.strip().splitlines()[1:]]
    expect(sorted(int(row[0]) for row in rows if row[-1] in ("Leader", "Follower")) == sorted(ids), said)
    # On a busy machine another node may lead by now.
    expect(len([row for row in rows if row[-1] == "Leader"]) == 1, said)


def features(tools, topic):
    said = tools.run("FeatureCommand", "describe")
    rows = [dict(re.findall(r"(\w+): (\S+)", line)) for line in said.splitlines() if line.startswith("Feature:")]
    found = {row["Feature"]: row for row in rows}
    expect("metadata.version" in found and "kraft.version" in found, said)
    for row in rows:
        expect(int(row["Epoch"]) >= 0, row)
    said = tools.run("FeatureCommand", "upgrade", "--feature", "no.such.version=1", fails=True)
    expect("no.such.version" in said, said)
    level = found["kraft.version"]["FinalizedVersionLevel"]
    tools.run("FeatureCommand", "upgrade", "--dry-run", "--feature", f"kraft.version={level}")


def reassign(tools, topic):
    """kafka-reassign-partitions: a plan, carried out, verified; more replicas; one taken back that is done."""
    if tools.args.replicas < 3:
        raise Skipped("one node has nowhere to move a replica to")
    tools.create(topic, 2, "--replication-factor", "2")
    lines = [f"line {i}" for i in range(500)]
    tools.produce(topic, lines)
    name = "reassign.ReassignPartitionsCommand"

    def file(content):
        path = os.path.join(tempfile.mkdtemp(), "reassign.json")
        with open(path, "w") as out:
            out.write(content)
        return path

    topics = file(json.dumps({"version": 1, "topics": [{"topic": topic}]}))
    said = tools.run(name, "--generate", "--topics-to-move-json-file", topics, "--broker-list", "1,2,3")
    current = json.loads(said.split("Current partition replica assignment")[1].split("Proposed")[0])
    before = {p["partition"]: p["replicas"] for p in current["partitions"]}
    expect(all(len(r) == 2 for r in before.values()), said)
    spare = {p: next(b for b in (1, 2, 3) if b not in r) for p, r in before.items()}
    rows = [{"topic": topic, "partition": p, "replicas": [spare[p], r[0]]} for p, r in before.items()]
    plan = file(json.dumps({"version": 1, "partitions": rows}))
    said = tools.run(name, "--execute", "--reassignment-json-file", plan, "--throttle", "50000000")
    expect("Successfully started partition reassignments" in said, said)

    def verify(plan, rows):
        deadline = time.monotonic() + 60
        while True:
            said = tools.run(name, "--verify", "--reassignment-json-file", plan)
            if said.count("is completed") == len(rows):
                break
            expect(time.monotonic() < deadline, said)
            time.sleep(1)
        expect("Clearing" in said, f"the throttles stay: {said}")
        told = tools.run("TopicCommand", "--describe", "--topic", topic)
        for row in rows:
            wanted = "Replicas: " + ",".join(map(str, row["replicas"]))
            expect(wanted in told, f"{wanted} in {told}")

    verify(plan, rows)
    expect("No partition reassignments found" in tools.run(name, "--list"), "something goes on")
    got = tools.consume(topic, 500)
    expect(sorted(got) == sorted(lines), f"{len(got)} lines back")
    said = tools.run(name, "--cancel", "--reassignment-json-file", plan, "--preserve-throttles")
    expect("None of the specified partition reassignments are active" in said, said)
    # One replica more, as other topics have.
    rows = [row | {"replicas": [*row["replicas"], ({1, 2, 3} - {*row["replicas"]}).pop()]} for row in rows]
    plan = file(json.dumps({"version": 1, "partitions": rows}))
    said = tools.run(name, "--execute", "--reassignment-json-file", plan)
    expect("Successfully started partition reassignments" in said, said)
    verify(plan, rows)


def api_versions(tools, topic):
    said = tools.run("BrokerApiVersionsCommand")
    for name in ["Produce(0): 0 to 1", "Fetch(1): 4 to 1", "ApiVersions(18): 0 to ", "OffsetCommit(8): "]:
        expect(name in said, f"no {name!r} in {said[:1500]}")


CHECKS = {
    "console": console,
    "console-records": console_records,
    "console-assign": console_assign,
    "console-codecs": console_codecs,
    "perf": perf,
    "verifiable": verifiable,
    "client-compatibility": client_compatibility,
    "topics": topics,
    "configs": configs,
    "consumer-groups": consumer_groups,
    "groups": groups,
    "consumer-protocol": members,
    "transactions": transactions,
    "get-offsets": get_offsets,
    "delete-records": delete_records,
    "log-dirs": log_dirs,
    "cluster": cluster,
    "leader-election": leader_election,
    "metadata-quorum": metadata_quorum,
    "features": features,
    "reassign-partitions": reassign,
    "broker-api-versions": api_versions,
}


def main():
    parser = arguments()
    parser.add_argument("--jars", required=True)
    args = parser.parse_args()
    jar = os.path.basename(glob.glob(os.path.join(args.jars, "kafka-tools-[0-9]*.jar"))[0])
    version = jar.removeprefix("kafka-tools-").removesuffix(".jar")
    tools = Tools(args)
    sys.exit(run_named(version, args, CHECKS, lambda check, topic: check(tools, topic)))


if __name__ == "__main__":
    main()
