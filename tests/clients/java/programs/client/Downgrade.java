import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;

import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** transaction.version is taken back to 1 and raised again while producers live. */
final class Downgrade {
    private static final String FEATURE = "transaction.version";

    private Downgrade() {}

    static void check(Contract contract, String topic) throws Exception {
        int before = contract.feature(FEATURE);
        if (before < 2) {
            throw new Contract.Skipped(FEATURE + " is " + before);
        }
        contract.create(topic, 2);
        List<ProducerRecord<String, String>> committed = new ArrayList<>();
        try (KafkaProducer<String, String> old = Transactions.transactional(contract, topic)) {
            round(old, topic, "before", committed);
            set(contract, 1, FeatureUpdate.UpgradeType.SAFE_DOWNGRADE);
            try {
                // It began at 2, and one more that knows of 1 alone.
                round(old, topic, "old", committed);
                try (KafkaProducer<String, String> young = Transactions.transactional(contract, topic + "-young")) {
                    round(young, topic, "young", committed);
                    round(young, topic, "young again", committed);
                    var told = contract.admin.describeTransactions(List.of(topic + "-young")).all().get();
                    int epoch = told.get(topic + "-young").producerEpoch();
                    Contract.expect(epoch == 0, "at " + FEATURE + " 1 the epoch rose to " + epoch);
                    set(contract, before, FeatureUpdate.UpgradeType.UPGRADE);
                    round(young, topic, "raised", committed);
                }
            } finally {
                if (contract.feature(FEATURE) != before) {
                    set(contract, before, FeatureUpdate.UpgradeType.UPGRADE);
                }
            }
            round(old, topic, "after", committed);
        }
        Contract.same(committed, contract.read(topic, 2, true));
    }

    /** One that is committed and one that is not. */
    private static void round(KafkaProducer<String, String> producer, String topic, String word,
            List<ProducerRecord<String, String>> committed) throws Exception {
        for (boolean commit : new boolean[] {true, false}) {
            List<ProducerRecord<String, String>> batch = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                batch.add(Transactions.record(topic, i % 2, word + " " + commit + i));
            }
            producer.beginTransaction();
            Contract.sendAll(producer, batch);
            if (commit) {
                producer.commitTransaction();
                committed.addAll(batch);
            } else {
                producer.abortTransaction();
            }
        }
    }

    private static void set(Contract contract, int level, FeatureUpdate.UpgradeType how) throws Exception {
        Map<String, FeatureUpdate> wanted = Map.of(FEATURE, new FeatureUpdate((short) level, how));
        try {
            contract.admin.updateFeatures(wanted, new UpdateFeaturesOptions()).all().get();
        } catch (ExecutionException refused) {
            throw new Contract.Skipped(FEATURE + " cannot be set to " + level + ": " + refused.getCause().getMessage());
        }
    }
}
