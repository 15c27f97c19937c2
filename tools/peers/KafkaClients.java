/*
 * KafkaClients -- Apache's own Java clients in one process, told line by line what to do.
 *
 *   java -cp 'jars/*' KafkaClients.java HOST:PORT
 *
 * What it promises.  One admin client and one idempotent producer live as long as the process, so
 * that they see a broker go and come back, as an application does.  Each line of the input is a
 * JSON object; it is answered by one line before the next is read:
 *
 *   {"do":"create","topic":"t","partitions":3,"configs":{}}    {"done":null}
 *   {"do":"delete","topic":"t"}                                {"failed":"...Exception: why"}
 *
 *   do        further fields                   what "done" holds
 *   create    topic, partitions, configs       null
 *   grow      topic, partitions                null
 *   delete    topic                            null
 *   topics                                     by name, for each partition [leader, replicas, isr]
 *   cluster                                    [id, controller, [broker, ...]]
 *   alter     kind, name, configs              null; kind: TOPIC or BROKER; value null: as default
 *   configs   kind, name                       what was set dynamically, by key
 *   scram     user, password                   null
 *   scrams                                     names of users with SCRAM credentials
 *   quota     user, key, value                 null
 *   quotas                                     by user, by key
 *   allow     principal, topic, operation      null
 *   acls                                       [[principal, topic, operation], ...]
 *   produce   topic, records                   offsets; records: [[partition, key, value], ...]
 *   consume   topic, group                     [[partition, offset, key, value], ...], since the
 *                                              group's last commit; then the group commits
 *
 * Keys and values are hex.  A client waits for a broker as long as CLIENT_WAITS_MS before it fails.
 * The process ends with its input.
 *
 * Left to others: what to do and what ought to come of it (tests/interop), and the client libraries
 * themselves: they are Apache's, taken as they are.
 */

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class KafkaClients implements AutoCloseable {
    /** How long a client asks again before it gives up: machines may be slow. */
    static final int CLIENT_WAITS_MS = 120_000;

    static final Duration POLL = Duration.ofMillis(200);

    static final ObjectMapper JSON = new ObjectMapper();

    private final String bootstrap;
    private final Admin admin;
    private final KafkaProducer<byte[], byte[]> producer;

    public static void main(String[] args) throws Exception {
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        try (KafkaClients clients = new KafkaClients(args[0])) {
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                Map<String, Object> answer = new HashMap<>();
                try {
                    answer.put("done", clients.run(JSON.readTree(line)));
                } catch (ExecutionException failed) {
                    answer.put("failed", failed.getCause().toString());
                } catch (KafkaException failed) {
                    answer.put("failed", failed.toString());
                }
                System.out.println(JSON.writeValueAsString(answer));
            }
        }
    }

    KafkaClients(String bootstrap) {
        this.bootstrap = bootstrap;
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("default.api.timeout.ms", Integer.toString(CLIENT_WAITS_MS));
        properties.put("request.timeout.ms", Integer.toString(CLIENT_WAITS_MS / 2));
        admin = Admin.create(properties);
        properties.remove("default.api.timeout.ms");
        properties.remove("request.timeout.ms");
        properties.put("max.block.ms", Integer.toString(CLIENT_WAITS_MS));
        properties.put("delivery.timeout.ms", Integer.toString(CLIENT_WAITS_MS));
        properties.put("enable.idempotence", "true");
        properties.put("acks", "all");
        properties.put("linger.ms", "5");
        properties.put("key.serializer", ByteArraySerializer.class.getName());
        properties.put("value.serializer", ByteArraySerializer.class.getName());
        producer = new KafkaProducer<>(properties);
    }

    @Override
    public void close() {
        producer.close(Duration.ZERO);
        admin.close(Duration.ZERO);
    }

    private Object run(JsonNode asked) throws Exception {
        String what = asked.get("do").asText();
        return switch (what) {
            case "create", "grow", "delete" -> changeTopic(what, asked);
            case "topics" -> topics();
            case "cluster" -> cluster();
            case "alter" -> alter(asked);
            case "configs" -> configs(resource(asked));
            case "scram", "scrams", "quota", "quotas" -> users(what, asked);
            case "allow" -> allow(asked);
            case "acls" -> acls();
            case "produce" -> produce(asked);
            case "consume" -> consume(asked);
            default -> throw new IllegalArgumentException("cannot " + what);
        };
    }

    // ---- topics and configuration ---------------------------------------------------------------

    private Object changeTopic(String what, JsonNode asked) throws Exception {
        String topic = asked.get("topic").asText();
        switch (what) {
            case "create" -> {
                Optional<Integer> partitions = Optional.of(asked.get("partitions").asInt());
                NewTopic wanted = new NewTopic(topic, partitions, Optional.of((short) 1));
                Map<String, String> configs = new HashMap<>();
                asked.get("configs").fields().forEachRemaining(
                    one -> configs.put(one.getKey(), one.getValue().asText()));
                admin.createTopics(List.of(wanted.configs(configs))).all().get();
            }
            case "grow" -> {
                NewPartitions wanted = NewPartitions.increaseTo(asked.get("partitions").asInt());
                admin.createPartitions(Map.of(topic, wanted)).all().get();
            }
            default -> admin.deleteTopics(List.of(topic)).all().get();
        }
        return null;
    }

    private Object topics() throws Exception {
        var all = new ListTopicsOptions().listInternal(true);
        Collection<String> names = admin.listTopics(all).names().get();
        Map<String, List<Object>> result = new TreeMap<>();
        for (TopicDescription one : admin.describeTopics(names).allTopicNames().get().values()) {
            List<Object> partitions = new ArrayList<>();
            for (TopicPartitionInfo info : one.partitions()) {
                int leader = info.leader() == null ? -1 : info.leader().id();
                partitions.add(List.of(leader, ids(info.replicas()), ids(info.isr())));
            }
            result.put(one.name(), partitions);
        }
        return result;
    }

    private Object cluster() throws Exception {
        DescribeClusterResult told = admin.describeCluster();
        Node controller = told.controller().get();
        int id = controller == null ? -1 : controller.id();
        return List.of(told.clusterId().get(), id, ids(told.nodes().get()));
    }

    private static List<Integer> ids(Collection<Node> nodes) {
        return nodes.stream().map(Node::id).sorted().toList();
    }

    private static ConfigResource resource(JsonNode asked) {
        var kind = ConfigResource.Type.valueOf(asked.get("kind").asText());
        return new ConfigResource(kind, asked.get("name").asText());
    }

    private Object alter(JsonNode asked) throws Exception {
        Collection<AlterConfigOp> changes = new ArrayList<>();
        asked.get("configs").fields().forEachRemaining(one -> {
            boolean unset = one.getValue().isNull();
            ConfigEntry entry = new ConfigEntry(one.getKey(), unset ? "" : one.getValue().asText());
            var how = unset ? AlterConfigOp.OpType.DELETE : AlterConfigOp.OpType.SET;
            changes.add(new AlterConfigOp(entry, how));
        });
        admin.incrementalAlterConfigs(Map.of(resource(asked), changes)).all().get();
        return null;
    }

    private Object configs(ConfigResource resource) throws Exception {
        Map<String, String> result = new TreeMap<>();
        var told = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        for (ConfigEntry entry : told.entries())
            if (entry.source().name().startsWith("DYNAMIC"))
                result.put(entry.name(), entry.value());
        return result;
    }

    // ---- users and their rights -----------------------------------------------------------------

    private Object users(String what, JsonNode asked) throws Exception {
        switch (what) {
            case "scram" -> {
                var how = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096);
                var wanted = new UserScramCredentialUpsertion(
                    asked.get("user").asText(), how, asked.get("password").asText());
                admin.alterUserScramCredentials(List.of(wanted)).all().get();
                return null;
            }
            case "scrams" -> {
                return admin.describeUserScramCredentials().all().get().keySet();
            }
            case "quota" -> {
                var who = Map.of(ClientQuotaEntity.USER, asked.get("user").asText());
                var change = new ClientQuotaAlteration.Op(
                    asked.get("key").asText(), asked.get("value").asDouble());
                var wanted = new ClientQuotaAlteration(
                    new ClientQuotaEntity(who), List.of(change));
                admin.alterClientQuotas(List.of(wanted)).all().get();
                return null;
            }
            default -> {
                Map<String, Object> result = new TreeMap<>();
                admin.describeClientQuotas(ClientQuotaFilter.all()).entities().get().forEach(
                    (who, quotas) -> result.put(
                        who.entries().get(ClientQuotaEntity.USER), new TreeMap<>(quotas)));
                return result;
            }
        }
    }

    private Object allow(JsonNode asked) throws Exception {
        var topic = new ResourcePattern(
            ResourceType.TOPIC, asked.get("topic").asText(), PatternType.LITERAL);
        var entry = new AccessControlEntry(
            asked.get("principal").asText(), "*",
            AclOperation.valueOf(asked.get("operation").asText()), AclPermissionType.ALLOW);
        admin.createAcls(List.of(new AclBinding(topic, entry))).all().get();
        return null;
    }

    private Object acls() throws Exception {
        List<Object> result = new ArrayList<>();
        for (AclBinding one : admin.describeAcls(AclBindingFilter.ANY).values().get())
            result.add(List.of(one.entry().principal(), one.pattern().name(),
                               one.entry().operation().name()));
        return result;
    }

    // ---- records --------------------------------------------------------------------------------

    private Object produce(JsonNode asked) throws Exception {
        String topic = asked.get("topic").asText();
        List<Future<RecordMetadata>> answers = new ArrayList<>();
        for (JsonNode record : asked.get("records"))
            answers.add(producer.send(new ProducerRecord<>(
                topic, record.get(0).asInt(), bytes(record.get(1)), bytes(record.get(2)))));
        producer.flush();
        List<Long> offsets = new ArrayList<>();
        for (Future<RecordMetadata> answer : answers) offsets.add(answer.get().offset());
        return offsets;
    }

    private static byte[] bytes(JsonNode hex) {
        return HexFormat.of().parseHex(hex.asText());
    }

    private Object consume(JsonNode asked) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("default.api.timeout.ms", Integer.toString(CLIENT_WAITS_MS));
        properties.put("key.deserializer", ByteArrayDeserializer.class.getName());
        properties.put("value.deserializer", ByteArrayDeserializer.class.getName());
        properties.put("group.id", asked.get("group").asText());
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "none");
        List<Object> result = new ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties)) {
            List<TopicPartition> assigned = partitions(consumer, asked.get("topic").asText());
            consumer.assign(assigned);
            Map<TopicPartition, Long> begins = consumer.beginningOffsets(assigned);
            Map<TopicPartition, OffsetAndMetadata> committed =
                consumer.committed(new HashSet<>(assigned));
            for (TopicPartition one : assigned) {
                OffsetAndMetadata told = committed.get(one);
                consumer.seek(one, told == null ? begins.get(one) : told.offset());
            }
            Map<TopicPartition, Long> ends = consumer.endOffsets(assigned);
            long silentSinceMs = System.currentTimeMillis();
            while (assigned.stream().anyMatch(one -> consumer.position(one) < ends.get(one))) {
                int before = result.size();
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL))
                    result.add(List.of(record.partition(), record.offset(), hex(record.key()),
                                       hex(record.value())));
                if (result.size() > before) silentSinceMs = System.currentTimeMillis();
                else if (System.currentTimeMillis() - silentSinceMs > CLIENT_WAITS_MS)
                    throw new IllegalStateException("nothing more comes before the ends " + ends);
            }
            consumer.commitSync();
        }
        return result;
    }

    /** Return a topic's partitions; a broker that has just come up may not have heard of them. */
    private static List<TopicPartition> partitions(KafkaConsumer<byte[], byte[]> consumer,
                                                   String topic) throws InterruptedException {
        long end = System.currentTimeMillis() + CLIENT_WAITS_MS;
        List<PartitionInfo> told = consumer.partitionsFor(topic);
        while (told.isEmpty()) {
            if (System.currentTimeMillis() > end)
                throw new KafkaException("no partitions of " + topic);
            Thread.sleep(POLL.toMillis());
            told = consumer.partitionsFor(topic);
        }
        return told.stream().map(one -> new TopicPartition(one.topic(), one.partition())).toList();
    }

    private static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes);
    }
}
