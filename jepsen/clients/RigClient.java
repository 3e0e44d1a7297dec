import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.InvalidOffsetException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InterruptException;
import org.apache.kafka.common.errors.OutOfOrderSequenceException;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.UnknownProducerIdException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * The rig's clients by Apache Kafka's own library: idempotent producers and assigned readers, or transactions that
 * send, poll in a group and commit its offsets. Writes the history as JSON lines; the line "final" on its input ends the work and begins the final read.
 *
 * <p>Arguments: bootstrap, topic, keys, first process, workers, pause in milliseconds, workload (queue, txn or money).
 */
public final class RigClient {
    private static final PrintStream LINES = System.out;
    private static final int COUNT_BITS = 20;
    private static final long LIFE_NS = 15_000_000_000L;
    private static final Duration POLL = Duration.ofMillis(100);
    /** The group of all transactional clients, and when their coordinator aborts. */
    private static final String GROUP = "rig-transactions";
    private static final int TIMEOUT_MS = 6000;
    private static final long GIVE_UP_NS = 30_000_000_000L;

    private final String bootstrap;
    private final String topic;
    private final int keys;
    private final AtomicInteger next;
    private final long pause;
    private final String workload;
    private final AtomicBoolean working = new AtomicBoolean(true);

    private RigClient(String[] args) {
        bootstrap = args[0];
        topic = args[1];
        keys = Integer.parseInt(args[2]);
        next = new AtomicInteger(Integer.parseInt(args[3]));
        pause = Long.parseLong(args[5]);
        workload = args[6];
    }

    public static void main(String[] args) throws Exception {
        // What the library's own log says is no line of a history.
        System.setOut(System.err);
        RigClient rig = new RigClient(args);
        List<Thread> threads = new ArrayList<>();
        for (int worker = 0; worker < Integer.parseInt(args[4]); worker++) {
            threads.add(new Thread(rig.workload.equals("queue") ? rig::produce : rig::transact));
        }
        threads.add(new Thread(rig::read));
        threads.forEach(Thread::start);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null && !line.equals("final"); line = in.readLine()) {}
        rig.working.set(false);
        for (Thread thread : threads) {
            thread.join();
        }
        rig.finalRead();
        System.exit(0);
    }

    private static synchronized void say(String line) {
        LINES.println(line);
        LINES.flush();
    }

    private static String quoted(Object text) {
        return "\"" + String.valueOf(text).replaceAll("[^ -~]", " ").replace("\\", "/").replace("\"", "'") + "\"";
    }

    private static void broken(int process, Object error) {
        say("{\"f\":\"broken\",\"time\":" + System.nanoTime() + ",\"process\":" + process + ",\"error\":"
                + quoted("java: " + error) + "}");
    }

    private static void send(String type, int process, int key, long value, String more) {
        say("{\"f\":\"send\",\"type\":\"" + type + "\",\"time\":" + System.nanoTime() + ",\"process\":" + process
                + ",\"key\":" + key + ",\"value\":" + value + more + "}");
    }

    private void sleep() {
        try {
            Thread.sleep(pause);
        } catch (InterruptedException e) {
            working.set(false);
        }
    }

    private Properties producerConfig() {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("acks", "all");
        config.put("enable.idempotence", "true");
        config.put("delivery.timeout.ms", "30000");
        config.put("request.timeout.ms", "3000");
        config.put("max.block.ms", "5000");
        config.put("linger.ms", "0");
        config.put("retry.backoff.ms", "20");
        config.put("retry.backoff.max.ms", "200");
        config.put("reconnect.backoff.max.ms", "200");
        config.put("metadata.max.age.ms", "10000");
        return config;
    }

    private static KafkaProducer<byte[], String> producer(Properties config) {
        return new KafkaProducer<>(config, new ByteArraySerializer(), new StringSerializer());
    }

    private void produce() {
        while (working.get()) {
            int process = next.getAndIncrement();
            try (KafkaProducer<byte[], String> producer = producer(producerConfig())) {
                live(process, producer);
                producer.close(Duration.ofSeconds(working.get() ? 1 : 30));
            } catch (RuntimeException e) {
                System.err.println("process " + process + ": " + e);
            }
        }
    }

    /** One life of a producer: until its time is over or a send has failed. */
    private void live(int process, KafkaProducer<byte[], String> producer) {
        AtomicBoolean failed = new AtomicBoolean(false);
        long born = System.nanoTime();
        for (long n = 0; working.get() && !failed.get() && System.nanoTime() - born < LIFE_NS; n++) {
            int key = (int) (n % keys);
            long value = ((long) process << COUNT_BITS) + n;
            send("invoke", process, key, value, "");
            try {
                producer.send(new ProducerRecord<>(topic, key, null, Long.toString(value)), (metadata, error) -> {
                    if (error == null) {
                        send("ok", process, key, value, ",\"offset\":" + metadata.offset());
                        return;
                    }
                    failed.set(true);
                    String type = error instanceof RecordTooLargeException ? "fail" : "info";
                    send(type, process, key, value, ",\"error\":" + quoted(error));
                    if (error instanceof OutOfOrderSequenceException || error instanceof UnknownProducerIdException
                            || error instanceof InvalidProducerEpochException) {
                        broken(process, error);
                    }
                });
            } catch (RuntimeException e) {
                failed.set(true);
                send("info", process, key, value, ",\"error\":" + quoted(e));
            }
            sleep();
        }
    }

    /** Transactional clients, one after the other. */
    private void transact() {
        while (working.get()) {
            int process = next.getAndIncrement();
            Properties config = producerConfig();
            config.put("transactional.id", "rig-" + process);
            config.put("transaction.timeout.ms", Integer.toString(TIMEOUT_MS));
            config.put("delivery.timeout.ms", "5000");
            Properties reading = consumerConfig();
            reading.put("group.id", GROUP);
            reading.put("auto.offset.reset", "earliest");
            reading.put("session.timeout.ms", "8000");
            reading.put("heartbeat.interval.ms", "1000");
            reading.put("max.poll.interval.ms", "12000");
            reading.put("max.poll.records", "100");
            KafkaProducer<byte[], String> producer = producer(config);
            KafkaConsumer<byte[], String> consumer =
                    new KafkaConsumer<>(reading, new ByteArrayDeserializer(), new StringDeserializer());
            try {
                producer.initTransactions();
                new Life(process, producer, consumer).live();
            } catch (RuntimeException e) {
                System.err.println("process " + process + ": " + e);
                sleep();
            } finally {
                // What is open is left to its coordinator, as by a client that dies.
                producer.close(Duration.ofSeconds(1));
                consumer.close(Duration.ofSeconds(2));
            }
        }
    }

    /** Ends a transaction that is not to be committed. */
    private static final class Aborted extends RuntimeException {}

    /** One life of a transactional client. */
    private final class Life implements ConsumerRebalanceListener {
        private final int process;
        private final KafkaProducer<byte[], String> producer;
        private final KafkaConsumer<byte[], String> consumer;
        private final Random random;
        private long values;
        private long txns;
        private boolean rebalanced;
        private boolean begun;
        /** First offset and the one after the last, of each partition that was polled in this transaction. */
        private final Map<TopicPartition, long[]> polled = new HashMap<>();

        private Life(int process, KafkaProducer<byte[], String> producer, KafkaConsumer<byte[], String> consumer) {
            this.process = process;
            this.producer = producer;
            this.consumer = consumer;
            random = new Random(process);
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            rebalanced = true;
            polled.clear();
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            rebalanced = true;
            polled.clear();
            assigned(process);
        }

        private void live() {
            consumer.subscribe(List.of(topic), this);
            long born = System.nanoTime();
            while (working.get() && System.nanoTime() - born < LIFE_NS && transaction()) {
                sleep();
            }
        }

        private void say(long id, String step, Object error) {
            RigClient.say("{\"f\":\"txn\",\"type\":\"" + step + "\",\"time\":" + System.nanoTime() + ",\"process\":"
                    + process + ",\"txn\":" + id + (error == null ? "" : ",\"error\":" + quoted(error)) + "}");
        }

        /** Whether the client goes on. */
        private boolean transaction() {
            long id = ((long) process << COUNT_BITS) + txns++;
            polled.clear();
            begun = false;
            try {
                if (!(workload.equals("money") ? transfer(id) : several(id))) {
                    return true;
                }
                if (random.nextInt(20) == 0) {
                    throw new Aborted();
                }
                return commit(id);
            } catch (ProducerFencedException | OutOfOrderSequenceException e) {
                // Its coordinator has aborted it. Without a commit that was asked for nothing else can be.
                if (begun) {
                    say(id, "unknown", e);
                }
                return false;
            } catch (Aborted | KafkaException | IllegalStateException e) {
                return begun && abort(id, e);
            }
        }

        private void begin(long id) {
            begun = true;
            say(id, "begin", null);
        }

        private boolean several(long id) {
            begin(id);
            producer.beginTransaction();
            boolean slow = random.nextBoolean();
            for (int left = 1 + random.nextInt(4); left > 0; left--) {
                if (random.nextInt(40) == 0) {
                    throw new Aborted();
                }
                if (random.nextBoolean()) {
                    int key = random.nextInt(keys);
                    for (int more = random.nextInt(3); more >= 0; more--) {
                        send(id, key, -1);
                    }
                } else {
                    note(id, System.nanoTime(), poll());
                }
                if (slow) {
                    pause(random.nextInt(60));
                }
            }
            if (random.nextInt(80) == 0) {
                // About as long as the coordinator waits.
                pause(TIMEOUT_MS - 500 + random.nextInt(1500));
            }
            return true;
        }

        private boolean transfer(long id) {
            long start = System.nanoTime();
            ConsumerRecords<byte[], String> records = poll();
            if (records.isEmpty()) {
                return false;
            }
            begin(id);
            note(id, start, records);
            producer.beginTransaction();
            for (ConsumerRecord<byte[], String> record : records) {
                if (random.nextInt(200) == 0) {
                    throw new Aborted();
                }
                send(id, random.nextInt(keys), Long.parseLong(record.value()));
            }
            return true;
        }

        private void pause(int milliseconds) {
            try {
                Thread.sleep(milliseconds);
            } catch (InterruptedException e) {
                working.set(false);
            }
        }

        private void send(long id, int key, long from) {
            long value = ((long) process << COUNT_BITS) + ++values;
            String txn = ",\"txn\":" + id + (from < 0 ? "" : ",\"from\":" + from);
            RigClient.send("invoke", process, key, value, txn);
            producer.send(new ProducerRecord<>(topic, key, null, Long.toString(value)), (metadata, error) -> {
                if (error == null) {
                    String offset = metadata.hasOffset() ? ",\"offset\":" + metadata.offset() : "";
                    RigClient.send("ok", process, key, value, offset);
                } else {
                    RigClient.send("info", process, key, value, ",\"error\":" + quoted(error));
                }
            });
        }

        /** Polls; one that finds other partitions than the one before it in this transaction ends it. */
        private ConsumerRecords<byte[], String> poll() {
            boolean had = !polled.isEmpty();
            rebalanced = false;
            ConsumerRecords<byte[], String> records = consumer.poll(POLL);
            if (rebalanced && had) {
                for (TopicPartition partition : records.partitions()) {
                    polled.put(partition, new long[] {records.records(partition).get(0).offset(), 0});
                }
                throw new Aborted();
            }
            return records;
        }

        private void note(long id, long start, ConsumerRecords<byte[], String> records) {
            StringBuilder found = new StringBuilder();
            for (ConsumerRecord<byte[], String> record : records) {
                TopicPartition partition = new TopicPartition(topic, record.partition());
                polled.computeIfAbsent(partition, p -> new long[] {record.offset(), 0})[1] = record.offset() + 1;
                found.append(found.length() == 0 ? "" : ",").append('[').append(record.partition()).append(',')
                        .append(record.offset()).append(',').append(record.value()).append(']');
            }
            if (found.length() > 0) {
                RigClient.say("{\"f\":\"poll\",\"start\":" + start + ",\"time\":" + System.nanoTime()
                        + ",\"process\":" + process + ",\"txn\":" + id + ",\"records\":[" + found + "]}");
            }
        }

        private boolean commit(long id) {
            if (!polled.isEmpty()) {
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                polled.forEach((partition, range) -> offsets.put(partition, new OffsetAndMetadata(range[1])));
                producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
            }
            say(id, "commit", null);
            long begun = System.nanoTime();
            while (true) {
                try {
                    producer.commitTransaction();
                    say(id, "committed", null);
                    return true;
                } catch (TimeoutException | InterruptException e) {
                    // Nobody knows: only the same commit may be asked for again.
                    if (System.nanoTime() - begun > GIVE_UP_NS) {
                        say(id, "unknown", e);
                        return false;
                    }
                } catch (ProducerFencedException | InvalidProducerEpochException e) {
                    say(id, "aborted", e);
                    return false;
                }
            }
        }

        private boolean abort(long id, RuntimeException why) {
            try {
                producer.abortTransaction();
            } catch (RuntimeException e) {
                say(id, "unknown", why + ", then " + e);
                return false;
            }
            say(id, "aborted", why instanceof Aborted ? null : why);
            polled.forEach((partition, range) -> {
                if (consumer.assignment().contains(partition)) {
                    consumer.seek(partition, range[0]);
                }
            });
            assigned(process);
            return true;
        }
    }

    private Properties consumerConfig() {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("enable.auto.commit", "false");
        config.put("auto.offset.reset", "none");
        config.put("isolation.level", "read_committed");
        config.put("request.timeout.ms", "3000");
        config.put("default.api.timeout.ms", "5000");
        config.put("fetch.max.wait.ms", "200");
        config.put("retry.backoff.ms", "20");
        config.put("retry.backoff.max.ms", "200");
        config.put("reconnect.backoff.max.ms", "200");
        return config;
    }

    private KafkaConsumer<byte[], String> consumer() {
        KafkaConsumer<byte[], String> consumer =
                new KafkaConsumer<>(consumerConfig(), new ByteArrayDeserializer(), new StringDeserializer());
        List<TopicPartition> all = new ArrayList<>();
        for (int key = 0; key < keys; key++) {
            all.add(new TopicPartition(topic, key));
        }
        consumer.assign(all);
        all.forEach(partition -> consumer.seek(partition, 0));
        return consumer;
    }

    private static void assigned(int process) {
        say("{\"f\":\"assign\",\"time\":" + System.nanoTime() + ",\"process\":" + process + "}");
    }

    private void poll(int process, KafkaConsumer<byte[], String> consumer) {
        long start = System.nanoTime();
        StringBuilder found = new StringBuilder();
        for (ConsumerRecord<byte[], String> record : consumer.poll(POLL)) {
            found.append(found.length() == 0 ? "" : ",").append('[').append(record.partition()).append(',')
                    .append(record.offset()).append(',').append(record.value()).append(']');
        }
        if (found.length() > 0) {
            say("{\"f\":\"poll\",\"start\":" + start + ",\"time\":" + System.nanoTime() + ",\"process\":" + process
                    + ",\"records\":[" + found + "]}");
        }
    }

    private void read() {
        while (working.get()) {
            int process = next.getAndIncrement();
            long born = System.nanoTime();
            try (KafkaConsumer<byte[], String> consumer = consumer()) {
                assigned(process);
                while (working.get() && System.nanoTime() - born < 4 * LIFE_NS) {
                    poll(process, consumer);
                    sleep();
                }
            } catch (InvalidOffsetException e) {
                broken(process, e);
            } catch (RuntimeException e) {
                System.err.println("process " + process + ": " + e);
                sleep();
            }
        }
    }

    private void finalRead() {
        int process = next.getAndIncrement();
        long end = System.nanoTime() + 100_000_000_000L;
        Map<Integer, Long> ends = new HashMap<>();
        Map<Integer, Boolean> reached = new HashMap<>();
        try (KafkaConsumer<byte[], String> consumer = consumer()) {
            assigned(process);
            while (System.nanoTime() < end && ends.size() < keys) {
                try {
                    consumer.endOffsets(consumer.assignment()).forEach((p, offset) -> ends.put(p.partition(), offset));
                } catch (RuntimeException e) {
                    System.err.println("end offsets: " + e);
                }
            }
            while (System.nanoTime() < end && reached.size() < keys) {
                poll(process, consumer);
                for (TopicPartition partition : consumer.assignment()) {
                    if (consumer.position(partition) >= ends.getOrDefault(partition.partition(), Long.MAX_VALUE)) {
                        reached.put(partition.partition(), true);
                    }
                }
            }
        } catch (RuntimeException e) {
            broken(process, e);
        }
        for (int key = 0; key < keys; key++) {
            say("{\"f\":\"end\",\"time\":" + System.nanoTime() + ",\"process\":" + process + ",\"key\":" + key
                    + ",\"high_watermark\":" + ends.getOrDefault(key, -1L) + ",\"reached\":"
                    + reached.getOrDefault(key, false) + "}");
        }
    }
}
