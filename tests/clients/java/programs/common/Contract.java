import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.net.Socket;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.Callable;

import com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.AppInfoParser;

/** What our Java programs share: their arguments, the lines that they print (../../README.md), topics, reading. */
final class Contract {
    static final Duration WAIT = Duration.ofSeconds(120);
    static final short CONSUMER_GROUP_HEARTBEAT = 68;

    final String bootstrap;
    final String prefix;
    final int records;
    final short replicas;
    final Admin admin;
    private final Map<String, String> args = new HashMap<>();

    /** One check; `topic` begins the names of its topics. */
    interface Check {
        void run(Contract contract, String topic) throws Exception;
    }

    /** What came back is not what was sent. */
    static final class Mismatch extends RuntimeException {
        Mismatch(String detail) {
            super(detail);
        }
    }

    /** These brokers cannot be put to the check. */
    static final class Skipped extends RuntimeException {
        Skipped(String why) {
            super(why);
        }
    }

    Contract(String[] line) {
        for (int at = 0; at + 1 < line.length; at += 2) {
            args.put(line[at].substring(2), line[at + 1]);
        }
        bootstrap = args.get("bootstrap");
        prefix = args.get("topic-prefix");
        records = Integer.parseInt(arg("records", "10000"));
        replicas = Short.parseShort(arg("replicas", "1"));
        admin = Admin.create(config());
    }

    String arg(String name, String otherwise) {
        return args.getOrDefault(name, otherwise);
    }

    static void expect(boolean condition, String detail) {
        if (!condition) {
            throw new Mismatch(detail);
        }
    }

    void run(Map<String, Check> checks) throws Exception {
        run(AppInfoParser.getVersion(), checks);
    }

    /** Runs those that the command line asks for; ends the process. */
    void run(String version, Map<String, Check> checks) throws Exception {
        print("check", "version", "ok", true, "detail", version);
        String only = arg("check", "all");
        boolean fine = true;
        for (Map.Entry<String, Check> entry : checks.entrySet()) {
            if (only.equals("all") || only.equals(entry.getKey())) {
                fine &= runOne(entry.getKey(), entry.getValue());
            }
        }
        // Threads of a failed check do not keep the process.
        System.out.flush();
        Runtime.getRuntime().halt(fine ? 0 : 1);
    }

    private boolean runOne(String name, Check check) throws Exception {
        long started = System.nanoTime();
        String detail = "";
        try {
            check.run(this, prefix + "-" + name);
        } catch (Skipped why) {
            print("check", name, "skipped", why.getMessage());
            return true;
        } catch (Throwable error) {
            error.printStackTrace();
            detail = error.toString();
        }
        double seconds = Math.round((System.nanoTime() - started) / 1e7) / 100.0;
        print("check", name, "ok", detail.isEmpty(), "detail", detail, "seconds", seconds);
        return detail.isEmpty();
    }

    private static void print(Object... pairs) throws Exception {
        Map<String, Object> line = new HashMap<>();
        for (int at = 0; at < pairs.length; at += 2) {
            line.put((String) pairs[at], pairs[at + 1]);
        }
        System.out.println(new ObjectMapper().writeValueAsString(line));
    }

    Map<String, Object> config(Object... more) {
        Map<String, Object> all = new HashMap<>();
        all.put("bootstrap.servers", bootstrap);
        for (int at = 0; at < more.length; at += 2) {
            all.put((String) more[at], more[at + 1]);
        }
        return all;
    }

    void create(String topic, int partitions, String... configs) throws Exception {
        NewTopic wanted = new NewTopic(topic, partitions, replicas);
        Map<String, String> all = new HashMap<>();
        for (int at = 0; at < configs.length; at += 2) {
            all.put(configs[at], configs[at + 1]);
        }
        admin.createTopics(List.of(wanted.configs(all))).all().get();
    }

    KafkaProducer<String, String> producer(Object... more) {
        return new KafkaProducer<>(config(more), new StringSerializer(), new StringSerializer());
    }

    KafkaConsumer<String, String> consumer(Object... more) {
        Map<String, Object> all = config("enable.auto.commit", false, "auto.offset.reset", "earliest");
        all.putAll(config(more));
        return new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
    }

    /** Sends all and waits for all. */
    void produce(List<ProducerRecord<String, String>> records) throws Exception {
        try (KafkaProducer<String, String> producer = producer("acks", "all", "linger.ms", 5)) {
            sendAll(producer, records);
        }
    }

    static void sendAll(KafkaProducer<String, String> producer, List<ProducerRecord<String, String>> records)
            throws Exception {
        List<java.util.concurrent.Future<?>> sent = new ArrayList<>();
        for (ProducerRecord<String, String> record : records) {
            sent.add(producer.send(record));
        }
        producer.flush();
        for (java.util.concurrent.Future<?> one : sent) {
            one.get();
        }
    }

    static List<TopicPartition> partitions(String topic, int count) {
        List<TopicPartition> all = new ArrayList<>();
        for (int at = 0; at < count; at++) {
            all.add(new TopicPartition(topic, at));
        }
        return all;
    }

    /** Everything up to the ends of the log as they are now, those of committed transactions alone or all. */
    List<ConsumerRecord<String, String>> read(String topic, int count, boolean committed) {
        String isolation = committed ? "read_committed" : "read_uncommitted";
        try (KafkaConsumer<String, String> consumer = consumer("isolation.level", isolation)) {
            List<TopicPartition> all = partitions(topic, count);
            consumer.assign(all);
            consumer.seekToBeginning(all);
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            List<ConsumerRecord<String, String>> got = new ArrayList<>();
            long end = System.nanoTime() + 2 * WAIT.toNanos();
            while (all.stream().anyMatch(one -> consumer.position(one) < ends.get(one))) {
                expect(System.nanoTime() < end, "did not reach " + ends + ", but has " + got.size() + " records");
                consumer.poll(Duration.ofMillis(200)).forEach(got::add);
            }
            return got;
        }
    }

    /** Ends of a topic as readers of committed records see them, or as all others do. */
    Map<TopicPartition, Long> ends(String topic, int count, boolean committed) {
        String isolation = committed ? "read_committed" : "read_uncommitted";
        try (KafkaConsumer<String, String> consumer = consumer("isolation.level", isolation)) {
            return consumer.endOffsets(partitions(topic, count));
        }
    }

    /** Equal keys, values and order within each partition, nothing missing, nothing twice. */
    static void same(List<ProducerRecord<String, String>> sent, List<ConsumerRecord<String, String>> got) {
        Set<Integer> partitions = new HashSet<>();
        sent.forEach(record -> partitions.add(record.partition()));
        got.forEach(record -> partitions.add(record.partition()));
        for (Integer partition : partitions) {
            List<List<String>> wanted = new ArrayList<>();
            List<List<String>> found = new ArrayList<>();
            sent.stream().filter(r -> Objects.equals(r.partition(), partition))
                    .forEach(r -> wanted.add(Arrays.asList(r.key(), r.value())));
            got.stream().filter(r -> r.partition() == partition)
                    .forEach(r -> found.add(Arrays.asList(r.key(), r.value())));
            int at = 0;
            while (at < Math.min(wanted.size(), found.size()) && wanted.get(at).equals(found.get(at))) {
                at++;
            }
            String what = " of partition " + partition + " (" + wanted.size() + " sent, " + found.size() + " read)";
            expect(wanted.equals(found), "record " + at + what + ": sent " + around(wanted, at) + ", read " + around(found, at));
        }
    }

    private static List<List<String>> around(List<List<String>> all, int at) {
        return all.subList(Math.min(at, all.size()), Math.min(at + 2, all.size()));
    }

    static void until(String what, Callable<Boolean> done) throws Exception {
        long end = System.nanoTime() + WAIT.toNanos();
        while (!done.call()) {
            expect(System.nanoTime() < end, "not within " + WAIT.toSeconds() + " s: " + what);
            Thread.sleep(50);
        }
    }

    /** A finalised feature's level, 0 for none. */
    int feature(String name) throws Exception {
        var level = admin.describeFeatures().featureMetadata().get().finalizedFeatures().get(name);
        return level == null ? 0 : level.maxVersionLevel();
    }

    /** Whether the first broker says in ApiVersions that it serves a request. */
    boolean serves(short api) throws Exception {
        String[] address = bootstrap.split(",")[0].split(":");
        try (Socket socket = new Socket(address[0], Integer.parseInt(address[1]))) {
            DataOutputStream out = new DataOutputStream(socket.getOutputStream());
            out.writeInt(10);
            out.writeShort(18);
            out.writeShort(0);
            out.writeInt(1);
            out.writeShort(-1);
            out.flush();
            DataInputStream in = new DataInputStream(socket.getInputStream());
            in.readInt();
            in.readInt();
            expect(in.readShort() == 0, "ApiVersions refused");
            for (int left = in.readInt(); left > 0; left--) {
                boolean found = in.readShort() == api;
                in.readInt();
                if (found) {
                    return true;
                }
            }
            return false;
        }
    }

    void needConsumerProtocol(String protocol) throws Exception {
        if (protocol.equals("consumer") && !serves(CONSUMER_GROUP_HEARTBEAT)) {
            throw new Skipped("the broker does not serve ConsumerGroupHeartbeat");
        }
    }
}
