/*
 * test_crc32c.c: every implementation of CRC-32C this machine has, against
 * published answers and against a reference that goes bit by bit.
 */
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE
#endif

#include "crc32c.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static unsigned long checks;
static unsigned long failures;

/* Not assert(): it stays on with NDEBUG, and goes on after a failure. */
#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        checks++;                                                                                  \
        if (!(condition)) {                                                                        \
            if (failures++ < 20) {                                                                 \
                fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                    \
                fprintf(stderr, __VA_ARGS__);                                                      \
                fputc('\n', stderr);                                                               \
            }                                                                                      \
        }                                                                                          \
    } while (0)

enum { LARGEST = 1 << 20, SHORT = 1500, SPLIT = 600, THREADS = 4 };

static const char *const names[] = {"table", "sse4.2", "pclmulqdq", "vpclmulqdq", "armv8"};
enum { NAMES = sizeof names / sizeof names[0] };

/* The message, and the reference checksum of each of its beginnings. */
static unsigned char message[LARGEST];
static uint32_t reference[LARGEST + 1];
static unsigned char buffer[LARGEST + 64];

static uint64_t random_state = 0x9E3779B97F4A7C15;

static uint64_t random_number(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void prepare(void) {
    uint32_t state = 0xFFFFFFFF;
    reference[0] = 0;
    for (size_t index = 0; index < LARGEST; index++) {
        message[index] = (unsigned char)(random_number() >> 32);
        state ^= message[index];
        for (int bit = 0; bit < 8; bit++) {
            state = (state >> 1) ^ ((state & 1) != 0 ? UINT32_C(0x82F63B78) : 0);
        }
        reference[index + 1] = ~state;
    }
}

static void *first_call(void *result) {
    *(uint32_t *)result = sl_crc32c(0, message, 5000);
    return NULL;
}

/* Comes before any other call, so that the threads race to make the choice. */
static void test_first_calls(void) {
    pthread_t threads[THREADS];
    uint32_t results[THREADS] = {0};
    int started = 0;
    while (started < THREADS &&
           pthread_create(&threads[started], NULL, first_call, &results[started]) == 0) {
        started++;
    }
    CHECK(started == THREADS, "only %d threads", started);
    for (int index = 0; index < started; index++) {
        (void)pthread_join(threads[index], NULL);
        CHECK(results[index] == reference[5000], "thread %d: %08x", index, results[index]);
    }
}

/* RFC 3720, appendix B.4, and the customary check value. */
static void test_known_answers(const char *name) {
    unsigned char bytes[32];
    CHECK(sl_crc32c(0, "123456789", 9) == 0xE3069283, "%s", name);
    CHECK(sl_crc32c(0, "", 0) == 0, "%s", name);
    CHECK(sl_crc32c(0, NULL, 0) == 0, "%s", name);
    CHECK(sl_crc32c(0x12345678, NULL, 0) == 0x12345678, "%s", name);
    memset(bytes, 0, sizeof bytes);
    CHECK(sl_crc32c(0, bytes, sizeof bytes) == 0x8A9136AA, "%s", name);
    memset(bytes, 0xFF, sizeof bytes);
    CHECK(sl_crc32c(0, bytes, sizeof bytes) == 0x62A8AB43, "%s", name);
    for (unsigned index = 0; index < sizeof bytes; index++) {
        bytes[index] = (unsigned char)index;
    }
    CHECK(sl_crc32c(0, bytes, sizeof bytes) == 0x46DD794E, "%s", name);
    for (unsigned index = 0; index < sizeof bytes; index++) {
        bytes[index] = (unsigned char)(31 - index);
    }
    CHECK(sl_crc32c(0, bytes, sizeof bytes) == 0x113FDB5C, "%s", name);
}

static void test_short_lengths(const char *name) {
    for (size_t alignment = 0; alignment < 16; alignment++) {
        memcpy(buffer + alignment, message, SHORT);
        for (size_t bytes = 0; bytes <= SHORT; bytes++) {
            uint32_t crc = sl_crc32c(0, buffer + alignment, bytes);
            CHECK(crc == reference[bytes], "%s: %zu bytes at %zu: %08x", name, bytes, alignment,
                  crc);
        }
    }
}

static void test_one_length(const char *name, size_t bytes, size_t alignment) {
    memcpy(buffer + alignment, message, bytes);
    uint32_t crc = sl_crc32c(0, buffer + alignment, bytes);
    CHECK(crc == reference[bytes], "%s: %zu bytes at %zu: %08x", name, bytes, alignment, crc);
}

static void test_long_lengths(const char *name) {
    for (size_t bytes = SHORT; bytes < 40000; bytes += 61) {
        test_one_length(name, bytes, random_number() % 64);
    }
    for (size_t alignment = 0; alignment < 64; alignment++) {
        test_one_length(name, 16384 + random_number() % 256, alignment);
    }
    for (int round = 0; round < 16; round++) {
        test_one_length(name, random_number() % (LARGEST + 1), random_number() % 64);
    }
    test_one_length(name, LARGEST, 1);
}

/* The buffer ends, and then begins, where reading any further is fatal. */
static void test_page_boundaries(const char *name) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *pages = mmap(NULL, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED, "mmap");
    if (pages == MAP_FAILED) {
        return;
    }
    CHECK(mprotect(pages + page, page, PROT_READ | PROT_WRITE) == 0, "mprotect");
    for (size_t bytes = 0; bytes <= SHORT; bytes++) {
        unsigned char *place = pages + 2 * page - bytes;
        memcpy(place, message, bytes);
        CHECK(sl_crc32c(0, place, bytes) == reference[bytes], "%s: %zu at the end", name, bytes);
    }
    memcpy(pages + page, message, SHORT);
    for (size_t bytes = 0; bytes <= SHORT; bytes++) {
        CHECK(sl_crc32c(0, pages + page, bytes) == reference[bytes], "%s: %zu at the beginning",
              name, bytes);
    }
    (void)munmap(pages, 3 * page);
}

static void test_continuation(const char *name) {
    for (size_t first = 0; first <= SPLIT; first++) {
        uint32_t crc = sl_crc32c(0, message, first);
        crc = sl_crc32c(crc, message + first, SPLIT - first);
        CHECK(crc == reference[SPLIT], "%s: split at %zu: %08x", name, first, crc);
    }
    for (int round = 0; round < 8; round++) {
        uint32_t crc = 0;
        size_t done = 0;
        while (done < LARGEST) {
            size_t piece = 1 + random_number() % (LARGEST / 8);
            if (piece > LARGEST - done) {
                piece = LARGEST - done;
            }
            crc = sl_crc32c(crc, message + done, piece);
            done += piece;
        }
        CHECK(crc == reference[LARGEST], "%s: in pieces: %08x", name, crc);
    }
}

static void test_combine(void) {
    for (size_t first = 0; first <= SPLIT; first++) {
        uint32_t second = sl_crc32c(0, message + first, SPLIT - first);
        CHECK(sl_crc32c_combine(reference[first], second, SPLIT - first) == reference[SPLIT],
              "combined at %zu", first);
    }
    for (int round = 0; round < 100; round++) {
        size_t first = random_number() % (LARGEST + 1);
        size_t bytes = random_number() % (LARGEST - first + 1);
        uint32_t second = sl_crc32c(0, message + first, bytes);
        CHECK(sl_crc32c_combine(reference[first], second, bytes) == reference[first + bytes],
              "%zu and %zu bytes", first, bytes);
    }
    /* Lengths nobody can lay out in memory must still be associative. */
    for (int round = 0; round < 1000; round++) {
        uint32_t a = (uint32_t)random_number();
        uint32_t b = (uint32_t)random_number();
        uint32_t c = (uint32_t)random_number();
        uint64_t bytes_b = random_number() >> (1 + random_number() % 40);
        uint64_t bytes_c = random_number() >> (1 + random_number() % 40);
        uint32_t left = sl_crc32c_combine(sl_crc32c_combine(a, b, bytes_b), c, bytes_c);
        uint32_t right = sl_crc32c_combine(a, sl_crc32c_combine(b, c, bytes_c), bytes_b + bytes_c);
        CHECK(left == right, "%llu and %llu bytes", (unsigned long long)bytes_b,
              (unsigned long long)bytes_c);
    }
}

int main(void) {
    prepare();
    test_first_calls();

    const char *best = sl_crc32c_implementation();
    printf("best: %s; tested:", best);
    for (int index = 0; index < NAMES; index++) {
        const char *name = names[index];
        if (sl_crc32c_force(name) != 0) {
            CHECK(strcmp(name, "table") != 0, "the table is always there");
            continue;
        }
        CHECK(strcmp(sl_crc32c_implementation(), name) == 0, "%s", sl_crc32c_implementation());
        printf(" %s", name);
        test_known_answers(name);
        test_short_lengths(name);
        test_long_lengths(name);
        test_page_boundaries(name);
        test_continuation(name);
    }
    printf("\n");

    CHECK(sl_crc32c_force("table") == 0, "table");
    CHECK(sl_crc32c_force("abacus") == -1, "an unknown name");
    CHECK(strcmp(sl_crc32c_implementation(), "table") == 0, "a refusal changes nothing");
    CHECK(sl_crc32c_force(NULL) == 0, "back to the best");
    CHECK(strcmp(sl_crc32c_implementation(), best) == 0, "%s", sl_crc32c_implementation());
    test_combine();

    if (failures != 0) {
        fprintf(stderr, "%lu of %lu checks failed\n", failures, checks);
        return 1;
    }
    printf("%lu checks passed\n", checks);
    return 0;
}
