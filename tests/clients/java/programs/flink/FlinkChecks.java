import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;

import org.apache.flink.api.common.JobStatus;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.core.execution.SavepointFormatType;
import org.apache.flink.runtime.util.EnvironmentInformation;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** A job of Flink from topic to topic with checkpoints, exactly once, in a cluster of its own. */
public final class FlinkChecks {
    private static final int PARTITIONS = 2;
    /** Records that the job took, those that came again included; all tasks are in this process. */
    private static final AtomicInteger TAKEN = new AtomicInteger();
    private static final AtomicInteger FAILURES = new AtomicInteger();
    /** So few that a slow machine comes to a checkpoint between them. */
    private static final int FAILS = 4;
    private static final int FAILS_EVERY = 700;

    private FlinkChecks() {}

    public static void main(String[] args) throws Exception {
        Map<String, Contract.Check> checks = new LinkedHashMap<>();
        checks.put("exactly-once", FlinkChecks::exactlyOnce);
        new Contract(args).run(EnvironmentInformation.getVersion(), checks);
    }

    /** The job fails and goes back to its last checkpoint some times, and is stopped and started again once. */
    private static void exactlyOnce(Contract contract, String topic) throws Exception {
        String output = topic + "-out";
        contract.create(topic, PARTITIONS);
        contract.create(output, PARTITIONS);
        Path directory = Files.createTempDirectory("flink");
        int count = 4_000;
        List<String> sent = new ArrayList<>();
        try {
            JobClient job = start(contract, topic, output, directory, null);
            produce(contract, topic, 0, count / 2, sent);
            await(contract, job, output, count / 2);
            String savepoint = job.stopWithSavepoint(false, directory.toUri().toString(), SavepointFormatType.CANONICAL).get();
            produce(contract, topic, count / 2, count * 3 / 4, sent);
            job = start(contract, topic, output, directory, savepoint);
            produce(contract, topic, count * 3 / 4, count, sent);
            await(contract, job, output, count);
            job.cancel().get();
        } finally {
            try (Stream<Path> all = Files.walk(directory)) {
                all.sorted(Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
            }
        }
        Contract.expect(FAILURES.get() >= FAILS, "the job failed " + FAILURES + " times");
        List<String> found = new ArrayList<>();
        for (ConsumerRecord<String, String> record : contract.read(output, PARTITIONS, true)) {
            found.add(record.value());
        }
        Collections.sort(sent);
        Collections.sort(found);
        Contract.expect(sent.equals(found), sent.size() + " records in, " + found.size() + " out, or not the same");
    }

    private static JobClient start(Contract contract, String topic, String output, Path directory, String savepoint)
            throws Exception {
        Configuration config = new Configuration();
        config.setString("execution.checkpointing.dir", directory.resolve("checkpoints").toUri().toString());
        config.setString("restart-strategy.type", "fixed-delay");
        config.setString("restart-strategy.fixed-delay.attempts", "1000");
        config.setString("restart-strategy.fixed-delay.delay", "500 ms");
        if (savepoint != null) {
            config.setString("execution.state-recovery.path", savepoint);
        }
        StreamExecutionEnvironment job = StreamExecutionEnvironment.createLocalEnvironment(PARTITIONS, config);
        job.enableCheckpointing(500);
        KafkaSource<String> source = KafkaSource.<String>builder().setBootstrapServers(contract.bootstrap).setTopics(topic)
                .setGroupId(topic + "-group").setStartingOffsets(OffsetsInitializer.earliest())
                .setProperty("isolation.level", "read_committed")
                .setValueOnlyDeserializer(new SimpleStringSchema()).build();
        KafkaSink<String> sink = KafkaSink.<String>builder().setBootstrapServers(contract.bootstrap)
                .setRecordSerializer(KafkaRecordSerializationSchema.<String>builder().setTopic(output)
                        .setValueSerializationSchema(new SimpleStringSchema()).build())
                .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE).setTransactionalIdPrefix(topic)
                .setProperty("transaction.timeout.ms", "120000").build();
        job.fromSource(source, WatermarkStrategy.noWatermarks(), "source").uid("source")
                .map(FlinkChecks::take).returns(String.class).uid("map").sinkTo(sink).uid("sink");
        return job.executeAsync(topic);
    }

    private static String take(String value) {
        if (TAKEN.incrementAndGet() % FAILS_EVERY == 0 && FAILURES.incrementAndGet() <= FAILS) {
            throw new IllegalStateException("a failure on purpose");
        }
        return value.toUpperCase(java.util.Locale.ROOT);
    }

    private static void produce(Contract contract, String topic, int from, int to, List<String> sent) throws Exception {
        try (KafkaProducer<String, String> producer = contract.producer("acks", "all", "linger.ms", 5)) {
            for (int at = from; at < to; at++) {
                producer.send(new ProducerRecord<>(topic, at % PARTITIONS, null, "value " + at));
                sent.add("VALUE " + at);
                if (at % 10 == 0) {
                    Thread.sleep(20);
                }
            }
        }
    }

    private static void await(Contract contract, JobClient job, String output, int count) throws Exception {
        Contract.until(count + " records", () -> {
            JobStatus status = job.getJobStatus().get();
            Contract.expect(!status.isGloballyTerminalState(), "the job is " + status);
            return contract.read(output, PARTITIONS, true).size() >= count;
        });
    }
}
