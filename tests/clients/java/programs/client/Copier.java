import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;

import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;

/** A member of a group that copies what it reads in transactions, aborts some and dies in some. */
final class Copier extends Thread {
    private final Contract contract;
    private final String source;
    private final String target;
    private final String protocol;
    private final Random random;
    /** Transactions that ended each way, of all workers. */
    final AtomicInteger committed;
    final AtomicInteger aborted;
    /** How many transactions it has left to end; the next it leaves open. Below zero: it lives on. */
    private int left;
    volatile boolean stop;
    volatile boolean owns;
    volatile Throwable failed;

    Copier(Contract contract, int number, int left, String source, String protocol, AtomicInteger committed, AtomicInteger aborted) {
        super("copier-" + number);
        this.contract = contract;
        this.left = left;
        this.source = source;
        this.target = source + "-out";
        this.protocol = protocol;
        this.random = new Random(number);
        this.committed = committed;
        this.aborted = aborted;
    }

    static Contract.Check check(String protocol) {
        return (contract, topic) -> {
            contract.needConsumerProtocol(protocol);
            copy(contract, topic, protocol);
        };
    }

    /** Two workers; one dies within a transaction, and its successor has its transactional id. */
    private static void copy(Contract contract, String topic, String protocol) throws Exception {
        contract.create(topic, 4);
        contract.create(topic + "-out", 4);
        int count = Math.min(contract.records, 4_000);
        List<ProducerRecord<String, String>> sent = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            sent.add(Transactions.record(topic, i % 4, i));
        }
        AtomicInteger committed = new AtomicInteger();
        AtomicInteger aborted = new AtomicInteger();
        List<Copier> workers = new ArrayList<>();
        for (int number = 0; number < 2; number++) {
            workers.add(new Copier(contract, number, number == 0 ? 4 : -1, topic, protocol, committed, aborted));
        }
        try {
            workers.forEach(Thread::start);
            // Else one of them has read all before the other has anything to die in.
            Contract.until("both have partitions", () -> healthy(workers) && workers.stream().allMatch(w -> w.owns));
            contract.produce(sent);
            workers.get(0).join(Contract.WAIT.toMillis());
            healthy(workers);
            Contract.expect(!workers.get(0).isAlive(), "the first worker did not die");
            workers.set(0, new Copier(contract, 0, -1, topic, protocol, committed, aborted));
            workers.get(0).start();
            Contract.until("the group has read all", () -> healthy(workers) && copied(contract, topic, count));
        } finally {
            workers.forEach(worker -> worker.stop = true);
            for (Copier worker : workers) {
                worker.join(Contract.WAIT.toMillis());
            }
        }
        Contract.expect(aborted.get() > 0, "no transaction was aborted");
        Contract.same(sent, contract.read(topic + "-out", 4, true));
    }

    private static boolean healthy(List<Copier> workers) {
        for (Copier worker : workers) {
            if (worker.failed != null) {
                throw new IllegalStateException(worker.getName() + ": " + worker.failed, worker.failed);
            }
        }
        return true;
    }

    private static boolean copied(Contract contract, String group, int count) throws Exception {
        var offsets = contract.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        return offsets.values().stream().mapToLong(OffsetAndMetadata::offset).sum() == count;
    }

    @Override
    public void run() {
        try {
            work();
        } catch (Throwable error) {
            failed = error;
        }
    }

    private void work() throws Exception {
        KafkaProducer<String, String> producer = Transactions.transactional(contract, target + "-" + getName());
        Map<String, Object> more = new HashMap<>();
        more.put("group.id", source);
        more.put("group.protocol", protocol);
        more.put("isolation.level", "read_committed");
        more.put("max.poll.records", 50);
        if (protocol.equals("classic")) {
            more.put("session.timeout.ms", 10_000);
            more.put("heartbeat.interval.ms", 500);
        }
        Object[] flat = more.entrySet().stream().flatMap(e -> java.util.stream.Stream.of(e.getKey(), e.getValue())).toArray();
        try (KafkaConsumer<String, String> consumer = contract.consumer(flat)) {
            consumer.subscribe(List.of(source));
            while (!stop) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
                owns = !consumer.assignment().isEmpty();
                if (records.isEmpty()) {
                    continue;
                }
                if (!turn(producer, consumer, records)) {
                    return;
                }
            }
            producer.close();
        }
    }

    /** One transaction; false if the worker died in it. */
    private boolean turn(KafkaProducer<String, String> producer, KafkaConsumer<String, String> consumer,
            ConsumerRecords<String, String> records) {
        producer.beginTransaction();
        for (ConsumerRecord<String, String> record : records) {
            producer.send(new ProducerRecord<>(target, record.partition(), record.key(), record.value()));
        }
        try {
            if (random.nextInt(4) > 0) {
                producer.sendOffsetsToTransaction(records.nextOffsets(), consumer.groupMetadata());
                if (left-- == 0) {
                    producer.flush();
                    // Nobody ends this transaction but who comes next under its id.
                    producer.close(Duration.ZERO);
                    return false;
                }
                producer.commitTransaction();
                committed.incrementAndGet();
                return true;
            }
        } catch (KafkaException error) {
            // The group moved on, or the transaction must be aborted: its records come again.
            System.err.println(getName() + ": " + error);
        }
        producer.abortTransaction();
        aborted.incrementAndGet();
        Collection<TopicPartition> owned = consumer.assignment();
        Map<TopicPartition, OffsetAndMetadata> places = consumer.committed(java.util.Set.copyOf(owned));
        for (TopicPartition one : owned) {
            OffsetAndMetadata place = places.get(one);
            consumer.seek(one, place == null ? 0 : place.offset());
        }
        return true;
    }
}
