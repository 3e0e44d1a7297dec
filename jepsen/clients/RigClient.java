import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.InvalidOffsetException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.OutOfOrderSequenceException;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.UnknownProducerIdException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * The rig's clients by Apache Kafka's own library: idempotent producers and assigned readers. Writes the history
 * as JSON lines; the line "final" on its input ends the work and begins the final read.
 *
 * <p>Arguments: bootstrap, topic, keys, first process, workers, pause in milliseconds.
 */
public final class RigClient {
    private static final int COUNT_BITS = 20;
    private static final long LIFE_NS = 15_000_000_000L;
    private static final Duration POLL = Duration.ofMillis(100);

    private final String bootstrap;
    private final String topic;
    private final int keys;
    private final AtomicInteger next;
    private final long pause;
    private final AtomicBoolean working = new AtomicBoolean(true);

    private RigClient(String[] args) {
        bootstrap = args[0];
        topic = args[1];
        keys = Integer.parseInt(args[2]);
        next = new AtomicInteger(Integer.parseInt(args[3]));
        pause = Long.parseLong(args[5]);
    }

    public static void main(String[] args) throws Exception {
        RigClient rig = new RigClient(args);
        List<Thread> threads = new ArrayList<>();
        for (int worker = 0; worker < Integer.parseInt(args[4]); worker++) {
            threads.add(new Thread(rig::produce));
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
        System.out.println(line);
        System.out.flush();
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

    private void produce() {
        while (working.get()) {
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
            int process = next.getAndIncrement();
            try (KafkaProducer<byte[], String> producer =
                    new KafkaProducer<>(config, new org.apache.kafka.common.serialization.ByteArraySerializer(),
                            new StringSerializer())) {
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

    private KafkaConsumer<byte[], String> consumer() {
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
        KafkaConsumer<byte[], String> consumer =
                new KafkaConsumer<>(config, new ByteArrayDeserializer(), new StringDeserializer());
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
