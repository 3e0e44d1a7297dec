import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupType;

/** Members of one group, of either protocol. */
final class Groups {
    private Groups() {}

    static Contract.Check check(String... protocols) {
        return (contract, topic) -> {
            for (String protocol : protocols) {
                contract.needConsumerProtocol(protocol);
            }
            share(contract, topic, protocols);
        };
    }

    private static KafkaConsumer<String, String> member(Contract contract, String group, String protocol) {
        Map<String, Object> more = new HashMap<>(Map.of("group.id", group, "group.protocol", protocol));
        if (protocol.equals("classic")) {
            more.put("session.timeout.ms", 10_000);
            more.put("heartbeat.interval.ms", 500);
        }
        Object[] flat = more.entrySet().stream().flatMap(e -> java.util.stream.Stream.of(e.getKey(), e.getValue())).toArray();
        KafkaConsumer<String, String> consumer = contract.consumer(flat);
        consumer.subscribe(List.of(group));
        return consumer;
    }

    /** Two members share four partitions, each record comes once; the second goes on alone where the first stopped. */
    private static void share(Contract contract, String topic, String[] protocols) throws Exception {
        contract.create(topic, 4);
        String last = protocols[protocols.length - 1];
        KafkaConsumer<String, String> first = member(contract, topic, protocols[0]);
        try (KafkaConsumer<String, String> second = member(contract, topic, last)) {
            List<KafkaConsumer<String, String>> both = List.of(first, second);
            List<ConsumerRecord<String, String>> got = new ArrayList<>();
            settle(both, got, 2);
            Set<Object> owned = new HashSet<>(first.assignment());
            owned.addAll(second.assignment());
            Contract.expect(owned.size() == 4, "both members own a partition: " + owned);
            List<ProducerRecord<String, String>> sent = batch(topic, 0);
            contract.produce(sent);
            drain(both, got, sent.size());
            Contract.same(sent, got);
            GroupType type = contract.admin.listGroups().all().get().stream()
                    .filter(one -> one.groupId().equals(topic)).findFirst().orElseThrow().type().orElseThrow();
            boolean consumers = List.of(protocols).contains("consumer");
            Contract.expect(type == (consumers ? GroupType.CONSUMER : GroupType.CLASSIC), "listed as " + type);
            ConsumerGroupDescription told = contract.admin.describeConsumerGroups(List.of(topic)).all().get().get(topic);
            Contract.expect(told.members().size() == 2, "described as " + told);
            first.commitSync();
            second.commitSync();
            first.close();
            got.clear();
            settle(List.of(second), got, 4);
            List<ProducerRecord<String, String>> more = batch(topic, 1);
            contract.produce(more);
            drain(List.of(second), got, more.size());
            Contract.same(more, got);
            second.commitSync();
        } finally {
            first.close();
        }
        contract.admin.deleteConsumerGroups(List.of(topic)).all().get();
    }

    private static List<ProducerRecord<String, String>> batch(String topic, int round) {
        List<ProducerRecord<String, String>> records = new ArrayList<>();
        for (int i = 0; i < 400; i++) {
            records.add(Transactions.record(topic, i % 4, round + "." + i));
        }
        return records;
    }

    private static void settle(List<KafkaConsumer<String, String>> members, List<ConsumerRecord<String, String>> got, int each)
            throws Exception {
        Contract.until(each + " partitions each", () -> {
            for (KafkaConsumer<String, String> one : members) {
                one.poll(Duration.ofMillis(50)).forEach(got::add);
            }
            return members.stream().allMatch(one -> one.assignment().size() == each);
        });
    }

    private static void drain(List<KafkaConsumer<String, String>> members, List<ConsumerRecord<String, String>> got, int count)
            throws Exception {
        Contract.until(count + " records", () -> {
            for (KafkaConsumer<String, String> one : members) {
                one.poll(Duration.ofMillis(50)).forEach(got::add);
            }
            return got.size() >= count;
        });
    }
}
