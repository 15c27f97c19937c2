/* torn.c -- row 5: the last 64 KiB of a log torn at every byte, in four ways.
 *
 *   torn DIRECTORY SEED STEP
 *
 *   cut       the file ends at the byte
 *   zeros     it goes on with zeros, as reserved space does
 *   garbage   it goes on with random bytes
 *   stale     it goes on with older batches of the same log, as a recycled block would: whole ones,
 *             which begin exactly at the tear when a batch ended there
 *
 * A batch survives if none of its bytes differ, and so do all before it: that count, made here from
 * the bytes alone, is what recovery must find.  Each state is opened as a writer and read; then one
 * record is appended, the process "crashes" (the handle is abandoned) and a second open must find
 * that record and nothing behind it.  Only the records below the tear's region are durable.
 *
 * All in one process, since there are 262,144 states: STEP tries every STEP-th byte, with a random
 * phase.  Prints "trials FIRED FAILURES" and a line per failure. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>

#include "facts.h"

enum { REGION = 64 << 10, BATCHES_MAX = 4096, WAYS = 4, FAILURES_MAX = 20 };
static const char *const ways[WAYS] = {"cut", "zeros", "garbage", "stale"};
static const int64_t nonce = (INT64_C(77) << 16) | 700;

typedef struct image {
    uint8_t *bytes;
    int64_t length;
    int64_t starts[BATCHES_MAX + 1]; /* positions of batches, and the end */
    int64_t offsets[BATCHES_MAX + 1];
    int batches;
} image;

static int64_t failures;

static void report(const char *way, int64_t tear, const char *what, int64_t got, int64_t expected) {
    failures++;
    printf("%s at %lld: %s: %lld, expected %lld; last error %s: %s\n", way, (long long)tear, what,
           (long long)got, (long long)expected, sl_status_name(sl_last_error()->status),
           sl_last_error()->message);
}

static sl_log *open_log(const char *directory, int32_t flags) {
    sl_options options;
    sl_options_default(&options);
    options.flags = flags;
    options.segment_bytes = 512 << 10;
    options.batch_bytes = 2048;
    sl_log *log;
    return sl_log_open(directory, &options, &log) == SL_OK ? log : NULL;
}

static bool append(sl_log *log, int64_t count) {
    trial_batch batch;
    int64_t first = sl_log_end_offset(log);
    if (!trial_records(first, count, nonce, &batch)) return false;
    int64_t result = sl_log_append(log, &batch.records);
    trial_records_free(&batch);
    return result == first;
}

static bool read_image(const char *path, image *out) {
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    out->bytes = calloc(1, 1 << 20);
    size_t got = out->bytes != NULL ? fread(out->bytes, 1, 1 << 20, file) : 0;
    fclose(file);
    int64_t position = 0;
    sl_batch_header header;
    while (out->batches < BATCHES_MAX && position + SL_BATCH_OVERHEAD < (int64_t)got &&
           sl_batch_check(out->bytes + position, got - (size_t)position, SL_CHECK_CRC, &header) ==
               SL_OK) {
        out->starts[out->batches] = position;
        out->offsets[out->batches++] = header.base_offset;
        position += header.batch_bytes;
        out->starts[out->batches] = position;
        out->offsets[out->batches] = header.last_offset + 1;
    }
    out->length = position;
    return position > REGION;
}

/* The file as the tear leaves it.  Returns its length. */
static int64_t tear_file(const image *sound, int way, int64_t tear, uint64_t *random,
                         uint8_t *out) {
    memcpy(out, sound->bytes, (size_t)tear);
    int64_t length = sound->length + 8192;
    if (way == 0) return tear;
    memset(out + tear, 0, (size_t)(length - tear));
    for (int64_t i = tear; way == 2 && i < length; i++) out[i] = (uint8_t)trial_draw(random);
    if (way == 3) {
        int64_t from = sound->starts[trial_below(random, sound->batches / 2)];
        int64_t have = sound->length - from < length - tear ? sound->length - from : length - tear;
        memcpy(out + tear, sound->bytes + from, (size_t)have);
    }
    return length;
}

static int64_t sound_offset(const image *sound, const uint8_t *torn, int64_t length) {
    int i = 0;
    while (i < sound->batches && sound->starts[i + 1] <= length &&
           memcmp(torn + sound->starts[i], sound->bytes + sound->starts[i],
                  (size_t)(sound->starts[i + 1] - sound->starts[i])) == 0)
        i++;
    return sound->offsets[i];
}

static bool check_log(sl_log *log, const char *way, int64_t tear, int64_t expected, int64_t from) {
    int64_t end = sl_log_end_offset(log);
    if (end != expected) {
        report(way, tear, "the log's end", end, expected);
        return false;
    }
    sl_cursor *cursor;
    sl_columns columns;
    int64_t offset = from;
    if (sl_cursor_open(log, from, 0, &cursor) != SL_OK) {
        report(way, tear, "no cursor", 0, 1);
        return false;
    }
    int64_t count = 0;
    for (trial_columns(&columns); (count = sl_cursor_next(cursor, &columns)) > 0;) {
        for (int64_t i = 0; i < count; i++, offset++)
            if (columns.offsets[i] != offset || trial_record_fault(&columns, i, nonce) != NULL) {
                report(way, tear, "a wrong record", columns.offsets[i], offset);
                sl_pin_release(columns.pin);
                sl_cursor_close(cursor);
                return false;
            }
        sl_pin_release(columns.pin);
    }
    sl_cursor_close(cursor);
    if (count < 0 || offset != end) report(way, tear, "reading ended", offset, end);
    return count == 0 && offset == end;
}

static void try_tear(const char *directory, const char *path, const image *sound, int way,
                     int64_t tear, uint64_t *random) {
    static uint8_t torn[2 << 20];
    int64_t length = tear_file(sound, way, tear, random, torn);
    int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, torn, (size_t)length) == length;
    if (fd >= 0) close(fd);
    if (!written) {
        report(ways[way], tear, "cannot write the file", 0, length);
        return;
    }
    int64_t expected = sound_offset(sound, torn, length);
    int64_t from = expected > 40 ? expected - 40 : 0;
    sl_log *log = open_log(directory, SL_OPEN_READ_ONLY);
    if (log == NULL) {
        report(ways[way], tear, "cannot be opened read-only", -1, expected);
    } else {
        check_log(log, ways[way], tear, expected, from);
        sl_log_close(log);
    }
    log = open_log(directory, 0);
    if (log == NULL) {
        report(ways[way], tear, "cannot be opened", -1, expected);
        return;
    }
    if (check_log(log, ways[way], tear, expected, from)) {
        if (!append(log, 1)) report(ways[way], tear, "cannot append", 0, 1);
        sl_log_abandon(log);
        log = open_log(directory, 0);
        if (log == NULL) {
            report(ways[way], tear, "cannot be opened again", -1, expected + 1);
            return;
        }
        check_log(log, ways[way], tear, expected + 1, from);
    }
    sl_log_abandon(log);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    uint64_t random = strtoull(argv[2], NULL, 10);
    int64_t step = atoll(argv[3]);
    char path[4096];
    snprintf(path, sizeof path, "%s/%020d.log", argv[1], 0);
    sl_log *log = open_log(argv[1], SL_OPEN_CREATE);
    if (log == NULL) return 1;
    /* Durable below the region, with some room for the batch that straddles its start. */
    for (int i = 0; i < 20; i++) append(log, 3);
    if (sl_log_flush(log) != SL_OK) return 1;
    for (int64_t bytes = 0; bytes < REGION + (8 << 10);) {
        int64_t count = 1 + trial_below(&random, 6);
        if (!append(log, count)) return 1;
        bytes += count * 300;
    }
    sl_log_abandon(log);
    image sound = {0};
    if (!read_image(path, &sound)) return 1;
    int64_t trials = 0;
    for (int64_t tear = sound.length - REGION + trial_below(&random, step);
         tear <= sound.length && failures < FAILURES_MAX; tear += step) {
        for (int way = 0; way < WAYS; way++, trials++)
            try_tear(argv[1], path, &sound, way, tear, &random);
    }
    free(sound.bytes);
    printf("trials %lld %lld\n", (long long)trials, (long long)failures);
    return 0;
}
