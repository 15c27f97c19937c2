/* zkload_histogram.h -- latencies, kept so that a high percentile costs no memory of its samples.
 *
 *   value in ns   0 .. 127   128 .. 255   256 .. 511   512 .. 1023  ...
 *   a bucket is      1           2            4             8       ...  wide
 *
 * Each power of two has HISTOGRAM_STEPS buckets, so a percentile is at most 1/64 above the sample
 * that it stands for, and never below it.  The greatest sample is kept as it is. */
#ifndef STRATALOG_BENCH_ZKLOAD_HISTOGRAM_H
#define STRATALOG_BENCH_ZKLOAD_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_STEPS = 64,
    HISTOGRAM_POWERS = 58, /* 2 times 64 exact values, then a row for each of 2^7 to 2^62 */
    HISTOGRAM_BUCKETS = HISTOGRAM_STEPS * HISTOGRAM_POWERS
};

typedef struct {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t count;
    int64_t max;
} histogram;

/* The bucket of a value; negative ones are taken for 0. */
static inline uint32_t histogram_bucket(int64_t value) {
    if (value < 2 * HISTOGRAM_STEPS) return value < 0 ? 0 : (uint32_t)value;
    uint32_t power = 63U - (uint32_t)__builtin_clzll((uint64_t)value); /* 7 for 128 */
    uint32_t step = (uint32_t)((uint64_t)value >> (power - 6U)) - HISTOGRAM_STEPS;
    return (power - 5U) * HISTOGRAM_STEPS + step;
}

/* The greatest value of a bucket. */
static inline int64_t histogram_value(uint32_t bucket) {
    if (bucket < 2 * HISTOGRAM_STEPS) return (int64_t)bucket;
    uint32_t power = bucket / HISTOGRAM_STEPS + 5U;
    uint64_t step = bucket % HISTOGRAM_STEPS + HISTOGRAM_STEPS;
    return (int64_t)(((step + 1) << (power - 6U)) - 1);
}

static inline void histogram_add(histogram *h, int64_t value) {
    h->counts[histogram_bucket(value)]++;
    h->count++;
    if (value > h->max) h->max = value;
}

/* The value that `share` of all samples do not exceed; 0 without samples. */
static inline int64_t histogram_percentile(const histogram *h, double share) {
    if (h->count == 0) return 0;
    uint64_t wanted = (uint64_t)(share * (double)h->count);
    if ((double)wanted < share * (double)h->count) wanted++;
    if (wanted < 1) wanted = 1;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->counts[i];
        if (seen >= wanted) {
            int64_t value = histogram_value(i);
            return value < h->max ? value : h->max;
        }
    }
    return h->max;
}

#endif
