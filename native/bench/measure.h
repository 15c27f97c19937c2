/* measure.h -- what stratalog-load measures with: complaints, clocks, and the one line of JSON.
 *
 *   {"seconds", "cpu_seconds", "records", "bytes", "payload_crc32", "extra": {...}}
 *
 * Wall time is CLOCK_MONOTONIC, processor time is getrusage: user plus system time of all threads,
 * those of the engine included.  A complaint is one line on standard error and status 1; then
 * nothing stands on standard output, so that a failed run can never be taken for a figure.
 *
 * Left to others: what is measured (load.c). */
#ifndef STRATALOG_BENCH_MEASURE_H
#define STRATALOG_BENCH_MEASURE_H

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "stratalog.h"

/* ---- complaints ---------------------------------------------------------------------------- */

static _Noreturn void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)fputs("stratalog-load: ", stderr);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fputc('\n', stderr);
    exit(1);
}

static _Noreturn void die_system(const char *what) { die("%s: %s", what, strerror(errno)); }

/* The engine failed: its own sentence says why. */
static _Noreturn void die_engine(const char *what) {
    const sl_error *error = sl_last_error();
    die("%s: %s: %s", what, sl_status_name(error->status), error->message);
}

static void check_status(sl_status status, const char *what) {
    if (status != SL_OK) die_engine(what);
}

static int64_t checked(int64_t value, const char *what) {
    if (value < 0) die_engine(what);
    return value;
}

static void *memory(size_t count, size_t bytes) {
    void *p = calloc(count > 0 ? count : 1, bytes);
    if (p == NULL) die("no memory for %zu times %zu bytes", count, bytes);
    return p;
}

/* ---- time and the line of JSON ----------------------------------------------------------------- */

typedef struct {
    double seconds;
    double cpu_seconds;
} stopwatch;

static int64_t now_ns(void) {
    struct timespec t;
    if (clock_gettime(CLOCK_MONOTONIC, &t) != 0) die_system("clock_gettime");
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static double cpu_seconds(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) die_system("getrusage");
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static stopwatch begin(void) {
    stopwatch watch = {.cpu_seconds = -cpu_seconds()};
    watch.seconds = -(double)now_ns() / 1e9;
    return watch;
}

static void end(stopwatch *watch) {
    watch->seconds += (double)now_ns() / 1e9;
    watch->cpu_seconds += cpu_seconds();
}

static char extra[4096];

static void add_extra(const char *name, double value) {
    size_t used = strlen(extra);
    int n = snprintf(extra + used, sizeof extra - used, "%s\"%s\": %.15g", used > 0 ? ", " : "",
                     name, value);
    if (n < 0 || (size_t)n >= sizeof extra - used) die("too many extra figures");
}

static void print(const stopwatch *watch, int64_t records, int64_t bytes, uint32_t crc) {
    (void)printf("{\"seconds\": %.9f, \"cpu_seconds\": %.6f, \"records\": %" PRId64
                 ", \"bytes\": %" PRId64 ", \"payload_crc32\": %" PRIu32 ", \"extra\": {%s}}\n",
                 watch->seconds, watch->cpu_seconds, records, bytes, crc, extra);
}

static int compare_ns(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void add_latencies(int64_t *latencies_ns, int64_t count) {
    if (count == 0) return;
    qsort(latencies_ns, (size_t)count, sizeof *latencies_ns, compare_ns);
    add_extra("p50_us", (double)latencies_ns[count / 2] / 1e3);
    add_extra("p99_us", (double)latencies_ns[count * 99 / 100] / 1e3);
    add_extra("p999_us", (double)latencies_ns[count * 999 / 1000] / 1e3);
    add_extra("max_us", (double)latencies_ns[count - 1] / 1e3);
}

static double median_seconds(int64_t *ns, int64_t count) {
    qsort(ns, (size_t)count, sizeof *ns, compare_ns);
    return (double)ns[count / 2] / 1e9;
}

#endif
