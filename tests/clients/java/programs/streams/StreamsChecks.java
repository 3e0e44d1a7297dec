import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Collectors;
import java.util.stream.Stream;

import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.StateRestoreListener;

/**
 * An application of Kafka Streams with exactly_once_v2, whose every output is compared with what a loop makes of the same
 * records. Nothing is cached, so that each input shows: one that counted twice, or a state that went back, is seen.
 */
public final class StreamsChecks {
    private static final int PARTITIONS = 3;
    private static final int WORDS = 4;
    private static final Duration WINDOW = Duration.ofSeconds(10);
    /** An hour ago: younger than any retention. */
    private static final long FIRST = System.currentTimeMillis() / 10_000 * 10_000 - 3_600_000;
    private static final String[] INPUTS = {"lines", "left", "right", "numbers"};
    private static final String[] OUTPUTS = {"counts", "joined", "sums"};

    private final Contract contract;
    private final String topic;
    private final Path state;
    private final AtomicLong restored = new AtomicLong();
    private final Map<String, List<ProducerRecord<String, String>>> sent = new HashMap<>();
    private final Map<String, List<ConsumerRecord<String, String>>> got = new HashMap<>();
    /** How far each output was read while it was waited for, and how many records that were. */
    private final Map<String, Map<TopicPartition, Long>> positions = new HashMap<>();
    private final Map<String, Integer> sizes = new HashMap<>();
    private volatile Throwable failed;

    private StreamsChecks(Contract contract) throws IOException {
        this.contract = contract;
        topic = contract.prefix;
        state = Files.createTempDirectory("streams-state");
    }

    public static void main(String[] args) throws Exception {
        Contract contract = new Contract(args);
        Map<String, Contract.Check> checks = new LinkedHashMap<>();
        StreamsChecks streams = new StreamsChecks(contract);
        // One application does it all; the first check runs it.
        checks.put("word-count", (c, t) -> {
            streams.run();
            streams.judgeCounts();
        });
        checks.put("join", (c, t) -> streams.judgeJoin());
        checks.put("windows", (c, t) -> streams.judgeSums());
        checks.put("restore", (c, t) -> streams.judgeRestore());
        contract.run(checks);
    }

    private String topic(String name) {
        return topic + "-" + name;
    }

    private void build(StreamsBuilder builder) {
        KStream<String, String> lines = builder.stream(topic("lines"));
        lines.flatMapValues(line -> List.of(line.split(" "))).groupBy((key, word) -> word).count()
                .toStream().mapValues(count -> count.toString()).to(topic("counts"));
        KStream<String, String> left = builder.stream(topic("left"));
        KStream<String, String> right = builder.stream(topic("right"));
        left.join(right, (one, other) -> one + "+" + other, JoinWindows.ofTimeDifferenceAndGrace(Duration.ofHours(2), Duration.ofHours(2)))
                .to(topic("joined"));
        KStream<String, String> numbers = builder.stream(topic("numbers"));
        numbers.groupByKey().windowedBy(TimeWindows.ofSizeAndGrace(WINDOW, Duration.ofHours(2)))
                .reduce((sum, next) -> String.valueOf(Long.parseLong(sum) + Long.parseLong(next)))
                .toStream((window, sum) -> window.key() + "@" + window.window().start()).to(topic("sums"));
    }

    private KafkaStreams start(int instance) {
        Properties config = new Properties();
        config.putAll(contract.config("application.id", topic, "processing.guarantee", "exactly_once_v2",
                "replication.factor", (int) contract.replicas, "statestore.cache.max.bytes", 0,
                "num.stream.threads", 1, "state.dir", state.resolve("instance-" + instance).toString(),
                "default.key.serde", Serdes.StringSerde.class, "default.value.serde", Serdes.StringSerde.class,
                "consumer.session.timeout.ms", 10_000, "consumer.heartbeat.interval.ms", 500,
                "consumer.auto.offset.reset", "earliest"));
        StreamsBuilder builder = new StreamsBuilder();
        build(builder);
        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        streams.setUncaughtExceptionHandler(error -> {
            failed = error;
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.setGlobalStateRestoreListener(new StateRestoreListener() {
            @Override
            public void onRestoreStart(TopicPartition partition, String store, long from, long to) {}

            @Override
            public void onBatchRestored(TopicPartition partition, String store, long end, long count) {}

            @Override
            public void onRestoreEnd(TopicPartition partition, String store, long count) {
                restored.addAndGet(count);
            }
        });
        streams.start();
        return streams;
    }

    /** Half of the input; a stop, after which all state must come from the changelogs; the other half. */
    private void run() throws Exception {
        for (String name : INPUTS) {
            contract.create(topic(name), PARTITIONS);
        }
        for (String name : OUTPUTS) {
            contract.create(topic(name), PARTITIONS);
        }
        // Four rounds are two keys of the join: a half has whole ones.
        int rounds = contract.records / 80 * 4;
        long pause = Long.parseLong(contract.arg("pause-ms", "0"));
        List<KafkaStreams> instances = new ArrayList<>(List.of(start(0), start(1)));
        try {
            produce(0, rounds / 2, pause);
            drain();
            instances.forEach(one -> one.close(Contract.WAIT));
            forget(state);
            restored.set(0);
            instances.set(0, start(0));
            produce(rounds / 2, rounds, pause);
            instances.set(1, start(1));
            drain();
        } finally {
            instances.forEach(one -> one.close(Contract.WAIT));
            forget(state);
            Files.deleteIfExists(state);
        }
        // What came after the last awaited one, too.
        for (String name : OUTPUTS) {
            got.put(name, contract.read(topic(name), PARTITIONS, true));
        }
    }

    private static void forget(Path directory) throws IOException {
        try (Stream<Path> all = Files.walk(directory)) {
            all.sorted(Comparator.reverseOrder()).filter(path -> !path.equals(directory)).forEach(path -> path.toFile().delete());
        }
    }

    private void produce(int from, int to, long pause) throws Exception {
        try (KafkaProducer<String, String> producer = contract.producer("acks", "all", "linger.ms", 5)) {
            for (int round = from; round < to; round++) {
                List<ProducerRecord<String, String>> batch = new ArrayList<>();
                add(batch, "lines", "line" + round, words(round), round);
                // Each key has two on either side: four pairs.
                add(batch, "left", "key" + round / 2, "l" + round, round);
                add(batch, "right", "key" + round / 2, "r" + round, round);
                add(batch, "numbers", "n" + round % 7, String.valueOf(round), round);
                batch.forEach(producer::send);
                if (pause > 0) {
                    Thread.sleep(pause);
                }
            }
            producer.flush();
        }
    }

    private static String words(int round) {
        return Stream.iterate(round, at -> at + 1).limit(WORDS).map(at -> "w" + at * at % 97).collect(Collectors.joining(" "));
    }

    private void add(List<ProducerRecord<String, String>> batch, String name, String key, String value, int round) {
        long time = FIRST + round * 10L;
        var record = new ProducerRecord<>(topic(name), partition(key), time, key, value);
        batch.add(record);
        sent.computeIfAbsent(name, any -> new ArrayList<>()).add(record);
    }

    private static int partition(String key) {
        return (key.hashCode() & 0x7fffffff) % PARTITIONS;
    }

    private int inputs(String name) {
        return sent.get(name).size();
    }

    /** Waits until each output has as many committed records as the input makes. */
    private void drain() throws Exception {
        Map<String, Integer> wanted = Map.of("counts", inputs("lines") * WORDS, "joined", inputs("left") * 2, "sums", inputs("numbers"));
        long end = System.nanoTime() + 5 * Contract.WAIT.toNanos();
        for (String name : OUTPUTS) {
            while (size(name) < wanted.get(name)) {
                if (failed != null) {
                    throw new IllegalStateException("the application failed: " + failed, failed);
                }
                Contract.expect(System.nanoTime() < end, size(name) + " of " + wanted.get(name) + " in " + name);
                Thread.sleep(200);
            }
        }
    }

    /** Committed records so far; markers are none, so they are read, from where the last look ended. */
    private int size(String name) {
        Map<TopicPartition, Long> from = positions.computeIfAbsent(name, any -> new HashMap<>());
        List<TopicPartition> all = Contract.partitions(topic(name), PARTITIONS);
        try (var consumer = contract.consumer("isolation.level", "read_committed")) {
            consumer.assign(all);
            all.forEach(one -> consumer.seek(one, from.getOrDefault(one, 0L)));
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            long end = System.nanoTime() + Contract.WAIT.toNanos();
            while (all.stream().anyMatch(one -> consumer.position(one) < ends.get(one)) && System.nanoTime() < end) {
                sizes.merge(name, consumer.poll(Duration.ofMillis(100)).count(), Integer::sum);
            }
            all.forEach(one -> from.put(one, consumer.position(one)));
        }
        return sizes.getOrDefault(name, 0);
    }

    /** The values of each key in order. */
    private Map<String, List<String>> found(String name) {
        return got.get(name).stream().collect(Collectors.groupingBy(ConsumerRecord::key,
                Collectors.mapping(ConsumerRecord::value, Collectors.toList())));
    }

    private static void same(String what, Map<String, List<String>> wanted, Map<String, List<String>> found) {
        Contract.expect(wanted.keySet().equals(found.keySet()), what + ": " + wanted.size() + " keys, found " + found.size());
        wanted.forEach((key, values) ->
                Contract.expect(values.equals(found.get(key)), what + " of " + key + ": " + difference(values, found.get(key))));
    }

    private static String difference(List<String> wanted, List<String> found) {
        int at = 0;
        while (at < Math.min(wanted.size(), found.size()) && wanted.get(at).equals(found.get(at))) {
            at++;
        }
        return "wanted " + wanted.size() + ", found " + found.size() + ", from place " + at + " on "
                + wanted.subList(at, Math.min(at + 3, wanted.size())) + " and " + found.subList(at, Math.min(at + 3, found.size()));
    }

    private void judgeCounts() {
        Map<String, List<String>> wanted = new HashMap<>();
        for (ProducerRecord<String, String> line : sent.get("lines")) {
            for (String word : line.value().split(" ")) {
                List<String> counts = wanted.computeIfAbsent(word, any -> new ArrayList<>());
                counts.add(String.valueOf(counts.size() + 1));
            }
        }
        same("counts", wanted, found("counts"));
    }

    /** In whatever order the two sides came, each pair once. */
    private void judgeJoin() {
        Contract.expect(got.containsKey("joined"), "the application did not end");
        Map<String, List<String>> rights = sent.get("right").stream().collect(Collectors.groupingBy(ProducerRecord::key,
                Collectors.mapping(ProducerRecord::value, Collectors.toList())));
        Map<String, List<String>> wanted = new HashMap<>();
        for (ProducerRecord<String, String> left : sent.get("left")) {
            List<String> pairs = wanted.computeIfAbsent(left.key(), any -> new ArrayList<>());
            rights.get(left.key()).forEach(right -> pairs.add(left.value() + "+" + right));
        }
        Map<String, List<String>> found = found("joined");
        wanted.values().forEach(pairs -> pairs.sort(null));
        found.values().forEach(pairs -> pairs.sort(null));
        same("pairs", wanted, found);
    }

    private void judgeSums() {
        Contract.expect(got.containsKey("sums"), "the application did not end");
        Map<String, List<String>> wanted = new HashMap<>();
        Map<String, Long> sums = new HashMap<>();
        for (ProducerRecord<String, String> number : sent.get("numbers")) {
            String window = number.key() + "@" + number.timestamp() / WINDOW.toMillis() * WINDOW.toMillis();
            long sum = sums.merge(window, Long.parseLong(number.value()), Long::sum);
            wanted.computeIfAbsent(window, any -> new ArrayList<>()).add(String.valueOf(sum));
        }
        same("sums", wanted, found("sums"));
    }

    private void judgeRestore() {
        Contract.expect(restored.get() > 0, "nothing was restored from the changelogs");
    }
}
