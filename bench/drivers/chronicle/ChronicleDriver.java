/*
 * ChronicleDriver: runs one workload of the benchmark harness on a Chronicle Queue.
 *
 *   java ... ChronicleDriver --dir D --payload FILE --record-bytes N --records N --batch-records N
 *        --durability process|group|record --operation append|scan|scan_touched|lookup
 *        [--lookups FILE] [--rounds N] [--warmup-seconds S]
 *
 * It promises one line of JSON per measured round on standard output: wall seconds and process CPU
 * seconds around the workload alone, records, bytes, and the CRC-32 of every payload byte read
 * back. The CPU time is that of the whole process, so the compiler and the collector of the JVM are
 * counted when they work during a round; the JVM reads it in steps of 10 ms.
 *
 * Before the first round the same loop runs on a queue of its own for --warmup-seconds, so that
 * what is measured is compiled code. Each round then appends to a fresh queue. Reads come from one
 * filled queue.
 *
 * Durability: "process" is the queue's default (stores into a mapped file, never synced). "group"
 * and "record" build the queue with SyncMode.SYNC and call appender.sync() after each batch.
 * Records are the pool of --payload over and over. Chronicle Queue appends one excerpt at a time; a
 * batch is that many single appends. It stores no checksum.
 *
 * What it leaves to others: making the payload and the order of the lookups, interleaving, and
 * every comparison.
 */
import com.sun.management.OperatingSystemMXBean;
import java.io.File;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Stream;
import java.util.zip.CRC32;
import net.openhft.chronicle.bytes.Bytes;
import net.openhft.chronicle.bytes.SyncMode;
import net.openhft.chronicle.queue.ChronicleQueue;
import net.openhft.chronicle.queue.ExcerptAppender;
import net.openhft.chronicle.queue.ExcerptTailer;
import net.openhft.chronicle.queue.impl.single.SingleChronicleQueueBuilder;
import net.openhft.chronicle.wire.DocumentContext;

public final class ChronicleDriver {
    private final Path dir;
    private final int recordBytes;
    private final long records;
    private final long batchRecords;
    private final boolean synced;
    private final String operation;
    private final Bytes<?>[] pool;
    private final long[] lookups;

    /** The reads' results end here, so that the compiler cannot drop a read. */
    private long readBytes;

    private long readRecords;

    private ChronicleDriver(Map<String, String> options) throws IOException {
        dir = Path.of(options.get("dir"));
        recordBytes = Integer.parseInt(options.get("record-bytes"));
        records = Long.parseLong(options.get("records"));
        batchRecords = Long.parseLong(options.get("batch-records"));
        synced = !options.get("durability").equals("process");
        operation = options.get("operation");
        byte[] bytes = Files.readAllBytes(Path.of(options.get("payload")));
        pool = new Bytes<?>[bytes.length / recordBytes];
        for (int i = 0; i < pool.length; i++) {
            pool[i] = Bytes.allocateDirect(recordBytes);
            pool[i].write(bytes, i * recordBytes, recordBytes);
        }
        if (options.containsKey("lookups")) {
            byte[] file = Files.readAllBytes(Path.of(options.get("lookups")));
            ByteBuffer words = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN);
            lookups = new long[words.remaining() / Long.BYTES];
            words.asLongBuffer().get(lookups);
        } else {
            lookups = new long[0];
        }
    }

    private ChronicleQueue open(String name) {
        return SingleChronicleQueueBuilder.binary(dir.resolve(name))
                .syncMode(synced ? SyncMode.SYNC : SyncMode.NONE)
                .build();
    }

    private void append(ExcerptAppender appender, long count) {
        int next = 0;
        long unsynced = 0;
        for (long i = 0; i < count; i++) {
            appender.writeBytes(pool[next]);
            next = next + 1 == pool.length ? 0 : next + 1;
            if (synced && ++unsynced == batchRecords) {
                appender.sync();
                unsynced = 0;
            }
        }
    }

    /** Appends as append does and notes the index of each record, to fill a queue for reads. */
    private long[] appendNotingIndexes(ExcerptAppender appender) {
        long[] indexes = new long[Math.toIntExact(records)];
        for (int i = 0; i < indexes.length; i++) {
            appender.writeBytes(pool[i % pool.length]);
            indexes[i] = appender.lastIndexAppended();
        }
        return indexes;
    }

    /** Hands every record over in place, without a copy. */
    private void scan(ExcerptTailer tailer) {
        tailer.toStart();
        long count = 0;
        long total = 0;
        while (true) {
            try (DocumentContext document = tailer.readingDocument()) {
                if (!document.isPresent()) {
                    break;
                }
                total += document.wire().bytes().readRemaining();
                count++;
            }
        }
        readRecords = count;
        readBytes = total;
    }

    private long scanTouched(ExcerptTailer tailer, Bytes<ByteBuffer> sink) {
        tailer.toStart();
        CRC32 crc = new CRC32();
        long count = 0;
        long total = 0;
        while (true) {
            sink.clear();
            if (!tailer.readBytes(sink)) {
                break;
            }
            total += update(crc, sink);
            count++;
        }
        readRecords = count;
        readBytes = total;
        return crc.getValue();
    }

    private static long update(CRC32 crc, Bytes<ByteBuffer> sink) {
        ByteBuffer buffer = sink.underlyingObject();
        int length = (int) sink.readRemaining();
        buffer.limit(length).position(0);
        crc.update(buffer);
        return length;
    }

    private void lookup(ExcerptTailer tailer, long[] indexes) {
        long total = 0;
        for (long offset : lookups) {
            if (!tailer.moveToIndex(indexes[(int) offset])) {
                throw new IllegalStateException("record " + offset + " is not there");
            }
            try (DocumentContext document = tailer.readingDocument()) {
                total += document.wire().bytes().readRemaining();
            }
        }
        readRecords = lookups.length;
        readBytes = total;
    }

    private long lookupTouched(ExcerptTailer tailer, long[] indexes, Bytes<ByteBuffer> sink) {
        CRC32 crc = new CRC32();
        for (long offset : lookups) {
            tailer.moveToIndex(indexes[(int) offset]);
            sink.clear();
            tailer.readBytes(sink);
            update(crc, sink);
        }
        return crc.getValue();
    }

    private static double cpuSeconds() {
        return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean())
                        .getProcessCpuTime()
                / 1e9;
    }

    private void print(int round, double seconds, double cpuSeconds, long crc) {
        System.out.println(
                String.format(
                        Locale.ROOT,
                        "{\"round\": %d, \"seconds\": %.9f, \"cpu_seconds\": %.9f,"
                                + " \"records\": %d, \"bytes\": %d, \"payload_crc32\": %d}",
                        round,
                        seconds,
                        cpuSeconds,
                        readRecords,
                        readBytes,
                        crc));
    }

    private static void delete(Path path) throws IOException {
        try (Stream<Path> paths = Files.walk(path)) {
            paths.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
        }
    }

    private void runAppends(int rounds, double warmupSeconds) throws IOException {
        long warmEnd = System.nanoTime() + (long) (warmupSeconds * 1e9);
        try (ChronicleQueue queue = open("warmup");
                ExcerptAppender appender = queue.createAppender()) {
            // A bounded piece at a time, and a bounded sum, so that warming up fills no disk.
            long wanted = Math.min(records, synced ? 64 : 100_000);
            long piece = Math.max(batchRecords, wanted / batchRecords * batchRecords);
            long bytesLeft = 1L << 30;
            while (System.nanoTime() < warmEnd && bytesLeft > 0) {
                append(appender, piece);
                bytesLeft -= piece * recordBytes;
            }
        }
        delete(dir.resolve("warmup"));
        Bytes<ByteBuffer> sink = Bytes.elasticByteBuffer(recordBytes);
        for (int round = 0; round < rounds; round++) {
            String name = "round-" + round;
            try (ChronicleQueue queue = open(name)) {
                double seconds;
                double cpu;
                try (ExcerptAppender appender = queue.createAppender()) {
                    double cpuStart = cpuSeconds();
                    long start = System.nanoTime();
                    append(appender, records);
                    seconds = (System.nanoTime() - start) / 1e9;
                    cpu = cpuSeconds() - cpuStart;
                }
                try (ExcerptTailer tailer = queue.createTailer()) {
                    long crc = scanTouched(tailer, sink);
                    print(round, seconds, cpu, crc);
                }
            }
            delete(dir.resolve(name));
        }
    }

    private void runReads(int rounds, double warmupSeconds) {
        Bytes<ByteBuffer> sink = Bytes.elasticByteBuffer(recordBytes);
        try (ChronicleQueue queue = open("filled")) {
            long[] indexes;
            try (ExcerptAppender appender = queue.createAppender()) {
                indexes = appendNotingIndexes(appender);
            }
            try (ExcerptTailer tailer = queue.createTailer()) {
                long warmEnd = System.nanoTime() + (long) (warmupSeconds * 1e9);
                do {
                    read(tailer, indexes, sink);
                } while (System.nanoTime() < warmEnd);
                for (int round = 0; round < rounds; round++) {
                    double cpuStart = cpuSeconds();
                    long start = System.nanoTime();
                    long crc = read(tailer, indexes, sink);
                    double seconds = (System.nanoTime() - start) / 1e9;
                    double cpu = cpuSeconds() - cpuStart;
                    long measuredRecords = readRecords;
                    long measuredBytes = readBytes;
                    if (operation.equals("scan")) {
                        crc = scanTouched(tailer, sink);
                    } else if (operation.equals("lookup")) {
                        crc = lookupTouched(tailer, indexes, sink);
                    }
                    readRecords = measuredRecords;
                    readBytes = measuredBytes;
                    print(round, seconds, cpu, crc);
                }
            }
        }
    }

    private long read(ExcerptTailer tailer, long[] indexes, Bytes<ByteBuffer> sink) {
        switch (operation) {
            case "scan" -> scan(tailer);
            case "scan_touched" -> {
                return scanTouched(tailer, sink);
            }
            case "lookup" -> lookup(tailer, indexes);
            default -> throw new IllegalArgumentException("unknown operation " + operation);
        }
        return 0;
    }

    public static void main(String[] arguments) throws IOException {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            if (!arguments[i].startsWith("--")) {
                throw new IllegalArgumentException("expected an option, found " + arguments[i]);
            }
            options.put(arguments[i].substring(2), arguments[i + 1]);
        }
        int rounds = Integer.parseInt(options.getOrDefault("rounds", "1"));
        double warmupSeconds = Double.parseDouble(options.getOrDefault("warmup-seconds", "3"));
        ChronicleDriver driver = new ChronicleDriver(options);
        if (driver.operation.equals("append")) {
            driver.runAppends(rounds, warmupSeconds);
        } else {
            driver.runReads(rounds, warmupSeconds);
        }
    }
}
