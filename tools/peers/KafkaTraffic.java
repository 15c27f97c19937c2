/*
 * KafkaTraffic -- Apache's own Java clients, driven from a seed, telling what they did.
 *
 *   java -cp 'jars/*' KafkaTraffic.java produce bootstrap=HOST:PORT topic=NAME seed=N records=N ...
 *   java -cp 'jars/*' KafkaTraffic.java consume bootstrap=HOST:PORT topic=NAME [isolation=LEVEL]
 *   java -cp 'jars/*' KafkaTraffic.java dump    (arguments of kafka.tools.DumpLogSegments)
 *
 * What it promises.  `produce` creates the topic if need be, then sends `records` records in each
 * of these movements, always in the same order and always the same bytes for the same seed:
 *
 *   1. for every codec: a plain producer, then an idempotent one
 *   2. for every codec: a transactional producer that commits and aborts in turn, so that the
 *      partitions hold COMMIT and ABORT markers between the data
 *   3. with leave_open=true: one transaction that is never ended; the process halts inside it
 *
 * The records have what a log must carry: null, empty and long keys and values, none to three
 * headers with null values, repeated and non-ASCII names, explicit timestamps that mostly rise and
 * sometimes fall back.  Where batches begin and end is the client's business and differs from run
 * to run.
 *
 * `produce` and `consume` print one JSON object a line, in the order of sending or reading:
 *
 *   {"partition":0,"offset":7,"timestamp":1700000000123,"key":"6b","value":null,
 *    "headers":[["name","00ff"],["name",null]],"codec":"lz4","outcome":"commit"}
 *
 * Bytes are hex.  `codec` and `outcome` (none, commit, abort, open) are what the producer knows and
 * the consumer does not.  The timestamp is the one the broker answered with, which a LogAppendTime
 * topic changes.
 *
 * `dump` runs Apache's dump tool unchanged with a decoder that prints keys and values as hex; its
 * own string decoder loses every byte that is not UTF-8 and lets a newline in a value pass for the
 * end of a line.
 *
 * What it leaves to others: starting a broker, finding the jars and reading the output (kafka.py).
 * It compiles against both the 3.9 and the 4.2 clients.
 */

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class KafkaTraffic {
    static final String[] CODECS = {"none", "gzip", "snappy", "lz4", "zstd"};

    /** The first timestamp sent: in the past, for brokers refuse the future; fixed, to repeat. */
    static final long FIRST_TIMESTAMP_MS = 1_700_000_000_000L;

    static final Duration POLL = Duration.ofMillis(500);

    /** How long a consumer may see nothing: a hang must become a failure. */
    static final long CONSUME_SILENCE_MS_MAX = 30_000;

    public static void main(String[] args) throws Exception {
        if (args.length == 0) throw new IllegalArgumentException("produce, consume or dump?");
        String mode = args[0];
        if (mode.equals("dump")) {
            dump(args);
            return;
        }
        Map<String, String> options = new HashMap<>();
        for (int i = 1; i < args.length; i++) {
            int split = args[i].indexOf('=');
            if (split < 0) throw new IllegalArgumentException("not name=value: " + args[i]);
            options.put(args[i].substring(0, split), args[i].substring(split + 1));
        }
        switch (mode) {
            case "produce" -> new Produce(options).run();
            case "consume" -> consume(options);
            default -> throw new IllegalArgumentException("unknown mode " + mode);
        }
        System.out.flush();
    }

    /** Prints bytes as hex, so that what DumpLogSegments prints compares byte for byte. */
    public static final class HexDecoder implements org.apache.kafka.tools.api.Decoder<String> {
        @Override
        public String fromBytes(byte[] bytes) {
            return HexFormat.of().formatHex(bytes);
        }
    }

    private static void dump(String[] args) {
        List<String> passed = new ArrayList<>(List.of(args).subList(1, args.length));
        passed.addAll(List.of("--key-decoder-class", HexDecoder.class.getName(),
                              "--value-decoder-class", HexDecoder.class.getName()));
        // Kafka looks classes up through the context loader, and a program launched from its source
        // lives in another.
        Thread.currentThread().setContextClassLoader(HexDecoder.class.getClassLoader());
        try {
            kafka.tools.DumpLogSegments.main(passed.toArray(new String[0]));
            System.out.flush();
        } catch (Throwable died) {
            // Left to itself the launcher cuts its own frames off the trace, and dies of it when
            // there are none.
            System.out.flush();
            died.printStackTrace();
            System.exit(1);
        }
    }

    // ---- producing ------------------------------------------------------------------------------

    private static final class Produce {
        private final Map<String, String> options;
        private final String bootstrap;
        private final String topic;
        private final int partitions;
        private final int records;
        private final Random random;
        private long clockMs = FIRST_TIMESTAMP_MS;

        Produce(Map<String, String> options) {
            this.options = options;
            this.bootstrap = options.get("bootstrap");
            this.topic = options.get("topic");
            this.partitions = Integer.parseInt(options.getOrDefault("partitions", "1"));
            this.records = Integer.parseInt(options.get("records"));
            this.random = new Random(Long.parseLong(options.get("seed")));
        }

        void run() throws Exception {
            createTopic();
            for (String codec : CODECS) {
                for (boolean idempotent : new boolean[] {false, true}) {
                    try (var producer = producer(codec, idempotent, null)) {
                        send(producer, records, codec, "none");
                    }
                }
            }
            if (Boolean.parseBoolean(options.getOrDefault("transactions", "true"))) {
                for (String codec : CODECS) {
                    try (var producer = producer(codec, true, topic + "-" + codec)) {
                        producer.initTransactions();
                        // Several short transactions rather than one long: a marker after each, and
                        // aborted data between committed data.
                        for (int turn = 0; turn < 4; turn++) {
                            boolean commit = turn % 2 == 0;
                            producer.beginTransaction();
                            String outcome = commit ? "commit" : "abort";
                            send(producer, Math.max(1, records / 4), codec, outcome);
                            if (commit) producer.commitTransaction();
                            else producer.abortTransaction();
                        }
                    }
                }
            }
            if (Boolean.parseBoolean(options.getOrDefault("leave_open", "false"))) {
                var producer = producer("lz4", true, topic + "-open");
                producer.initTransactions();
                producer.beginTransaction();
                send(producer, records, "lz4", "open");
                System.out.flush();
                // Closing would abort the transaction; a client that dies leaves it open.
                Runtime.getRuntime().halt(0);
            }
        }

        /** Send `count` records and print each once the broker has told its offset. */
        private void send(KafkaProducer<byte[], byte[]> producer, int count, String codec,
                          String outcome) throws Exception {
            List<ProducerRecord<byte[], byte[]>> sent = new ArrayList<>();
            List<Future<RecordMetadata>> answers = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                ProducerRecord<byte[], byte[]> record = nextRecord();
                sent.add(record);
                answers.add(producer.send(record));
                // A flush now and then gives batches of one record beside batches of many.
                if (random.nextInt(16) == 0) producer.flush();
            }
            producer.flush();
            for (int i = 0; i < count; i++) {
                RecordMetadata metadata = answers.get(i).get();
                ProducerRecord<byte[], byte[]> record = sent.get(i);
                print(metadata.partition(), metadata.offset(), metadata.timestamp(), record.key(),
                      record.value(), record.headers(), codec, outcome);
            }
        }

        private ProducerRecord<byte[], byte[]> nextRecord() {
            byte[] key = bytes(4, 24);
            boolean isLong = random.nextInt(64) == 0;
            byte[] value = isLong ? random(5_000 + random.nextInt(20_000)) : bytes(10, 300);
            List<Header> headers = new ArrayList<>();
            int headerCount = Math.max(0, random.nextInt(6) - 2);
            for (int i = 0; i < headerCount; i++) {
                String name = new String[] {"trace", "trace", "größe", ""}[random.nextInt(4)];
                headers.add(new RecordHeader(name, bytes(4, 20)));
            }
            clockMs += random.nextInt(50);
            long timestampMs = random.nextInt(8) == 0 ? clockMs - random.nextInt(5_000) : clockMs;
            int partition = random.nextInt(partitions);
            return new ProducerRecord<>(topic, partition, timestampMs, key, value, headers);
        }

        /** Null once in `nullOneIn`, else between 0 and `lengthMax` bytes. */
        private byte[] bytes(int nullOneIn, int lengthMax) {
            if (random.nextInt(nullOneIn) == 0) return null;
            int length = random.nextInt(lengthMax + 1);
            // Half of them compressible text, half of them noise: a codec must be seen to do both.
            if (random.nextBoolean()) return random(length);
            StringBuilder text = new StringBuilder();
            while (text.length() < length)
                text.append("stratum-").append(random.nextInt(10)).append('\n');
            text.setLength(length);
            return text.toString().getBytes(StandardCharsets.US_ASCII);
        }

        private byte[] random(int length) {
            byte[] result = new byte[length];
            random.nextBytes(result);
            return result;
        }

        private KafkaProducer<byte[], byte[]> producer(String codec, boolean idempotent,
                                                       String transactionalId) {
            Properties properties = new Properties();
            properties.put("bootstrap.servers", bootstrap);
            properties.put("key.serializer", ByteArraySerializer.class.getName());
            properties.put("value.serializer", ByteArraySerializer.class.getName());
            properties.put("compression.type", codec);
            properties.put("enable.idempotence", Boolean.toString(idempotent));
            properties.put("acks", "all");
            properties.put("linger.ms", "5");
            // One request in flight keeps the offsets of a plain producer in the order of sending.
            properties.put("max.in.flight.requests.per.connection", "1");
            properties.put("delivery.timeout.ms", "60000");
            if (transactionalId != null) properties.put("transactional.id", transactionalId);
            return new KafkaProducer<>(properties);
        }

        private void createTopic() throws Exception {
            Map<String, String> configs = new HashMap<>();
            options.forEach((name, value) -> {
                if (name.startsWith("topic."))
                    configs.put(name.substring("topic.".length()), value);
            });
            NewTopic wanted = new NewTopic(topic, Optional.of(partitions), Optional.of((short) 1));
            wanted.configs(configs);
            try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
                admin.createTopics(List.of(wanted)).all().get();
            } catch (ExecutionException refused) {
                if (!(refused.getCause() instanceof TopicExistsException)) throw refused;
            }
        }
    }

    // ---- consuming ------------------------------------------------------------------------------

    private static void consume(Map<String, String> options) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", options.get("bootstrap"));
        properties.put("key.deserializer", ByteArrayDeserializer.class.getName());
        properties.put("value.deserializer", ByteArrayDeserializer.class.getName());
        properties.put("isolation.level", options.getOrDefault("isolation", "read_uncommitted"));
        properties.put("auto.offset.reset", "none");
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties)) {
            List<TopicPartition> assigned = new ArrayList<>();
            for (PartitionInfo info : consumer.partitionsFor(options.get("topic")))
                assigned.add(new TopicPartition(info.topic(), info.partition()));
            consumer.assign(assigned);
            consumer.seekToBeginning(assigned);
            Map<TopicPartition, Long> ends = consumer.endOffsets(assigned);
            long silentSinceMs = System.currentTimeMillis();
            // The position, not the last record, says when the end is reached: markers and aborted
            // records at the end of a partition are passed over without being handed out.
            while (assigned.stream().anyMatch(one -> consumer.position(one) < ends.get(one))) {
                int count = 0;
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                    count++;
                    print(record.partition(), record.offset(), record.timestamp(), record.key(),
                          record.value(), record.headers(), null, null);
                }
                if (count > 0) silentSinceMs = System.currentTimeMillis();
                else if (System.currentTimeMillis() - silentSinceMs > CONSUME_SILENCE_MS_MAX)
                    throw new IllegalStateException("nothing more comes before the ends " + ends);
            }
        }
    }

    // ---- JSON -----------------------------------------------------------------------------------

    private static void print(int partition, long offset, long timestampMs, byte[] key,
                              byte[] value, Iterable<Header> headers, String codec,
                              String outcome) {
        StringBuilder line = new StringBuilder(256);
        line.append("{\"partition\":").append(partition).append(",\"offset\":").append(offset);
        line.append(",\"timestamp\":").append(timestampMs);
        line.append(",\"key\":").append(hex(key)).append(",\"value\":").append(hex(value));
        line.append(",\"headers\":[");
        String separator = "";
        for (Header header : headers) {
            line.append(separator).append('[').append(quoted(header.key())).append(',')
                .append(hex(header.value())).append(']');
            separator = ",";
        }
        line.append(']');
        if (codec != null) line.append(",\"codec\":").append(quoted(codec));
        if (outcome != null) line.append(",\"outcome\":").append(quoted(outcome));
        System.out.println(line.append('}'));
    }

    private static String hex(byte[] bytes) {
        return bytes == null ? "null" : '"' + HexFormat.of().formatHex(bytes) + '"';
    }

    /** Escapes all but printable ASCII, so that the console's encoding does not matter. */
    private static String quoted(String text) {
        StringBuilder result = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') result.append('\\').append(c);
            else if (c >= ' ' && c < 127) result.append(c);
            else result.append(String.format("\\u%04x", (int) c));
        }
        return result.append('"').toString();
    }
}
