/*
 * Apache ZooKeeper's own classes at work on files and records: an oracle for ours.
 *
 *   records            lines "CLASS HEX" from standard input; each is read by that class of Apache's
 *                      and written again: "ok HEX TEXT" or "error REASON"
 *   write DIR SEED     a data directory as its server leaves one: transaction logs, two snapshots
 *   read DIR           what its server would find there: sessions, znodes, digest
 *   log DIR            what its iterator finds in the transaction logs
 *
 * Text goes out as one item a line, fields apart by tabs, bytes in hex.
 */

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.jute.BinaryInputArchive;
import org.apache.jute.BinaryOutputArchive;
import org.apache.jute.Record;
import org.apache.zookeeper.ZooDefs.OpCode;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.server.DataNode;
import org.apache.zookeeper.server.DataTree;
import org.apache.zookeeper.server.Request;
import org.apache.zookeeper.server.persistence.FileTxnLog;
import org.apache.zookeeper.server.persistence.FileTxnSnapLog;
import org.apache.zookeeper.server.persistence.TxnLog;
import org.apache.zookeeper.txn.CloseSessionTxn;
import org.apache.zookeeper.txn.CreateContainerTxn;
import org.apache.zookeeper.txn.CreateSessionTxn;
import org.apache.zookeeper.txn.CreateTTLTxn;
import org.apache.zookeeper.txn.CreateTxn;
import org.apache.zookeeper.txn.DeleteTxn;
import org.apache.zookeeper.txn.ErrorTxn;
import org.apache.zookeeper.txn.MultiTxn;
import org.apache.zookeeper.txn.SetACLTxn;
import org.apache.zookeeper.txn.SetDataTxn;
import org.apache.zookeeper.txn.Txn;
import org.apache.zookeeper.txn.TxnDigest;
import org.apache.zookeeper.txn.TxnHeader;

public final class ZooKeeperFiles {
    private static final HexFormat HEX = HexFormat.of();
    private static final int DIGEST_VERSION = 2;

    public static void main(String[] arguments) throws Exception {
        switch (arguments.length == 0 ? "" : arguments[0]) {
            case "records" -> records();
            case "write" -> write(new File(arguments[1]), Long.parseLong(arguments[2]));
            case "read" -> read(new File(arguments[1]));
            case "log" -> log(new File(arguments[1]));
            default -> throw new IllegalArgumentException("records, write DIR SEED, read DIR, log DIR");
        }
    }

    // ---- records ----

    private static byte[] bytesOf(Record record) throws Exception {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        record.serialize(BinaryOutputArchive.getArchive(out), "record");
        return out.toByteArray();
    }

    private static void records() throws Exception {
        BufferedReader lines =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ", -1);
            try {
                Record record =
                    (Record) Class.forName("org.apache.zookeeper." + words[0]).getDeclaredConstructor().newInstance();
                ByteArrayInputStream in = new ByteArrayInputStream(HEX.parseHex(words[1]));
                record.deserialize(BinaryInputArchive.getArchive(in), "record");
                if (in.available() != 0) {
                    System.out.println("error " + in.available() + " bytes follow");
                    continue;
                }
                String text = record.toString().replace("\n", " ");
                System.out.println("ok " + HEX.formatHex(bytesOf(record)) + " " + text);
            } catch (Exception error) {
                System.out.println("error " + error);
            }
        }
    }

    // ---- a directory, written ----

    private static final class Writer {
        private final DataTree tree = new DataTree();
        private final ConcurrentHashMap<Long, Integer> sessions = new ConcurrentHashMap<>();
        private final FileTxnSnapLog files;
        private final Random random;
        private long zxid = 0x100000000L;

        Writer(File directory, long seed) throws Exception {
            files = new FileTxnSnapLog(directory, directory);
            random = new Random(seed);
        }

        void apply(long session, int type, Record body) throws Exception {
            zxid++;
            TxnHeader header = new TxnHeader(session, (int) zxid, zxid, 1_700_000_000_000L + (zxid & 0xffff), type);
            tree.processTxn(header, body);
            Request request = new Request(session, header.getCxid(), type, header, body, zxid);
            request.setTxnDigest(new TxnDigest(DIGEST_VERSION, tree.getTreeDigest()));
            files.append(request);
        }

        byte[] data() {
            byte[] bytes = new byte[random.nextInt(200)];
            random.nextBytes(bytes);
            return bytes;
        }

        void snapshot() throws Exception {
            files.commit();
            files.save(tree, sessions, true);
            files.rollLog();
        }
    }

    private static List<ACL> acl(int which) {
        return switch (which % 3) {
            case 0 -> List.of(new ACL(31, new Id("world", "anyone")));
            case 1 -> List.of(new ACL(1, new Id("world", "anyone")), new ACL(31, new Id("digest", "a:b=")));
            default -> List.of(new ACL(7, new Id("ip", "10.0.0.0/8")));
        };
    }

    private static void write(File directory, long seed) throws Exception {
        Writer writer = new Writer(directory, seed);
        long session = 0x100000000000001L;
        writer.sessions.put(session, 10000);
        writer.apply(session, OpCode.createSession, new CreateSessionTxn(10000));
        List<String> paths = new ArrayList<>();
        for (int i = 0; i < 40; i++) {
            String parent = i < 5 ? "" : paths.get(writer.random.nextInt(5));
            String path = parent + "/n\u00e9" + i;
            paths.add(path);
            boolean ephemeral = i >= 5 && i % 7 == 0;
            int cversion = i < 5 ? i + 1 : i;
            switch (i % 9) {
                case 6 -> writer.apply(session, OpCode.createContainer,
                    new CreateContainerTxn(path, writer.data(), acl(i), cversion));
                case 8 -> writer.apply(session, OpCode.createTTL,
                    new CreateTTLTxn(path, writer.data(), acl(i), cversion, 1000L + i));
                default -> writer.apply(session, i % 2 == 0 ? OpCode.create : OpCode.create2,
                    new CreateTxn(path, i == 10 ? null : writer.data(), acl(i), ephemeral, cversion));
            }
            if (i == 20) {
                writer.snapshot();
            }
        }
        for (int i = 5; i < 40; i += 4) {
            writer.apply(session, OpCode.setData, new SetDataTxn(paths.get(i), writer.data(), 1));
        }
        writer.apply(session, OpCode.setACL, new SetACLTxn(paths.get(6), acl(1), 1));
        writer.apply(session, OpCode.error, new ErrorTxn(-101));
        writer.apply(session, OpCode.multi, new MultiTxn(List.of(
            new Txn(OpCode.create, bytesOf(new CreateTxn("/multi", new byte[] {1}, acl(0), false, 6))),
            new Txn(OpCode.setData, bytesOf(new SetDataTxn(paths.get(5), new byte[] {2}, 2))),
            new Txn(OpCode.delete, bytesOf(new DeleteTxn(paths.get(39)))))));
        writer.apply(session, OpCode.delete, new DeleteTxn(paths.get(38)));
        writer.snapshot();
        writer.sessions.remove(session);
        List<String> gone = new ArrayList<>(new TreeSet<>(writer.tree.getEphemerals(session)));
        writer.apply(session, OpCode.closeSession, new CloseSessionTxn(gone));
        writer.files.commit();
        writer.files.close();
        print(writer.tree, writer.sessions, writer.zxid);
    }

    // ---- and read ----

    private static void read(File directory) throws Exception {
        DataTree tree = new DataTree();
        ConcurrentHashMap<Long, Integer> sessions = new ConcurrentHashMap<>();
        FileTxnSnapLog files = new FileTxnSnapLog(directory, directory);
        long zxid = files.restore(tree, sessions, (header, record, digest) -> { });
        files.close();
        print(tree, sessions, zxid);
    }

    private static void print(DataTree tree, Map<Long, Integer> sessions, long zxid) throws Exception {
        System.out.println("zxid\t" + zxid + "\tdigest\t" + tree.getTreeDigest());
        for (long session : new TreeSet<>(sessions.keySet())) {
            System.out.println("session\t" + session + "\t" + sessions.get(session));
        }
        walk(tree, "/");
    }

    private static void walk(DataTree tree, String path) throws Exception {
        DataNode node = tree.getNode(path);
        byte[] data = node.getData();
        StringBuilder entries = new StringBuilder();
        for (ACL entry : tree.getACL(node)) {
            entries.append(HEX.formatHex(bytesOf(entry)));
        }
        System.out.println("node\t" + path + "\t" + (data == null ? "null" : HEX.formatHex(data)) + "\t"
            + entries + "\t" + HEX.formatHex(bytesOf(node.stat)));
        for (String child : new TreeSet<>(node.getChildren())) {
            walk(tree, path.equals("/") ? "/" + child : path + "/" + child);
        }
    }

    private static void log(File directory) throws Exception {
        try (TxnLog.TxnIterator records = new FileTxnLog.FileTxnIterator(new File(directory, "version-2"), 0, false)) {
            while (records.getHeader() != null) {
                TxnHeader header = records.getHeader();
                TxnDigest digest = records.getDigest();
                System.out.println("txn\t" + HEX.formatHex(bytesOf(header)) + "\t"
                    + HEX.formatHex(bytesOf(records.getTxn())) + "\t"
                    + (digest == null ? "null" : HEX.formatHex(bytesOf(digest))));
                if (!records.next()) {
                    break;
                }
            }
        }
    }
}
