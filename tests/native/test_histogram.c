/* test_histogram.c -- the latencies of stratalog-zkload: every value finds its bucket, percentiles
 * lie between the sample that they stand for and 1/64 above it.  Compared with a sorted array. */
#include "check.h"
#include "zkload_histogram.h"

enum { SAMPLES = 20000 };

static void test_buckets(void) {
    for (uint32_t bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        int64_t last = histogram_value(bucket);
        CHECK_EQ(histogram_bucket(last), bucket);
        if (bucket + 1 < HISTOGRAM_BUCKETS) CHECK_EQ(histogram_bucket(last + 1), bucket + 1);
    }
    CHECK_EQ(histogram_value(HISTOGRAM_BUCKETS - 1), INT64_MAX);
    CHECK_EQ(histogram_bucket(-5), 0);
    CHECK_EQ(histogram_bucket(INT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static int compare(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void test_percentiles(void) {
    static histogram h;
    static int64_t samples[SAMPLES];
    uint64_t state = 88172645463325252ULL;
    for (int i = 0; i < SAMPLES; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        samples[i] = (int64_t)(state >> (20 + state % 40)); /* of all sizes */
        histogram_add(&h, samples[i]);
    }
    qsort(samples, SAMPLES, sizeof samples[0], compare);
    CHECK_EQ(h.count, SAMPLES);
    CHECK_EQ(h.max, samples[SAMPLES - 1]);
    static const int permilles[] = {1, 10, 500, 900, 990, 999, 1000};
    for (size_t i = 0; i < sizeof permilles / sizeof permilles[0]; i++) {
        int64_t exact = samples[(int64_t)SAMPLES * permilles[i] / 1000 - 1];
        int64_t seen = histogram_percentile(&h, (double)permilles[i] / 1000);
        CHECK_NOTE(seen >= exact && seen <= exact + exact / HISTOGRAM_STEPS + 1,
                   "%d of 1000: %" PRId64 " for %" PRId64, permilles[i], seen, exact);
    }
}

static void test_empty_and_single(void) {
    static histogram empty;
    CHECK_EQ(histogram_percentile(&empty, 0.99), 0);
    static histogram one;
    histogram_add(&one, 1000003);
    CHECK_EQ(histogram_percentile(&one, 0.5), 1000003);
    CHECK_EQ(histogram_percentile(&one, 1.0), 1000003);
}

int main(void) {
    check_begin("histogram");
    test_buckets();
    test_percentiles();
    test_empty_and_single();
    return check_end();
}
