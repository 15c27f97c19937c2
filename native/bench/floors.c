/*
 * stratalog-floors: what this machine can do when nothing is in the way.
 *
 * A rate means little by itself; a share of what the hardware allows means a lot.  This program
 * measures the ceilings that every append, sync and read of this project is compared to, on the
 * same machine, in the same run, and prints them as one JSON object on standard output.
 *
 *   memory        memcpy_hot        64 KiB again and again
 *                 memcpy_cold       64 MiB
 *                 crc32c_hot, crc32c_cold, crc32c_record
 *   file, map     map_cold          fallocated file, the faults of the first touch included
 *                 map_prefaulted    the same after MADV_POPULATE_WRITE, which is not counted
 *                 map_recycled      the same map a second time: pages present and dirty
 *                 store_record      one record at a time into a pre-faulted map
 *   file, calls   pwrite_record, pwrite_64k
 *   device        fdatasync_record  pwrite of one record + fdatasync, one at a time
 *                 fdatasync_group   pwrite of one group + fdatasync, one at a time
 *                 device_write      one large write + fdatasync
 *   reading       map_read          sum of 64-bit words over a warm mapped file
 *                 map_lookup        copy of one record from a random place of a warm mapped file
 *
 * Each floor is repeated until its share of the time budget is used, at least five times, and
 * reported as min, median and max of its rounds.  Units are in the JSON: bytes_per_second or
 * operations_per_second.  The two sync floors also carry the latency of a single operation, p50
 * and p99 over all rounds.
 *
 * Every file is made in --dir, for the floor of a disk is the floor of *that* disk, and is
 * unlinked as soon as it is open, so that nothing stays behind whatever happens.
 *
 * What it leaves to others: which floor belongs to which workload, and every ratio (floors.py and
 * runner.py of the benchmark package).  CRC-32C is the engine's own: its floor is the checksum
 * alone, with no log around it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "crc32c.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { ROUNDS_MIN = 5, ROUNDS_MAX = 400, FLOORS = 16 };

static const size_t HOT_BYTES = (size_t)64 << 10;
static const size_t COLD_BYTES = (size_t)64 << 20;
static const size_t BLOCK_BYTES = (size_t)64 << 10;
static const size_t DEVICE_WRITE_BYTES = (size_t)1 << 20;

/* The results of reads land here, so that the compiler cannot drop a read as unused. */
static volatile uint64_t sink;

typedef struct {
    const char *dir;
    size_t file_bytes;
    size_t record_bytes;
    size_t group_records;
    double floor_seconds; /* the share of the budget that one floor may use */
} settings;

typedef struct {
    double rates[ROUNDS_MAX];
    size_t rounds;
    uint64_t *latencies_ns; /* NULL unless the floor is a latency */
    size_t latencies;
    size_t latencies_max;
} series;

/* A round returns its work per second; it excludes its own setup. */
typedef double (*round_function)(const settings *s, series *out, void *state);

static _Noreturn void die(const char *format, ...) {
    const int error = errno;
    va_list arguments;
    va_start(arguments, format);
    (void)fputs("stratalog-floors: ", stderr);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    if (error != 0) {
        (void)fprintf(stderr, ": %s", strerror(error));
    }
    (void)fputc('\n', stderr);
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    if (clock_gettime(CLOCK_MONOTONIC, &t) != 0) {
        die("clock_gettime");
    }
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static double per_second(size_t work, uint64_t start_ns) {
    const uint64_t elapsed_ns = now_ns() - start_ns;
    return (double)work * 1e9 / (double)(elapsed_ns == 0 ? 1 : elapsed_ns);
}

/* Without a barrier a compiler may merge repeated copies of the same block into one. */
static void barrier(const void *pointer) { __asm__ volatile("" : : "g"(pointer) : "memory"); }

static uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9E3779B97F4A7C15U);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

static void fill(unsigned char *target, size_t bytes, uint64_t seed) {
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        const uint64_t word = next_random(&seed);
        memcpy(target + i, &word, 8);
    }
}

static unsigned char *memory(size_t bytes, uint64_t seed) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                   -1, 0);
    if (p == MAP_FAILED) {
        die("mmap of %zu bytes of memory", bytes);
    }
    fill(p, bytes, seed);
    return p;
}

static void release(void *p, size_t bytes) {
    if (munmap(p, bytes) != 0) {
        die("munmap");
    }
}

/* A fresh fallocated file without a name: blocks reserved, never written, as in a new segment. */
static int fresh_file(const settings *s, size_t bytes) {
    char path[4096];
    const int length = snprintf(path, sizeof path, "%s/floors-XXXXXX", s->dir);
    if (length < 0 || (size_t)length >= sizeof path) {
        errno = 0;
        die("--dir is too long");
    }
    const int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        die("cannot make a file in --dir");
    }
    if (unlink(path) != 0) {
        die("unlink");
    }
    /* Not posix_fallocate: it may fall back to writing zeros, which changes what a sync costs. */
    if (fallocate(fd, 0, 0, (off_t)bytes) != 0) {
        die("fallocate of %zu bytes", bytes);
    }
    return fd;
}

static unsigned char *map_file(int fd, size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        die("mmap of a file");
    }
    return p;
}

/* Kernels before 5.14 lack MADV_POPULATE_WRITE; touching every page does the same, slower. */
static void prefault(unsigned char *p, size_t bytes) {
    if (madvise(p, bytes, MADV_POPULATE_WRITE) == 0) {
        return;
    }
    if (errno != EINVAL) {
        die("MADV_POPULATE_WRITE");
    }
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < bytes; i += page) {
        ((volatile unsigned char *)p)[i] = 0;
    }
}

static void pwrite_all(int fd, const unsigned char *from, size_t bytes, size_t position) {
    while (bytes > 0) {
        const ssize_t n = pwrite(fd, from, bytes, (off_t)position);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            die("pwrite");
        }
        from += n;
        bytes -= (size_t)n;
        position += (size_t)n;
    }
}

static void sync_data(int fd) {
    if (fdatasync(fd) != 0) {
        die("fdatasync");
    }
}

static void close_file(int fd) {
    if (close(fd) != 0) {
        die("close");
    }
}

/* ---- memory ---------------------------------------------------------------------------------- */

typedef struct {
    unsigned char *from;
    unsigned char *to;
    size_t bytes;
    size_t repeats;
} copy_state;

static double round_copy(const settings *s, series *out, void *state) {
    (void)s;
    (void)out;
    const copy_state *c = state;
    const uint64_t start = now_ns();
    for (size_t i = 0; i < c->repeats; i++) {
        memcpy(c->to, c->from, c->bytes);
        barrier(c->to);
    }
    return per_second(c->bytes * c->repeats, start);
}

static double round_crc(const settings *s, series *out, void *state) {
    (void)s;
    (void)out;
    const copy_state *c = state;
    uint32_t crc = 0;
    const uint64_t start = now_ns();
    for (size_t i = 0; i < c->repeats; i++) {
        crc ^= sl_crc32c(0, c->from, c->bytes);
    }
    const double rate = per_second(c->bytes * c->repeats, start);
    sink = sink + crc;
    return rate;
}

/* ---- a mapped file, written ------------------------------------------------------------------ */

static void copy_into_map(const settings *s, unsigned char *map, const unsigned char *from) {
    for (size_t i = 0; i + BLOCK_BYTES <= s->file_bytes; i += BLOCK_BYTES) {
        memcpy(map + i, from, BLOCK_BYTES);
    }
}

typedef enum { MAP_COLD, MAP_PREFAULTED, MAP_RECYCLED, MAP_RECORDS } map_kind;

typedef struct {
    const unsigned char *from;
    map_kind kind;
} map_state;

static double round_map(const settings *s, series *out, void *state) {
    (void)out;
    const map_state *m = state;
    const int fd = fresh_file(s, s->file_bytes);
    unsigned char *map = map_file(fd, s->file_bytes);
    if (m->kind != MAP_COLD) {
        prefault(map, s->file_bytes);
    }
    if (m->kind == MAP_RECYCLED) {
        copy_into_map(s, map, m->from);
    }
    double rate = 0;
    const uint64_t start = now_ns();
    if (m->kind == MAP_RECORDS) {
        size_t stored = 0;
        size_t taken = 0;
        for (size_t i = 0; i + s->record_bytes <= s->file_bytes; i += s->record_bytes) {
            memcpy(map + i, m->from + taken, s->record_bytes);
            barrier(map + i);
            /* The source stays within a few cached KiB: a producer's record is hot. */
            taken = (taken + s->record_bytes) & (HOT_BYTES - 1);
            stored++;
        }
        rate = per_second(stored, start);
    } else {
        copy_into_map(s, map, m->from);
        barrier(map);
        rate = per_second(s->file_bytes / BLOCK_BYTES * BLOCK_BYTES, start);
    }
    release(map, s->file_bytes);
    close_file(fd);
    return rate;
}

/* ---- a file, written by calls ---------------------------------------------------------------- */

typedef struct {
    const unsigned char *from;
    size_t call_bytes;
    bool count_calls;
} pwrite_state;

static double round_pwrite(const settings *s, series *out, void *state) {
    (void)out;
    const pwrite_state *p = state;
    /* A record-sized call is slow; a slice of the file is enough and keeps a round short. */
    const size_t enough_bytes = p->call_bytes * 20000;
    const size_t bytes =
        p->count_calls && s->file_bytes > enough_bytes ? enough_bytes : s->file_bytes;
    const int fd = fresh_file(s, bytes);
    size_t calls = 0;
    const uint64_t start = now_ns();
    for (size_t i = 0; i + p->call_bytes <= bytes; i += p->call_bytes) {
        pwrite_all(fd, p->from, p->call_bytes, i);
        calls++;
    }
    const double rate = per_second(p->count_calls ? calls : calls * p->call_bytes, start);
    close_file(fd);
    return rate;
}

/* ---- the device ------------------------------------------------------------------------------ */

typedef struct {
    const unsigned char *from;
    size_t call_bytes;
    int fd;
    size_t position;
} sync_state;

/* A log never comes back to a place it has written, nor does its floor: a full file is replaced. */
static void sync_refresh(const settings *s, sync_state *d) {
    if (d->fd >= 0 && d->position + d->call_bytes <= s->file_bytes) {
        return;
    }
    if (d->fd >= 0) {
        close_file(d->fd);
    }
    d->fd = fresh_file(s, s->file_bytes);
    d->position = 0;
    sync_data(d->fd);
}

static double round_sync(const settings *s, series *out, void *state) {
    sync_state *d = state;
    enum { OPERATIONS = 32 };
    uint64_t total_ns = 0;
    for (int i = 0; i < OPERATIONS; i++) {
        sync_refresh(s, d);
        const uint64_t start = now_ns();
        pwrite_all(d->fd, d->from, d->call_bytes, d->position);
        sync_data(d->fd);
        const uint64_t elapsed_ns = now_ns() - start;
        d->position += d->call_bytes;
        total_ns += elapsed_ns;
        if (out->latencies < out->latencies_max) {
            out->latencies_ns[out->latencies++] = elapsed_ns;
        }
    }
    return (double)OPERATIONS * 1e9 / (double)(total_ns == 0 ? 1 : total_ns);
}

static double round_device(const settings *s, series *out, void *state) {
    (void)out;
    const unsigned char *from = state;
    const int fd = fresh_file(s, s->file_bytes);
    sync_data(fd);
    const uint64_t start = now_ns();
    for (size_t i = 0; i < s->file_bytes; i += DEVICE_WRITE_BYTES) {
        const size_t left = s->file_bytes - i;
        pwrite_all(fd, from, left < DEVICE_WRITE_BYTES ? left : DEVICE_WRITE_BYTES, i);
    }
    sync_data(fd);
    const double rate = per_second(s->file_bytes, start);
    close_file(fd);
    return rate;
}

/* ---- a warm mapped file, read ---------------------------------------------------------------- */

typedef struct {
    const unsigned char *map;
    uint64_t random;
    unsigned char *to;
} read_state;

static double round_read(const settings *s, series *out, void *state) {
    (void)out;
    const read_state *r = state;
    /* Eight sums in registers: one alone would wait for itself and not for the memory. */
    uint64_t a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0;
    const uint64_t *word = (const uint64_t *)(const void *)r->map; /* a map starts at a page */
    const uint64_t *end = word + s->file_bytes / 64 * 8;
    const uint64_t start = now_ns();
    for (; word < end; word += 8) {
        a += word[0];
        b += word[1];
        c += word[2];
        d += word[3];
        e += word[4];
        f += word[5];
        g += word[6];
        h += word[7];
    }
    const double rate = per_second(s->file_bytes / 64 * 64, start);
    sink = sink + (a ^ b ^ c ^ d ^ e ^ f ^ g ^ h);
    return rate;
}

static double round_lookup(const settings *s, series *out, void *state) {
    (void)out;
    read_state *r = state;
    const size_t records = s->file_bytes / s->record_bytes;
    const size_t lookups = 100000;
    const uint64_t start = now_ns();
    for (size_t i = 0; i < lookups; i++) {
        const size_t record = (size_t)(next_random(&r->random) % records);
        memcpy(r->to, r->map + record * s->record_bytes, s->record_bytes);
        barrier(r->to);
    }
    return per_second(lookups, start);
}

/* ---- repetition and printing ----------------------------------------------------------------- */

static int compare_double(const void *a, const void *b) {
    const double x = *(const double *)a;
    const double y = *(const double *)b;
    return (x > y) - (x < y);
}

static int compare_u64(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a;
    const uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool first_printed = true;

static void measure(const settings *s, const char *name, const char *unit, round_function one_round,
                    void *state, bool with_latency) {
    static series out;
    static uint64_t latencies_ns[(size_t)ROUNDS_MAX * 32];
    out.rounds = 0;
    out.latencies = 0;
    out.latencies_ns = latencies_ns;
    out.latencies_max = sizeof latencies_ns / sizeof latencies_ns[0];
    const uint64_t start = now_ns();
    while (out.rounds < ROUNDS_MAX) {
        out.rates[out.rounds++] = one_round(s, &out, state);
        const double elapsed_seconds = (double)(now_ns() - start) / 1e9;
        if (out.rounds >= ROUNDS_MIN && elapsed_seconds >= s->floor_seconds) {
            break;
        }
    }
    qsort(out.rates, out.rounds, sizeof out.rates[0], compare_double);
    const size_t middle = out.rounds / 2;
    const double median =
        out.rounds % 2 == 1 ? out.rates[middle] : (out.rates[middle - 1] + out.rates[middle]) / 2;
    (void)printf("%s\n    \"%s\": {\"unit\": \"%s\", \"rounds\": %zu, \"min\": %.1f, \"median\": "
                 "%.1f, \"max\": %.1f",
                 first_printed ? "" : ",", name, unit, out.rounds, out.rates[0], median,
                 out.rates[out.rounds - 1]);
    first_printed = false;
    if (with_latency && out.latencies > 0) {
        qsort(latencies_ns, out.latencies, sizeof latencies_ns[0], compare_u64);
        (void)printf(", \"p50_us\": %.1f, \"p99_us\": %.1f",
                     (double)latencies_ns[out.latencies / 2] / 1e3,
                     (double)latencies_ns[out.latencies * 99 / 100] / 1e3);
    }
    (void)printf("}");
}

static size_t number(const char *option, const char *text, size_t low, size_t high) {
    char *end = NULL;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value < low ||
        value > high) {
        errno = 0;
        die("%s wants a number from %zu to %zu", option, low, high);
    }
    return (size_t)value;
}

static settings arguments(int count, char **values) {
    settings s = {
        .dir = NULL, .file_bytes = (size_t)64 << 20, .record_bytes = 100, .group_records = 64};
    double seconds = 8;
    errno = 0;
    for (int i = 1; i < count; i += 2) {
        const char *option = values[i];
        if (i + 1 >= count) {
            die("%s wants a value; options: --dir D [--mib N] [--seconds S] [--record-bytes N] "
                "[--group-records N]",
                option);
        }
        const char *value = values[i + 1];
        if (strcmp(option, "--dir") == 0) {
            s.dir = value;
        } else if (strcmp(option, "--mib") == 0) {
            s.file_bytes = number(option, value, 1, 16384) << 20;
        } else if (strcmp(option, "--seconds") == 0) {
            char *end = NULL;
            seconds = strtod(value, &end);
            if (end == value || *end != '\0' || !(seconds >= 0 && seconds <= 3600)) {
                errno = 0;
                die("--seconds wants a number from 0 to 3600");
            }
        } else if (strcmp(option, "--record-bytes") == 0) {
            s.record_bytes = number(option, value, 1, (size_t)1 << 20);
        } else if (strcmp(option, "--group-records") == 0) {
            s.group_records = number(option, value, 1, 65536);
        } else {
            die("unknown option %s", option);
        }
    }
    if (s.dir == NULL) {
        die("--dir is required: the floor of a disk is the floor of that disk");
    }
    if (s.record_bytes * s.group_records > COLD_BYTES ||
        s.record_bytes * s.group_records > s.file_bytes) {
        die("one group must fit in --mib and in 64 MiB");
    }
    s.floor_seconds = seconds / FLOORS;
    return s;
}

int main(int count, char **values) {
    const settings s = arguments(count, values);
    unsigned char *from = memory(COLD_BYTES, 1);
    unsigned char *to = memory(COLD_BYTES, 2);
    const char *bytes = "bytes_per_second";
    const char *operations = "operations_per_second";

    (void)printf(
        "{\n  \"format\": 1, \"file_bytes\": %zu, \"record_bytes\": %zu, \"group_records\": %zu,\n"
        "  \"page_bytes\": %ld, \"crc32c_implementation\": \"%s\",\n  \"floors\": {",
        s.file_bytes, s.record_bytes, s.group_records, sysconf(_SC_PAGESIZE),
        sl_crc32c_implementation());

    copy_state hot = {.from = from, .to = to, .bytes = HOT_BYTES, .repeats = 512};
    copy_state cold = {.from = from, .to = to, .bytes = COLD_BYTES, .repeats = 1};
    copy_state record = {.from = from, .to = to, .bytes = s.record_bytes, .repeats = 10000};
    measure(&s, "memcpy_hot", bytes, round_copy, &hot, false);
    measure(&s, "memcpy_cold", bytes, round_copy, &cold, false);
    measure(&s, "crc32c_hot", bytes, round_crc, &hot, false);
    measure(&s, "crc32c_cold", bytes, round_crc, &cold, false);
    measure(&s, "crc32c_record", bytes, round_crc, &record, false);

    map_state maps[] = {
        {from, MAP_COLD}, {from, MAP_PREFAULTED}, {from, MAP_RECYCLED}, {from, MAP_RECORDS}};
    measure(&s, "map_cold", bytes, round_map, &maps[0], false);
    measure(&s, "map_prefaulted", bytes, round_map, &maps[1], false);
    measure(&s, "map_recycled", bytes, round_map, &maps[2], false);
    measure(&s, "store_record", operations, round_map, &maps[3], false);

    pwrite_state small = {.from = from, .call_bytes = s.record_bytes, .count_calls = true};
    pwrite_state large = {.from = from, .call_bytes = BLOCK_BYTES, .count_calls = false};
    measure(&s, "pwrite_record", operations, round_pwrite, &small, false);
    measure(&s, "pwrite_64k", bytes, round_pwrite, &large, false);

    sync_state one = {.from = from, .call_bytes = s.record_bytes, .fd = -1, .position = 0};
    measure(&s, "fdatasync_record", operations, round_sync, &one, true);
    close_file(one.fd);
    sync_state group = {
        .from = from, .call_bytes = s.record_bytes * s.group_records, .fd = -1, .position = 0};
    measure(&s, "fdatasync_group", operations, round_sync, &group, true);
    close_file(group.fd);
    measure(&s, "device_write", bytes, round_device, from, false);

    const int fd = fresh_file(&s, s.file_bytes);
    unsigned char *map = map_file(fd, s.file_bytes);
    copy_into_map(&s, map, from);
    read_state reading = {.map = map, .random = 3, .to = to};
    measure(&s, "map_read", bytes, round_read, &reading, false);
    measure(&s, "map_lookup", operations, round_lookup, &reading, false);
    release(map, s.file_bytes);
    close_file(fd);

    (void)printf("\n  }\n}\n");
    release(from, COLD_BYTES);
    release(to, COLD_BYTES);
    return fflush(stdout) == 0 ? 0 : 1;
}
