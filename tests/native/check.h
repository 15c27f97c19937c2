/* check.h -- what every native test needs: checks, a seed, a directory that goes away by itself.
 *
 *   CHECK(condition)            count it, report it, go on
 *   CHECK_NOTE(condition, ...)  the same, with a printf line that says which case failed
 *   CHECK_EQ(left, right)       two integers, both printed
 *   CHECK_OK(status)            an sl_status or a value >= 0; prints the engine's own sentence
 *   CHECK_FAILS(result, status) the call answered this failure, as sl_status or as its negative
 *   REQUIRE(condition)          report and end the test: what follows would only be noise
 *
 * None of them is assert(): NDEBUG must not turn a test into a program that prints "passed".  The
 * counters are atomic, since checks run in threads as well.
 *
 * Randomness has one seed, printed by every run; STRATALOG_SEED=<number> repeats it. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stratalog.h"

extern _Atomic uint64_t check_count;
extern _Atomic uint64_t check_failures;

/* Count a failure; true while it is one of the first, which are reported. */
bool check_failed(const char *file, int line, const char *what);
/* Report nothing more, remove the directory, end the process. */
_Noreturn void check_give_up(void);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        atomic_fetch_add(&check_count, 1);                                                         \
        if (!(condition) && check_failed(__FILE__, __LINE__, #condition)) fputc('\n', stderr);     \
    } while (0)

#define CHECK_NOTE(condition, ...)                                                                 \
    do {                                                                                           \
        atomic_fetch_add(&check_count, 1);                                                         \
        if (!(condition) && check_failed(__FILE__, __LINE__, #condition ": ")) {                   \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
        }                                                                                          \
    } while (0)

#define CHECK_EQ(left, right)                                                                      \
    do {                                                                                           \
        int64_t check_left = (int64_t)(left);                                                      \
        int64_t check_right = (int64_t)(right);                                                    \
        CHECK_NOTE(check_left == check_right, "%s is %" PRId64 ", %s is %" PRId64, #left,          \
                   check_left, #right, check_right);                                               \
    } while (0)

/* Statuses are positive as sl_status and negative as a result: a caller's type tells them apart. */
#define CHECK_OK(status)                                                                           \
    do {                                                                                           \
        int64_t check_status = (int64_t)(status);                                                  \
        CHECK_NOTE(check_status == 0, #status " is %s: %s (%s)",                                   \
                   sl_status_name((int32_t)(check_status < 0 ? -check_status : check_status)),     \
                   sl_last_error()->message, sl_last_error()->path);                               \
    } while (0)

#define CHECK_RESULT(result)                                                                       \
    do {                                                                                           \
        int64_t check_result = (int64_t)(result);                                                  \
        CHECK_NOTE(check_result >= 0, #result " is %s: %s (%s)",                                   \
                   sl_status_name((int32_t)-check_result), sl_last_error()->message,               \
                   sl_last_error()->path);                                                         \
    } while (0)

#define CHECK_FAILS(result, expected)                                                              \
    do {                                                                                           \
        int64_t check_result = (int64_t)(result);                                                  \
        int64_t check_as_status = check_result < 0 ? -check_result : check_result;                 \
        CHECK_NOTE(check_as_status == (int64_t)(expected), #result " is %" PRId64 ", not %s",      \
                   check_result, sl_status_name(expected));                                        \
        CHECK_NOTE(sl_last_error()->status == (int32_t)(expected), "the thread's error is %s: %s", \
                   sl_status_name(sl_last_error()->status), sl_last_error()->message);             \
    } while (0)

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        atomic_fetch_add(&check_count, 1);                                                         \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: %s: the test cannot go on\n", __FILE__, __LINE__,          \
                    #condition, sl_last_error()->message);                                         \
            check_give_up();                                                                       \
        }                                                                                          \
    } while (0)

/* ---- randomness ---- */

uint64_t check_mix(uint64_t *state); /* the next number of another sequence */
uint64_t check_random(void);
int64_t check_below(int64_t below); /* in [0, below) */

/* ---- the test's own directory ---- */

void check_begin(const char *name);
void check_remove_tree(const char *path);
/* The test's directory / name, in a buffer of the caller's. */
const char *check_path(char out[1024], const char *name);
/* Print the sum; the value main returns. */
int check_end(void);

#endif
