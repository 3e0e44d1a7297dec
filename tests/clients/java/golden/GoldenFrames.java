import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.ConsumerProtocolAssignment;
import org.apache.kafka.common.message.ConsumerProtocolSubscription;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.ObjectSerializationCache;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.SimpleRecord;
import org.apache.kafka.coordinator.group.generated.GroupMetadataKey;
import org.apache.kafka.coordinator.group.generated.GroupMetadataValue;
import org.apache.kafka.coordinator.group.generated.OffsetCommitKey;
import org.apache.kafka.coordinator.group.generated.OffsetCommitValue;
import org.apache.kafka.coordinator.transaction.generated.TransactionLogKey;
import org.apache.kafka.coordinator.transaction.generated.TransactionLogValue;

/**
 * Prints frames as Apache Kafka's own classes serialise them, a line each: name, kind, version, how it is
 * filled, bytes in hex. "filled" sets every field of the version to a value of its own; "default" sets none.
 * The arguments are served.txt and unserved.txt in protocol/kafka; of the latter there are bodies alone, as data.
 */
public class GoldenFrames {
    private long next;

    public static void main(String[] args) throws Exception {
        for (String line : Files.readAllLines(Path.of(args[0]))) {
            if (!line.isBlank() && !line.startsWith("#")) {
                String[] words = line.split(" ");
                String[] served = words[2].split("-");
                api(ApiKeys.forId(Integer.parseInt(words[0])), Short.parseShort(served[0]), Short.parseShort(served[1]));
            }
        }
        for (Message message : List.of(
                new ConsumerProtocolSubscription(), new ConsumerProtocolAssignment(), new GroupMetadataKey(),
                new GroupMetadataValue(), new OffsetCommitKey(), new OffsetCommitValue(), new TransactionLogKey(),
                new TransactionLogValue())) {
            data(message.getClass());
        }
        for (String line : Files.readAllLines(Path.of(args[1]))) {
            if (!line.isBlank() && !line.startsWith("#")) {
                ApiKeys key = ApiKeys.forId(Integer.parseInt(line.split(" ")[0]));
                data(key.messageType.newRequest().getClass());
                data(key.messageType.newResponse().getClass());
            }
        }
    }

    private static void api(ApiKeys key, short min, short max) throws Exception {
        short lowest = key.messageType.lowestSupportedVersion();
        short highest = key.messageType.highestSupportedVersion(true);
        for (short version = (short) Math.max(min, lowest); version <= Math.min(max, highest); version++) {
            for (boolean filled : new boolean[] {true, false}) {
                GoldenFrames values = new GoldenFrames();
                RequestHeaderData header = new RequestHeaderData()
                    .setRequestApiKey(key.id).setRequestApiVersion(version).setCorrelationId(7).setClientId("golden");
                Message request = (Message) key.messageType.newRequest();
                if (filled) {
                    values.fill(request, version);
                }
                print(key.name, "request", version, filled,
                    bytes(header, key.requestHeaderVersion(version)), bytes(request, version));
                Message response = (Message) key.messageType.newResponse();
                if (filled) {
                    values.fill(response, version);
                }
                print(key.name, "response", version, filled,
                    bytes(new ResponseHeaderData().setCorrelationId(7), key.responseHeaderVersion(version)),
                    bytes(response, version));
            }
        }
    }

    private static void data(Class<? extends Message> type) throws Exception {
        Message first = type.getDeclaredConstructor().newInstance();
        for (short version = first.lowestSupportedVersion(); version <= first.highestSupportedVersion(); version++) {
            Message message = type.getDeclaredConstructor().newInstance();
            new GoldenFrames().fill(message, version);
            // In front of a record's key stands its type, which counts on from what was once a version.
            boolean isKey = type.getSimpleName().endsWith("Key");
            short prefix = isKey ? ((ApiMessage) message).apiKey() : version;
            byte[] head = ByteBuffer.allocate(2).putShort(prefix).array();
            // A body's class is named after its data.
            print(type.getSimpleName().replaceAll("(Request|Response)Data$", "$1"), "data", prefix, true, head, bytes(message, version));
        }
    }

    private static void print(String name, String kind, short version, boolean filled, byte[] head, byte[] body) {
        HexFormat hex = HexFormat.of();
        String how = filled ? "filled" : "default";
        System.out.println(name + " " + kind + " " + version + " " + how + " " + hex.formatHex(head) + hex.formatHex(body));
    }

    private static byte[] bytes(Message message, short version) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBuffer buffer = ByteBuffer.allocate(message.size(cache, version));
        message.write(new ByteBufferAccessor(buffer), cache, version);
        return buffer.array();
    }

    /** The fields that a version has, by their names in the schema. */
    private static Set<String> present(Class<?> type, short version) throws Exception {
        Schema[] schemas = (Schema[]) type.getField("SCHEMAS").get(null);
        Set<String> names = new TreeSet<>();
        for (BoundField field : schemas[version].fields()) {
            if (field.def.type instanceof TaggedFields tagged) {
                tagged.fields().values().forEach(inner -> names.add(inner.name));
            } else {
                names.add(field.def.name);
            }
        }
        return names;
    }

    private static String snake(String name) {
        return name.replaceAll("([A-Z])", "_$1").toLowerCase();
    }

    private void fill(Object message, short version) throws Exception {
        Set<String> names = present(message.getClass(), version);
        for (Field field : message.getClass().getDeclaredFields()) {
            if (Modifier.isStatic(field.getModifiers()) || !names.contains(snake(field.getName()))) {
                continue;
            }
            field.setAccessible(true);
            field.set(message, value(field, version));
        }
    }

    private Object value(Field field, short version) throws Exception {
        Class<?> type = field.getType();
        if (!Collection.class.isAssignableFrom(type)) {
            return one(type, version);
        }
        Collection<Object> items;
        Class<?> item;
        if (type == List.class) {
            items = new ArrayList<>();
            item = (Class<?>) ((ParameterizedType) field.getGenericType()).getActualTypeArguments()[0];
        } else {
            Constructor<?> constructor = type.getDeclaredConstructor();
            @SuppressWarnings("unchecked")
            Collection<Object> made = (Collection<Object>) constructor.newInstance();
            items = made;
            Type base = type.getGenericSuperclass();
            item = (Class<?>) ((ParameterizedType) base).getActualTypeArguments()[0];
        }
        items.add(one(item, version));
        items.add(one(item, version));
        return items;
    }

    private Object one(Class<?> type, short version) throws Exception {
        next++;
        if (type == String.class) {
            return "text-" + next + "-\u00fc";
        } else if (type == boolean.class || type == Boolean.class) {
            return true;
        } else if (type == byte.class || type == Byte.class) {
            return (byte) (next % 120 + 2);
        } else if (type == short.class || type == Short.class) {
            return (short) (next + 300);
        } else if (type == int.class || type == Integer.class) {
            return (int) (next + 70_000);
        } else if (type == long.class || type == Long.class) {
            return next + (1L << 40);
        } else if (type == Uuid.class) {
            return new Uuid(next, ~next);
        } else if (type == byte[].class) {
            return ("bytes-" + next).getBytes(StandardCharsets.UTF_8);
        } else if (type == ByteBuffer.class) {
            return ByteBuffer.wrap(("buffer-" + next).getBytes(StandardCharsets.UTF_8));
        } else if (type.getSimpleName().equals("BaseRecords")) {
            return MemoryRecords.withRecords(Compression.NONE, new SimpleRecord(1_000L, ("value-" + next).getBytes()));
        }
        Object inner = type.getDeclaredConstructor().newInstance();
        fill(inner, version);
        return inner;
    }
}
