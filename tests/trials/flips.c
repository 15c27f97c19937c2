/* flips.c -- row 6: one flipped bit anywhere in a cleanly closed log.
 *
 *   flips DIRECTORY SEED STEP RANDOM
 *
 * A small log of several segments is closed in order; then each bit of each of its files is flipped,
 * one at a time (with STEP above 1 every STEP-th on average in `.log`, and fewer in the mostly empty
 * `.lock`), the log is opened read-only and, on the same flip, as writer, and read by cursor, by offset, by time and by sl_log_verify_segment.  RANDOM
 * more flips hit a log of 2 MiB.  What each file promises:
 *
 *   .log              an error that names the file and a position; never a wrong byte
 *                     except: base offset and leader epoch lie outside the CRC (Kafka's format).  The
 *                     base offset is caught by the order of offsets; a flipped epoch cannot be, and
 *                     is counted apart.  So is a search by time that passes over a batch because its
 *                     damaged header claims another time: it serves no wrong byte
 *   .index .timeindex right answers: a hint that does not hold is not followed
 *   .lock             right answers
 *   recovery-point-   right answers, or a refusal to open
 *   log-start-        Kafka's text format without a checksum: a flipped digit is another start.
 *                     Counted apart, and so is how often a writer then deleted segments for good,
 *                     which is the one way known here to lose records to a single flipped bit
 *
 * In no case may opening as writer leave fewer records than there were.  A crash of this process is
 * a failure by itself.  Prints "note TEXT COUNT" lines, a line per failure, "trials FIRED FAILURES". */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "facts.h"

enum { FILES_MAX = 64, FAILURES_MAX = 5, SMALL_RECORDS = 60, BIG_RECORDS = 6000, START = 14 };
static const int64_t nonce = (INT64_C(99) << 16) | 150;

typedef struct file_image {
    char name[64];
    uint8_t *bytes;
    int64_t length;
} file_image;

typedef struct trial {
    const char *directory;
    file_image files[FILES_MAX];
    int file_count;
    int64_t end;
    int64_t start_position; /* of the batch where the log starts, in the first segment */
    int64_t trials;
    int64_t failures;
    int64_t file_failures;
    bool reported;
    int64_t epochs;
    int64_t starts;
    int64_t times;
    int64_t lost;
    int64_t named;
    int64_t refused;
    int64_t right;
    const file_image *file;
    int64_t bit;
    const char *handle;
} trial;

typedef enum verdict { RIGHT, NAMED, OTHER, EPOCH } verdict;

static void report(trial *t, const char *what, int64_t got) {
    if (t->file_failures >= FAILURES_MAX || t->reported) return;
    t->reported = true; /* one sentence a handle and flip */
    t->failures++;
    t->file_failures++;
    printf("%s, bit %lld (byte %lld), %s: %s (%lld); last error %s %s at %lld: %s\n", t->file->name,
           (long long)t->bit, (long long)(t->bit / 8), t->handle, what, (long long)got,
           sl_status_name(sl_last_error()->status), sl_last_error()->path,
           (long long)sl_last_error()->position, sl_last_error()->message);
}

static sl_log *open_log(const char *directory, int32_t flags, int64_t segment_bytes) {
    sl_options options;
    sl_options_default(&options);
    options.flags = flags;
    options.segment_bytes = segment_bytes;
    options.batch_bytes = 400;
    options.index_interval_bytes = 300;
    sl_log *log;
    return sl_log_open(directory, &options, &log) == SL_OK ? log : NULL;
}

static bool has_suffix(const char *name, const char *suffix) {
    size_t a = strlen(name);
    size_t b = strlen(suffix);
    return a >= b && strcmp(name + a - b, suffix) == 0;
}

static bool load(trial *t) {
    DIR *directory = opendir(t->directory);
    struct dirent *entry;
    if (directory == NULL) return false;
    while ((entry = readdir(directory)) != NULL && t->file_count < FILES_MAX) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        file_image *file = &t->files[t->file_count++];
        snprintf(file->name, sizeof file->name, "%.63s", entry->d_name);
        int fd = openat(dirfd(directory), file->name, O_RDONLY | O_CLOEXEC);
        file->length = fd >= 0 ? (int64_t)lseek(fd, 0, SEEK_END) : -1;
        file->bytes = file->length >= 0 ? malloc((size_t)file->length + 1) : NULL;
        if (file->bytes == NULL || pread(fd, file->bytes, (size_t)file->length, 0) != file->length)
            return false;
        close(fd);
    }
    closedir(directory);
    return true;
}

/* Put every file back as it was, and nothing else. */
static void restore(trial *t) {
    static uint8_t now[1 << 20];
    DIR *directory = opendir(t->directory);
    struct dirent *entry;
    if (directory == NULL) abort();
    while ((entry = readdir(directory)) != NULL) {
        bool known = entry->d_name[0] == '.' &&
                     strchr("./", entry->d_name[1] != '\0' ? entry->d_name[1] : '/') != NULL;
        for (int i = 0; i < t->file_count; i++)
            known |= strcmp(entry->d_name, t->files[i].name) == 0;
        if (!known) unlinkat(dirfd(directory), entry->d_name, 0);
    }
    for (int i = 0; i < t->file_count; i++) {
        const file_image *file = &t->files[i];
        int fd = openat(dirfd(directory), file->name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        int64_t got = fd >= 0 ? (int64_t)pread(fd, now, sizeof now, 0) : -1;
        if (got != file->length || memcmp(now, file->bytes, (size_t)got) != 0) {
            if (ftruncate(fd, 0) != 0 ||
                pwrite(fd, file->bytes, (size_t)file->length, 0) != file->length)
                abort();
        }
        close(fd);
    }
    closedir(directory);
}

static verdict judge_error(const trial *t) {
    const sl_error *error = sl_last_error();
    return has_suffix(error->path, t->file->name) && error->position >= 0 ? NAMED : OTHER;
}

/* Read by cursor. */
static verdict read_through(trial *t, sl_log *log) {
    sl_cursor *cursor;
    if (sl_cursor_open(log, sl_log_start_offset(log), 0, &cursor) != SL_OK) return judge_error(t);
    sl_columns columns;
    int64_t expected = sl_log_start_offset(log);
    int64_t count = 0;
    for (trial_columns(&columns); (count = sl_cursor_next(cursor, &columns)) > 0;) {
        for (int64_t i = 0; i < count; i++, expected++)
            if (columns.offsets[i] != expected || trial_record_fault(&columns, i, nonce) != NULL)
                report(t, "the cursor served a wrong record", columns.offsets[i]);
        sl_pin_release(columns.pin);
    }
    verdict result = count < 0 ? judge_error(t) : RIGHT;
    if (count == 0 && expected != t->end && result == RIGHT)
        report(t, "the log was cut silently", expected);
    if (result == RIGHT && sl_cursor_seek(cursor, sl_log_start_offset(log)) == SL_OK) {
        sl_batch_view view;
        while (sl_cursor_next_batch(cursor, &view) == 1) {
            if (view.header.leader_epoch != -1) result = EPOCH;
            sl_pin_release(view.pin);
        }
    }
    sl_cursor_close(cursor);
    return result;
}

static void look_up(trial *t, sl_log *log, int64_t step) {
    sl_columns columns;
    for (int64_t offset = sl_log_start_offset(log); offset < t->end; offset += step) {
        trial_columns(&columns);
        if (sl_log_get(log, offset, &columns) == 1) {
            if (columns.offsets[0] != offset || trial_record_fault(&columns, 0, nonce) != NULL)
                report(t, "a lookup served a wrong record", offset);
            sl_pin_release(columns.pin);
        }
        int64_t found = sl_log_offset_for_timestamp(log, trial_time_ms(offset), NULL);
        bool wrong = found != offset && (found >= 0 || found == -(int64_t)SL_E_NOT_FOUND);
        if (wrong && has_suffix(t->file->name, ".log")) {
            t->times++;
        } else if (wrong)
            report(t, "a time found a wrong offset", found - offset);
    }
}

static int64_t verify(sl_log *log) {
    int64_t problems = 0;
    for (int64_t i = 0; i < sl_log_segment_count(log); i++) {
        sl_problem problem;
        int64_t batches;
        int64_t records;
        int64_t result = sl_log_verify_segment(log, i, &problem, 1, &batches, &records);
        problems += result < 0 ? 1 : result;
    }
    return problems;
}

static void examine(trial *t, int32_t flags, int64_t segment_bytes, int64_t step) {
    bool data = has_suffix(t->file->name, ".log");
    bool start_file = strncmp(t->file->name, "log-start", 9) == 0;
    t->reported = false;
    t->handle = flags & SL_OPEN_READ_ONLY ? "read-only" : "writer";
    sl_log *log = open_log(t->directory, flags, segment_bytes);
    if (log == NULL) {
        bool checkpoint = strstr(t->file->name, "-checkpoint") != NULL;
        if (!checkpoint && judge_error(t) != NAMED)
            report(t, "opening failed without the place", 0);
        t->refused++;
        return;
    }
    if (start_file && sl_log_start_offset(log) != START) {
        t->starts++;
        sl_log_abandon(log);
        return;
    }
    bool point_file = strncmp(t->file->name, "recovery-point", 14) == 0;
    bool early = data && t->bit / 8 < t->start_position &&
                 strncmp(t->file->name, "00000000000000000000", 20) == 0;
    if (sl_log_end_offset(log) != t->end && !point_file)
        report(t, "the log has another end", sl_log_end_offset(log));
    if (sl_log_start_offset(log) != START)
        report(t, "the log has another start", sl_log_start_offset(log));
    verdict seen = read_through(t, log);
    look_up(t, log, step);
    int64_t problems = verify(log);
    if (point_file && sl_log_end_offset(log) != t->end && seen == RIGHT)
        report(t, "missing records were not reported", sl_log_end_offset(log));
    if (early && seen == RIGHT && problems == 0) seen = EPOCH; /* verify is all that reads there */
    if (data && seen == RIGHT && !early) report(t, "damage in the data was not noticed", problems);
    if (data && seen == OTHER) report(t, "damage was reported without file and position", 0);
    if (data && seen == NAMED && problems == 0) report(t, "verifying found nothing", 0);
    if (!data && !point_file && seen != RIGHT) report(t, "records could not be read", 0);
    if (seen == EPOCH) t->epochs++;
    if (seen == NAMED) t->named++;
    if (seen == RIGHT) t->right++;
    sl_log_abandon(log);
}

static void flip(trial *t, file_image *file, int64_t bit, int64_t segment_bytes, int64_t step) {
    t->file = file;
    t->bit = bit;
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", t->directory, file->name);
    uint8_t byte = (uint8_t)(file->bytes[bit / 8] ^ (1 << (bit % 8)));
    for (int handle = 0; handle < 2; handle++) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || pwrite(fd, &byte, 1, bit / 8) != 1) abort();
        close(fd);
        examine(t, handle == 0 ? SL_OPEN_READ_ONLY : 0, segment_bytes, step);
        if (handle == 1 && strncmp(file->name, "log-start", 9) == 0) {
            /* What a wrong start hid must not be gone: put the checkpoint back and look. */
            fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
            if (fd < 0 || pwrite(fd, file->bytes, (size_t)file->length, 0) != file->length) abort();
            close(fd);
            sl_log *log = open_log(t->directory, SL_OPEN_READ_ONLY, segment_bytes);
            if (log == NULL || sl_log_start_offset(log) != START ||
                sl_log_end_offset(log) != t->end)
                t->lost++;
            if (log != NULL) sl_log_close(log);
        }
        restore(t);
    }
    t->trials++;
}

static bool make(trial *t, const char *directory, int64_t records, int64_t segment_bytes) {
    t->directory = directory;
    t->file_count = 0;
    t->end = records;
    sl_log *log = open_log(directory, SL_OPEN_CREATE, segment_bytes);
    if (log == NULL) return false;
    for (int64_t at = 0; at < records; at += 2) {
        trial_batch batch;
        if (!trial_records(at, 2, nonce, &batch)) return false;
        if (sl_log_append(log, &batch.records) != at) return false;
        trial_records_free(&batch);
    }
    /* Flush first, so that the flusher has written its checkpoint before the log is closed. */
    sl_batch_view view;
    if (sl_log_read_range(log, START, START + 2, 1, &view) <= 0) return false;
    t->start_position = view.position;
    sl_pin_release(view.pin);
    return sl_log_flush(log) == SL_OK && sl_log_truncate_prefix(log, START) == SL_OK &&
           sl_log_close(log) == SL_OK && load(t);
}

static void forget(trial *t) {
    for (int i = 0; i < t->file_count; i++) free(t->files[i].bytes);
    t->file_count = 0;
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    uint64_t random = strtoull(argv[2], NULL, 10);
    int64_t sample = atoll(argv[3]);
    int64_t random_flips = atoll(argv[4]);
    char directory[4096];
    trial t = {0};
    snprintf(directory, sizeof directory, "%s/small", argv[1]);
    if (!make(&t, directory, SMALL_RECORDS, 4096)) return 1;
    for (int i = 0; i < t.file_count; i++) {
        t.file_failures = 0;
        const char *name = t.files[i].name;
        int64_t head = strcmp(name, ".lock") == 0 ? 128 * 8 : 0; /* all that .lock uses */
        int64_t step = head > 0 ? 8 * sample : has_suffix(name, ".log") ? sample : 1;
        for (int64_t bit = 0; bit < t.files[i].length * 8 && t.file_failures < FAILURES_MAX;) {
            flip(&t, &t.files[i], bit, 4096, 1);
            bit += bit < head ? 1 : 1 + trial_below(&random, 2 * step - 1);
        }
    }
    forget(&t);
    snprintf(directory, sizeof directory, "%s/big", argv[1]);
    if (!make(&t, directory, BIG_RECORDS, 256 << 10)) return 1;
    int64_t total = 0;
    t.file_failures = 0;
    for (int i = 0; i < t.file_count; i++) total += t.files[i].length * 8;
    while (random_flips-- > 0 && t.file_failures < FAILURES_MAX) {
        int64_t bit = trial_below(&random, total);
        int i = 0;
        for (; bit >= t.files[i].length * 8; i++) bit -= t.files[i].length * 8;
        flip(&t, &t.files[i], bit, 256 << 10, 500);
    }
    forget(&t);
    printf("note handles that named file and position: %lld\n", (long long)t.named);
    printf("note handles that read everything rightly: %lld\n", (long long)t.right);
    printf("note opens refused: %lld\n", (long long)t.refused);
    printf("note leader epochs flipped, which no CRC covers: %lld\n", (long long)t.epochs);
    printf("note times answered past a batch whose damaged header hid it: %lld\n",
           (long long)t.times);
    printf("note flipped log starts by which a writer deleted segments for good: %lld\n",
           (long long)t.lost);
    printf("note log starts moved by a checkpoint without checksum: %lld\n", (long long)t.starts);
    printf("trials %lld %lld\n", (long long)t.trials, (long long)t.failures);
    return 0;
}
