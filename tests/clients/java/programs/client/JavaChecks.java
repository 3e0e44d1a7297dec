import java.util.LinkedHashMap;
import java.util.Map;

/** Kafka's own Java client. */
public final class JavaChecks {
    private JavaChecks() {}

    public static void main(String[] args) throws Exception {
        Map<String, Contract.Check> checks = new LinkedHashMap<>(Transactions.checks());
        checks.put("copy-classic", Copier.check("classic"));
        checks.put("copy-consumer", Copier.check("consumer"));
        checks.put("group-classic", Groups.check("classic"));
        checks.put("group-consumer", Groups.check("consumer"));
        checks.put("group-of-both", Groups.check("classic", "consumer"));
        checks.put("downgrade", Downgrade::check);
        new Contract(args).run(checks);
    }
}
