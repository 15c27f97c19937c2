/* check.c -- holds a directory against the facts that a victim told before its end.
 *
 *   check DIRECTORY FACTS [--power] [--until NS] [--dying NS] [--rewrite FILE] [--continue]
 *
 * Facts become a model: where the log starts, where it ends, which nonce made each record, what was
 * durable, and at most one call that was under way.  The directory must show
 *
 *   after the death of the process   exactly the model, or the model with the call under way done:
 *                                    an append in part, record by record from its first; a
 *                                    truncation wholly or not at all
 *   after a power loss (--power)     everything durable; what else is there must still be what was
 *                                    appended, without a gap
 *
 * It is opened read-only first, which must be within the same bounds (but a truncation that was under
 * way is for a writer to finish: a reader may see it in part), then as writer.
 * Every record is compared byte by byte with what its offset and nonce make (facts.h), by cursor
 * and, in samples, by lookup; each segment must pass sl_log_verify_segment.  With --continue three
 * records are appended, the log is closed and opened again: recovery must leave a log that works.
 *
 * --until leaves out facts told later (a crash state that lies before them).  --dying is the time from
 * which the disk was being taken away: what is called durable later is not held against the log, for
 * a sync that races with the shutdown of a file system may answer 0, which a power loss cannot do.
 * --rewrite writes the facts anew as the directory now has them.  Prints "ok START END", or "FAIL reason" and exits 1, or
 * "inconclusive" and exits 3. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#include "facts.h"

typedef struct model {
    int64_t *nonces; /* by offset */
    int64_t capacity;
    int64_t start;
    int64_t end;
    int64_t durable;
    bool poisoned;
    bool dying; /* facts are told that the disk may not hold */
    bool opened;
    int64_t starts_tried[16]; /* of truncations that failed: one may have been decided */
    int starts;
    int64_t ends_tried[16]; /* the same; forgotten when the log is seen to have gone on */
    int ends;
    bool reading;  /* read-only: a truncation under way may be seen in part */
    char call[16]; /* under way, or "" */
    int64_t call_offset;
    int64_t call_count;
    int64_t call_nonce;
} model;

static const char *phase = "";

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("FAIL %s", phase);
    vprintf(format, arguments);
    va_end(arguments);
    fputs(" ", stdout);
    exit(1);
}

__attribute__((noreturn)) static void fail_engine(const char *doing) {
    const sl_error *error = sl_last_error();
    fail("%s: %s (%s, offset %lld, position %lld, errno %d): %s", doing,
         sl_status_name(error->status), error->path, (long long)error->offset,
         (long long)error->position, error->system_errno, error->message);
}

static void note_records(model *m, int64_t first, int64_t count, int64_t nonce) {
    int64_t end = first + count;
    if (end > m->capacity) {
        m->capacity = end * 2;
        m->nonces = realloc(m->nonces, (size_t)m->capacity * sizeof *m->nonces);
        if (m->nonces == NULL) fail("no memory");
    }
    for (int64_t offset = first; offset < end; offset++) m->nonces[offset] = nonce;
}

static void append_fact(model *m, int64_t first, int64_t count, int64_t nonce) {
    if (first != m->end)
        fail("the victim appended at %lld, expected %lld", (long long)first, (long long)m->end);
    note_records(m, first, count, nonce);
    m->end = first + count;
    m->call[0] = '\0';
}

static void note_start_tried(model *m) { m->starts_tried[m->starts++ % 16] = m->call_offset; }
static void note_end_tried(model *m) { m->ends_tried[m->ends++ % 16] = m->call_offset; }

static bool end_was_tried(const model *m, int64_t end) {
    for (int i = 0; i < m->ends && i < 16; i++)
        if (m->ends_tried[i] == end) return true;
    return false;
}

/* The lowest of them, or -1. */
static int64_t least_end_tried(const model *m) {
    int64_t least = -1;
    for (int i = 0; i < m->ends && i < 16; i++)
        if (least < 0 || m->ends_tried[i] < least) least = m->ends_tried[i];
    return least;
}

static bool start_was_tried(const model *m, int64_t start) {
    for (int i = 0; i < m->starts && i < 16; i++)
        if (m->starts_tried[i] == start) return true;
    return false;
}

static void read_fact(model *m, const char *fact) {
    char word[32];
    char what[16];
    long long a = 0;
    long long b = 0;
    long long c = 0;
    if (sscanf(fact, "%31s %lld %lld %lld", word, &a, &b, &c) < 1) return;
    if (strcmp(word, "begin") == 0) {
        if (sscanf(fact, " begin %15s %lld %lld %lld", what, &a, &b, &c) < 2)
            fail("bad fact: %s", fact);
        memcpy(m->call, what, sizeof what);
        m->call_offset = a;
        m->call_count = b;
        m->call_nonce = c;
    } else if (strcmp(word, "appended") == 0) {
        append_fact(m, a, b, c);
        if (!m->dying) m->ends = 0;
    } else if (strcmp(word, "failed") == 0) {
        if (strcmp(m->call, "append") != 0) fail("a failed append that never began");
        append_fact(m, m->call_offset, a, m->call_nonce);
    } else if (strcmp(word, "start") == 0) {
        m->start = a;
        m->call[0] = '\0';
    } else if (strcmp(word, "truncated") == 0) {
        m->end = a;
        if (m->durable > a) m->durable = a;
        m->call[0] = '\0';
    } else if (strcmp(word, "durable") == 0) {
        if (a > m->durable) m->durable = a;
    } else if (strcmp(word, "poisoned") == 0) {
        m->poisoned = true;
    } else if (strcmp(word, "opened") == 0) {
        bool known =
            (a == m->start || start_was_tried(m, a)) && (b == m->end || end_was_tried(m, b));
        if (m->opened && !m->poisoned && m->call[0] == '\0' && !known)
            fail("opened as [%lld, %lld), expected [%lld, %lld)", a, b, (long long)m->start,
                 (long long)m->end);
        if (m->opened && ((b < m->durable && !end_was_tried(m, b)) || (m->poisoned && b > m->end)))
            fail("opened with end %lld: durable was %lld, appended %lld", b, (long long)m->durable,
                 (long long)m->end);
        m->start = a;
        m->end = b;
        m->opened = true;
        m->poisoned = false;
        m->call[0] = '\0';
        m->ends = 0;
        m->starts = 0;
    } else if (strcmp(word, "error") == 0 && m->call[0] != '\0') {
        /* Once poisoned, a log refuses without trying. */
        if (!m->poisoned && strcmp(m->call, "start") == 0) note_start_tried(m);
        if (!m->poisoned && strcmp(m->call, "truncated") == 0) note_end_tried(m);
        m->call[0] = '\0';
    }
}

/* A fact told while the disk was dying: not durable, whatever it says. */
static void read_dying_fact(model *m, const char *fact) {
    m->dying = true;
    if (strncmp(fact, " durable ", 9) == 0) return;
    if (strncmp(fact, " start ", 7) == 0) {
        note_start_tried(m);
        m->call[0] = '\0';
    } else if (strncmp(fact, " truncated ", 11) == 0) {
        /* Either history may be on the disk, with different records at the same offsets. */
        printf("inconclusive\n");
        exit(3);
    } else {
        read_fact(m, fact);
    }
}

static void read_facts(model *m, const char *path, int64_t until_ns, int64_t dying_ns) {
    FILE *file = fopen(path, "re");
    if (file == NULL) fail("cannot read %s", path);
    char line[256];
    while (fgets(line, sizeof line, file) != NULL) {
        char *fact;
        long long ns = strtoll(line, &fact, 10);
        if (strchr(line, '\n') == NULL) break; /* the last line may be torn */
        if (ns > until_ns) break;
        if (ns <= dying_ns) {
            read_fact(m, fact);
        } else {
            read_dying_fact(m, fact);
        }
    }
    fclose(file);
}

/* May the log be [start, end)?  Adds the records of a call under way to the model. */
static void check_bounds(model *m, int64_t start, int64_t end, bool power) {
    bool append = strcmp(m->call, "append") == 0;
    bool prefix = strcmp(m->call, "start") == 0;
    bool suffix = strcmp(m->call, "truncated") == 0;
    int64_t end_max = m->end;
    if (append) {
        if (m->call_offset != m->end) fail("a call under way at another offset");
        note_records(m, m->call_offset, m->call_count, m->call_nonce);
        end_max += m->call_count;
    }
    int64_t end_min = power || m->poisoned ? m->durable : m->end;
    if (suffix && m->call_offset < end_min) end_min = m->call_offset;
    int64_t tried = least_end_tried(m);
    if (tried >= 0 && tried < end_min) end_min = tried;
    bool start_right =
        start == m->start || start_was_tried(m, start) || (prefix && start == m->call_offset);
    bool end_right = end >= end_min && end <= end_max;
    if (!power && !m->poisoned && !append)
        end_right = end == m->end || end_was_tried(m, end) || (suffix && end == m->call_offset);
    int64_t cut = suffix ? m->call_offset : tried;
    if (m->reading && cut >= 0 && end >= cut && end <= m->end) end_right = true;
    if (power && start_right && end_min < start && end == start) end_right = true;
    if (!start_right || !end_right)
        fail("the log is [%lld, %lld); appended [%lld, %lld), durable below %lld, under way: %s "
             "%lld",
             (long long)start, (long long)end, (long long)m->start, (long long)m->end,
             (long long)m->durable, m->call[0] != '\0' ? m->call : "nothing",
             (long long)m->call_offset);
}

static void check_row(const model *m, const sl_columns *columns, int64_t row, const char *way) {
    const char *fault = trial_record_fault(columns, row, m->nonces[columns->offsets[row]]);
    if (fault != NULL) fail("%s: record %lld: %s", way, (long long)columns->offsets[row], fault);
}

static void check_records(const model *m, sl_log *log, int64_t start, int64_t end) {
    sl_cursor *cursor;
    if (sl_cursor_open(log, start, 0, &cursor) != SL_OK) fail_engine("opening a cursor");
    sl_columns columns;
    trial_columns(&columns);
    int64_t expected = start;
    for (;;) {
        int64_t count = sl_cursor_next(cursor, &columns);
        if (count < 0) fail_engine("reading");
        for (int64_t i = 0; i < count; i++) {
            if (columns.offsets[i] != expected)
                fail("record %lld where %lld was due", (long long)columns.offsets[i],
                     (long long)expected);
            if (expected >= end) fail("a record beyond the log's end, %lld", (long long)expected);
            check_row(m, &columns, i, "cursor");
            expected++;
        }
        sl_pin_release(columns.pin);
        if (count == 0) break;
    }
    if (expected != end)
        fail("reading ended at %lld, the log at %lld", (long long)expected, (long long)end);
    sl_cursor_close(cursor);
    int64_t step = (end - start) / 16 + 1;
    for (int64_t offset = start; offset < end; offset += step) {
        trial_columns(&columns);
        if (sl_log_get(log, offset, &columns) != 1) fail_engine("looking a record up");
        if (columns.offsets[0] != offset)
            fail("looked %lld up, got %lld", (long long)offset, (long long)columns.offsets[0]);
        check_row(m, &columns, 0, "lookup");
        sl_pin_release(columns.pin);
        int64_t found = sl_log_offset_for_timestamp(log, trial_time_ms(offset), NULL);
        if (found != offset)
            fail("the time of record %lld found %lld", (long long)offset, (long long)found);
    }
}

static void check_segments(sl_log *log) {
    int64_t segments = sl_log_segment_count(log);
    for (int64_t i = 0; i < segments; i++) {
        sl_problem problem;
        int64_t batches;
        int64_t records;
        int64_t problems = sl_log_verify_segment(log, i, &problem, 1, &batches, &records);
        if (problems < 0) fail_engine("verifying");
        if (problems > 0)
            fail("verifying: %s at offset %lld, position %lld: %s", problem.path,
                 (long long)problem.offset, (long long)problem.position, problem.message);
    }
}

static void open_log(const char *directory, int32_t flags, sl_log **out) {
    sl_options options;
    sl_options_default(&options);
    options.flags = flags;
    options.segment_bytes = 256 << 10;
    options.index_interval_bytes = 512;
    sl_status status = sl_log_open(directory, &options, out);
    if (status != SL_OK)
        fail_engine(flags & SL_OPEN_READ_ONLY ? "opening read-only" : "opening as writer");
}

/* What a read-only handle finds, in a process of its own: whatever it says, the writer is looked at. */
static bool check_read_only(model *m, const char *directory, bool power) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        phase = "read-only: ";
        m->reading = true;
        sl_log *log;
        open_log(directory, SL_OPEN_READ_ONLY, &log);
        int64_t start = sl_log_start_offset(log);
        int64_t end = sl_log_end_offset(log);
        check_bounds(m, start, end, power);
        check_records(m, log, start, end);
        sl_log_close(log);
        exit(0);
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child) fail("cannot fork");
    if (WIFSIGNALED(status)) printf("FAIL read-only: died by signal %d ", WTERMSIG(status));
    return status == 0;
}

static void rewrite(const model *m, const char *path, int64_t start, int64_t end) {
    FILE *file = fopen(path, "we");
    if (file == NULL) fail("cannot write %s", path);
    fprintf(file, "0 opened %lld %lld\n", (long long)start, (long long)start);
    for (int64_t first = start; first < end;) {
        int64_t last = first + 1;
        while (last < end && m->nonces[last] == m->nonces[first]) last++;
        fprintf(file, "0 appended %lld %lld %lld\n", (long long)first, (long long)(last - first),
                (long long)m->nonces[first]);
        first = last;
    }
    fprintf(file, "0 durable %lld\n", (long long)end);
    fclose(file);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    bool power = false;
    bool go_on = false;
    const char *rewritten = NULL;
    int64_t until_ns = INT64_MAX;
    int64_t dying_ns = INT64_MAX;
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--power") == 0)
            power = true;
        else if (strcmp(argv[i], "--continue") == 0)
            go_on = true;
        else if (strcmp(argv[i], "--until") == 0 && i + 1 < argc)
            until_ns = atoll(argv[++i]);
        else if (strcmp(argv[i], "--dying") == 0 && i + 1 < argc)
            dying_ns = atoll(argv[++i]);
        else if (strcmp(argv[i], "--rewrite") == 0 && i + 1 < argc)
            rewritten = argv[++i];
        else
            return 2;
    }
    model m = {0};
    note_records(&m, 0, 1, 0);
    read_facts(&m, argv[2], until_ns, dying_ns);
    sl_log *log;
    sl_options options;
    sl_options_default(&options);
    options.flags = SL_OPEN_READ_ONLY;
    sl_status status = sl_log_open(argv[1], &options, &log);
    if (status == SL_E_NOT_FOUND && (power || m.end == 0) && m.durable == 0 && m.start == 0) {
        printf("ok 0 0\n"); /* nothing was promised, and nothing is there: as before the creation */
        if (rewritten != NULL) rewrite(&m, rewritten, 0, 0);
        return 0;
    }
    if (status == SL_OK) sl_log_close(log);
    bool same = check_read_only(&m, argv[1], power);
    open_log(argv[1], 0, &log);
    int64_t start = sl_log_start_offset(log);
    int64_t end = sl_log_end_offset(log);
    check_bounds(&m, start, end, power);
    check_records(&m, log, start, end);
    check_segments(log);
    if (go_on) {
        trial_batch batch;
        if (!trial_records(end, 3, 100, &batch)) fail("no memory");
        if (sl_log_append(log, &batch.records) != end) fail_engine("appending after recovery");
        trial_records_free(&batch);
        note_records(&m, end, 3, 100);
        end += 3;
        if (sl_log_close(log) != SL_OK) fail_engine("closing after recovery");
        open_log(argv[1], 0, &log);
        if (sl_log_start_offset(log) != start || sl_log_end_offset(log) != end)
            fail("after going on the log is [%lld, %lld), expected [%lld, %lld)",
                 (long long)sl_log_start_offset(log), (long long)sl_log_end_offset(log),
                 (long long)start, (long long)end);
        check_records(&m, log, start, end);
        check_segments(log);
    }
    if (sl_log_close(log) != SL_OK) fail_engine("closing");
    if (rewritten != NULL) rewrite(&m, rewritten, start, end);
    if (same) printf("ok %lld %lld\n", (long long)start, (long long)end);
    free(m.nonces);
    return same ? 0 : 1;
}
