import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;

import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsOptions;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.protocol.Errors;

/** What transactional producers do: one check for each. */
final class Transactions {
    private Transactions() {}

    static Map<String, Contract.Check> checks() {
        Map<String, Contract.Check> checks = new LinkedHashMap<>();
        checks.put("idempotent", Transactions::idempotent);
        checks.put("commit-abort", Transactions::commitAbort);
        checks.put("fencing", Transactions::fencing);
        checks.put("fenced-member", Transactions::fencedMember);
        checks.put("timeout", Transactions::timeout);
        checks.put("epochs", Transactions::epochs);
        return checks;
    }

    static ProducerRecord<String, String> record(String topic, int partition, Object value) {
        return new ProducerRecord<>(topic, partition, "key " + value, "value " + value);
    }

    static KafkaProducer<String, String> transactional(Contract contract, String id, Object... more) {
        Object[] all = new Object[more.length + 4];
        System.arraycopy(more, 0, all, 4, more.length);
        all[0] = "transactional.id";
        all[1] = id;
        all[2] = "max.block.ms";
        all[3] = 30_000;
        KafkaProducer<String, String> producer = contract.producer(all);
        producer.initTransactions();
        return producer;
    }

    private static void idempotent(Contract contract, String topic) throws Exception {
        contract.create(topic, 3);
        List<ProducerRecord<String, String>> sent = new ArrayList<>();
        for (int i = 0; i < contract.records; i++) {
            sent.add(record(topic, i % 3, i));
        }
        contract.produce(sent);
        Contract.same(sent, contract.read(topic, 3, false));
    }

    /** Random ends, with and without a flush before. */
    private static void commitAbort(Contract contract, String topic) throws Exception {
        contract.create(topic, 4);
        Random random = new Random(1);
        List<ProducerRecord<String, String>> committed = new ArrayList<>();
        List<ProducerRecord<String, String>> written = new ArrayList<>();
        try (KafkaProducer<String, String> producer = transactional(contract, topic)) {
            for (int round = 0; round < 60; round++) {
                List<ProducerRecord<String, String>> batch = new ArrayList<>();
                for (int i = random.nextInt(20); i >= 0; i--) {
                    batch.add(record(topic, random.nextInt(4), round + "." + i));
                }
                boolean commit = random.nextInt(3) > 0;
                producer.beginTransaction();
                batch.forEach(producer::send);
                if (!commit || random.nextBoolean()) {
                    producer.flush();
                }
                if (round == 30) {
                    producer.flush();
                    Map<TopicPartition, Long> stable = contract.ends(topic, 4, true);
                    expectBelow(stable, contract.ends(topic, 4, false));
                }
                written.addAll(batch);
                if (commit) {
                    producer.commitTransaction();
                    committed.addAll(batch);
                } else {
                    producer.abortTransaction();
                }
            }
            // Ended with nothing in them.
            producer.beginTransaction();
            producer.commitTransaction();
            producer.beginTransaction();
            producer.abortTransaction();
        }
        Contract.until("the last stable offset is the end", () -> contract.ends(topic, 4, true).equals(contract.ends(topic, 4, false)));
        Contract.same(committed, contract.read(topic, 4, true));
        Contract.same(written, contract.read(topic, 4, false));
    }

    private static void expectBelow(Map<TopicPartition, Long> stable, Map<TopicPartition, Long> ends) {
        boolean below = stable.entrySet().stream().anyMatch(one -> one.getValue() < ends.get(one.getKey()));
        Contract.expect(below, "a transaction is open, but the last stable offsets are the ends: " + ends);
    }

    private static void fencing(Contract contract, String topic) throws Exception {
        contract.create(topic, 1);
        KafkaProducer<String, String> zombie = transactional(contract, topic);
        zombie.beginTransaction();
        zombie.send(record(topic, 0, "zombie")).get();
        try (KafkaProducer<String, String> heir = transactional(contract, topic)) {
            expectFenced("commit", zombie::commitTransaction);
            heir.beginTransaction();
            heir.send(record(topic, 0, "heir")).get();
            heir.commitTransaction();
            zombie.close(Duration.ZERO);
            // A zombie that has not heard of its heir, by what it sends.
            heir.beginTransaction();
            heir.send(record(topic, 0, "open")).get();
            try (KafkaProducer<String, String> third = transactional(contract, topic)) {
                expectFenced("send", () -> heir.send(record(topic, 0, "late")).get());
                third.beginTransaction();
                third.send(record(topic, 0, "third")).get();
                third.commitTransaction();
            }
        }
        Contract.same(List.of(record(topic, 0, "heir"), record(topic, 0, "third")), contract.read(topic, 1, true));
    }

    private interface Action {
        void run() throws Exception;
    }

    private static void expectFenced(String what, Action action) {
        Throwable said = null;
        try {
            action.run();
        } catch (Exception error) {
            said = error;
        }
        for (Throwable one = said; one != null; one = one.getCause()) {
            if (one instanceof ProducerFencedException || one instanceof InvalidProducerEpochException) {
                return;
            }
        }
        Contract.expect(false, what + " of a zombie: " + said);
    }

    /** Offsets of a member that the group has replaced go into no transaction. */
    private static void fencedMember(Contract contract, String topic) throws Exception {
        contract.create(topic, 2);
        contract.produce(List.of(record(topic, 0, 0), record(topic, 1, 1)));
        Object[] config = {"group.id", topic, "group.protocol", "classic", "session.timeout.ms", 10_000};
        try (KafkaConsumer<String, String> first = contract.consumer(config);
                KafkaConsumer<String, String> second = contract.consumer(config);
                KafkaProducer<String, String> producer = transactional(contract, topic)) {
            first.subscribe(List.of(topic));
            second.subscribe(List.of(topic));
            Contract.until("one member", () -> first.poll(Duration.ofMillis(100)) != null && first.assignment().size() == 2);
            ConsumerGroupMetadata stale = first.groupMetadata();
            Contract.until("two members", () -> {
                first.poll(Duration.ofMillis(100));
                second.poll(Duration.ofMillis(100));
                return first.assignment().size() == 1 && second.assignment().size() == 1;
            });
            Map<TopicPartition, OffsetAndMetadata> place = Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(1));
            producer.beginTransaction();
            try {
                producer.sendOffsetsToTransaction(place, stale);
                producer.commitTransaction();
                Contract.expect(false, "offsets of generation " + stale.generationId() + " were committed");
            } catch (KafkaException said) {
                producer.abortTransaction();
            }
            producer.beginTransaction();
            producer.sendOffsetsToTransaction(place, first.groupMetadata());
            producer.commitTransaction();
            // The end is answered before its markers are there. Asked for all of its partitions a group names only those that
            // have an offset already, with Apache Kafka too: what is pending is named to those who ask for it.
            var stable = new ListConsumerGroupOffsetsOptions().requireStable(true);
            var wanted = Map.of(topic, new ListConsumerGroupOffsetsSpec().topicPartitions(place.keySet()));
            var found = contract.admin.listConsumerGroupOffsets(wanted, stable).partitionsToOffsetAndMetadata(topic).get();
            Contract.expect(found.equals(place), "the group's offsets are " + found);
        }
    }

    private static void timeout(Contract contract, String topic) throws Exception {
        contract.create(topic, 1);
        try {
            transactional(contract, topic + "-long", "transaction.timeout.ms", 10_000_000);
            Contract.expect(false, "a transaction may last for hours");
        } catch (KafkaException said) {
            // The client wraps the code's own exception as one that it did not expect.
            boolean right = said.getMessage().contains(Errors.INVALID_TRANSACTION_TIMEOUT.message());
            Contract.expect(right, "too long a timeout: " + said);
        }
        KafkaProducer<String, String> slow = transactional(contract, topic, "transaction.timeout.ms", 3_000);
        slow.beginTransaction();
        slow.send(record(topic, 0, "slow")).get();
        contract.produce(List.of(record(topic, 0, "after")));
        Contract.expect(contract.read(topic, 1, true).isEmpty(), "a record behind an open transaction was read");
        Contract.until("the transaction is aborted by its timeout", () -> contract.read(topic, 1, true).size() == 1);
        try {
            slow.commitTransaction();
            Contract.expect(false, "a transaction was committed after its timeout");
        } catch (KafkaException said) {
            slow.close(Duration.ZERO);
        }
        try (KafkaProducer<String, String> next = transactional(contract, topic)) {
            next.beginTransaction();
            next.send(record(topic, 0, "next")).get();
            next.commitTransaction();
        }
        Contract.same(List.of(record(topic, 0, "after"), record(topic, 0, "next")), contract.read(topic, 1, true));
    }

    /** With transaction.version 2 each transaction has an epoch of its own, before all have one. */
    private static void epochs(Contract contract, String topic) throws Exception {
        contract.create(topic, 1);
        int level = contract.feature("transaction.version");
        Set<Integer> epochs = new HashSet<>();
        try (KafkaProducer<String, String> producer = transactional(contract, topic)) {
            for (int round = 0; round < 5; round++) {
                producer.beginTransaction();
                producer.send(record(topic, 0, round)).get();
                TransactionDescription open = describe(contract, topic);
                Contract.expect(open.state() == TransactionState.ONGOING, "open, but " + open);
                Contract.expect(open.topicPartitions().equals(Set.of(new TopicPartition(topic, 0))), "partitions: " + open);
                epochs.add(open.producerEpoch());
                if (round % 2 == 0) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
            }
            Contract.until("the last is complete", () -> describe(contract, topic).state() == TransactionState.COMPLETE_COMMIT);
        }
        int wanted = level >= 2 ? 5 : 1;
        Contract.expect(epochs.size() == wanted, "transaction.version " + level + " and epochs " + epochs);
    }

    private static TransactionDescription describe(Contract contract, String id) throws Exception {
        return contract.admin.describeTransactions(List.of(id)).description(id).get();
    }
}
