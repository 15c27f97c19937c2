/* facts.h -- what a trial's records look like, so that any of them can be made again and compared.
 *
 * A record is a pure function of its offset and of a nonce that its append call drew:
 *
 *   nonce   = random << 16 | longest value in bytes
 *   value   = pseudo-random bytes, 0 to the longest, both drawn from (offset, nonce)
 *   key     = the offset in 8 bytes, or null, as (offset, nonce) decides
 *   time    = TRIAL_TIME_MS + 10 ms per offset
 *
 * So the victim only has to say "appended FIRST COUNT NONCE", and the checker, in another process
 * and perhaps on another mount, compares every byte that the log serves.  Offsets that are used
 * again after a truncation get another nonce and with it other bytes: a stale record shows.
 *
 * A line of facts is "NANOSECONDS FACT ARGUMENTS"; the time is CLOCK_MONOTONIC's, taken after the
 * call returned.
 *
 *   begin append FIRST COUNT NONCE    the call is being made; until its end anything of it may stand
 *   appended FIRST COUNT NONCE        it returned
 *   failed KEPT STATUS ERRNO          it returned an error; KEPT records of it stand
 *   begin start OFFSET, start OFFSET            truncate_prefix
 *   begin truncated OFFSET, truncated OFFSET    truncate_suffix
 *   durable OFFSET                    everything below it survives a power loss
 *   opened START END                  an open returned and found this
 *   poisoned                          a sync failed: only durable records are promised any more
 *   done COMMAND                      any other command succeeded
 *   error COMMAND STATUS ERRNO        a command failed */
#ifndef TRIAL_FACTS_H
#define TRIAL_FACTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stratalog.h"

#define TRIAL_TIME_MS INT64_C(1700000000000)
enum { TRIAL_VALUE_BYTES_MAX = 0xffff, TRIAL_KEY_BYTES = 8 };

/* splitmix64: one multiplication chain per draw, good enough to make every byte differ. */
static inline uint64_t trial_draw(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* A number in [0, limit). */
static inline int64_t trial_below(uint64_t *state, int64_t limit) {
    return (int64_t)(trial_draw(state) % (uint64_t)limit);
}

static inline uint64_t trial_record_seed(int64_t offset, int64_t nonce) {
    return ((uint64_t)offset * UINT64_C(0xd6e8feb86659fd93)) ^ (uint64_t)nonce;
}

/* Fill value[0..TRIAL_VALUE_BYTES_MAX] and say whether the record has a key.  Returns its length. */
static inline int32_t trial_record(int64_t offset, int64_t nonce, uint8_t *value, bool *has_key) {
    uint64_t state = trial_record_seed(offset, nonce);
    *has_key = (trial_draw(&state) & 3) == 0;
    int32_t bytes = (int32_t)trial_below(&state, (nonce & 0xffff) + 1);
    for (int32_t i = 0; i < bytes; i += 8) {
        uint64_t word = trial_draw(&state);
        int32_t left = bytes - i < 8 ? bytes - i : 8;
        memcpy(value + i, &word, (size_t)left);
    }
    return bytes;
}

static inline int64_t trial_time_ms(int64_t offset) { return TRIAL_TIME_MS + 10 * offset; }

/* What is wrong with record number `row` of columns, or NULL. */
static inline const char *trial_record_fault(const sl_columns *c, int64_t row, int64_t nonce) {
    static uint8_t value[TRIAL_VALUE_BYTES_MAX + 8];
    bool has_key;
    int64_t offset = c->offsets[row];
    int32_t bytes = trial_record(offset, nonce, value, &has_key);
    if (c->value_end[row] - c->value_start[row] != bytes) return "the value has another length";
    if (bytes > 0 && memcmp(c->base + c->value_start[row], value, (size_t)bytes) != 0)
        return "the value has other bytes";
    if (has_key != (c->key_end[row] >= 0))
        return "the key is null where it must not be, or the reverse";
    if (has_key && (c->key_end[row] - c->key_start[row] != TRIAL_KEY_BYTES ||
                    memcmp(c->base + c->key_start[row], &offset, TRIAL_KEY_BYTES) != 0))
        return "the key has other bytes";
    if (c->timestamps_ms[row] != trial_time_ms(offset)) return "the timestamp is another";
    return NULL;
}

/* Columns of `capacity` rows in one static block: trials read with one thread. */
enum { TRIAL_ROWS = 512 };
static inline void trial_columns(sl_columns *columns) {
    static int64_t longs[2][TRIAL_ROWS];
    static int32_t ints[4][TRIAL_ROWS];
    *columns = (sl_columns){.capacity = TRIAL_ROWS,
                            .offsets = longs[0],
                            .timestamps_ms = longs[1],
                            .key_start = ints[0],
                            .key_end = ints[1],
                            .value_start = ints[2],
                            .value_end = ints[3]};
}

/* Records of one append call, made by trial_records, freed by trial_records_free. */
typedef struct trial_batch {
    sl_records records;
    uint8_t *values;
    uint8_t *keys;
    int32_t *value_bytes;
    int32_t *key_bytes;
    int64_t *timestamps_ms;
} trial_batch;

static inline void trial_records_free(trial_batch *batch) {
    free(batch->values);
    free(batch->keys);
    free(batch->value_bytes);
    free(batch->key_bytes);
    free(batch->timestamps_ms);
}

/* false: no memory for the records themselves. */
static inline bool trial_records(int64_t first, int64_t count, int64_t nonce, trial_batch *out) {
    size_t n = (size_t)count;
    *out = (trial_batch){.values = malloc(n * (size_t)((nonce & 0xffff) + 8) + 8),
                         .keys = malloc(n * TRIAL_KEY_BYTES),
                         .value_bytes = malloc(n * sizeof(int32_t)),
                         .key_bytes = malloc(n * sizeof(int32_t)),
                         .timestamps_ms = malloc(n * sizeof(int64_t))};
    if (out->values == NULL || out->keys == NULL || out->value_bytes == NULL ||
        out->key_bytes == NULL || out->timestamps_ms == NULL) {
        trial_records_free(out);
        return false;
    }
    size_t at = 0;
    size_t key_at = 0;
    for (int64_t i = 0; i < count; i++) {
        bool has_key;
        int64_t offset = first + i;
        out->value_bytes[i] = trial_record(offset, nonce, out->values + at, &has_key);
        at += (size_t)out->value_bytes[i];
        out->key_bytes[i] = has_key ? TRIAL_KEY_BYTES : -1;
        if (has_key) memcpy(out->keys + key_at, &offset, TRIAL_KEY_BYTES);
        if (has_key) key_at += TRIAL_KEY_BYTES;
        out->timestamps_ms[i] = trial_time_ms(offset);
    }
    out->records = (sl_records){.count = count,
                                .values = out->values,
                                .value_bytes = out->value_bytes,
                                .keys = out->keys,
                                .key_bytes = out->key_bytes,
                                .timestamps_ms = out->timestamps_ms,
                                .timestamp_ms = -1,
                                .leader_epoch = -1,
                                .producer_id = -1,
                                .producer_epoch = -1,
                                .base_sequence = -1};
    return true;
}

#endif
