/* standalone.c -- replays inputs of a fuzzer where there is no libFuzzer.
 *
 *   cc -g -fsanitize=address,undefined -Inative/include -Inative/src -Inative/fuzz \
 *      native/fuzz/fuzz_batch.c native/fuzz/standalone.c native/src/[a-z]*.c -pthread -o replay
 *   ./replay FILE...            every file once
 *   ./replay --generate N SEED  N inputs of the fuzzer's own mutator, which needs no file to begin with
 *
 * Nothing is guided by coverage here: it is for repeating a finding under gdb, valgrind or gcc, and for
 * a short run on a machine without clang.  A finding ends the process by abort(), as with libFuzzer. */
#define _GNU_SOURCE
#include "scratch.h"

enum { INPUT_BYTES_MAX = 1 << 16 };

/* libFuzzer's mutation in its smallest form: one byte changed, removed or added. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) {
    static uint64_t state = 1;
    if (max_size == 0) return 0;
    size_t at = size > 0 ? scratch_random(&state) % size : 0;
    uint32_t kind = scratch_random(&state) % 4;
    if (size == 0 || (kind == 0 && size < max_size)) {
        memmove(data + at + 1, data + at, size - at);
        data[at] = (uint8_t)scratch_random(&state);
        return size + 1;
    }
    if (kind == 1 && size > 1) {
        memmove(data + at, data + at + 1, size - at - 1);
        return size - 1;
    }
    data[at] ^= (uint8_t)(1u << scratch_random(&state) % 8);
    return size;
}

static void replay(const char *path) {
    FILE *file = fopen(path, "rb");
    HOLDS(file != NULL, "cannot open %s", path);
    static uint8_t whole[INPUT_BYTES_MAX * 16];
    size_t bytes = fread(whole, 1, sizeof whole, file);
    fclose(file);
    /* A block of exactly this length, so that a sanitizer sees the first byte too far. */
    uint8_t *exact = malloc(bytes > 0 ? bytes : 1);
    HOLDS(exact != NULL, "no memory");
    memcpy(exact, whole, bytes);
    (void)LLVMFuzzerTestOneInput(exact, bytes);
    free(exact);
    printf("%s: %zu bytes, held\n", path, bytes);
}

static void generate(long count, uint64_t state) {
    static uint8_t input[INPUT_BYTES_MAX];
    size_t size = 0;
    for (long i = 0; i < count; i++) {
        if (scratch_random(&state) % 16 == 0) size = 0; /* begin anew */
        size = LLVMFuzzerCustomMutator(input, size, sizeof input, scratch_random(&state));
        uint8_t *exact = malloc(size > 0 ? size : 1);
        HOLDS(exact != NULL, "no memory");
        memcpy(exact, input, size);
        (void)LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    printf("%ld inputs held\n", count);
}

int main(int argc, char **argv) {
    (void)LLVMFuzzerInitialize(&argc, &argv);
    if (argc >= 3 && strcmp(argv[1], "--generate") == 0) {
        generate(strtol(argv[2], NULL, 10), argc > 3 ? strtoull(argv[3], NULL, 10) : 1);
        return 0;
    }
    if (argc < 2) {
        fprintf(stderr, "usage: %s FILE... | --generate COUNT [SEED]\n", argv[0]);
        return 2;
    }
    for (int i = 1; i < argc; i++) replay(argv[i]);
    return 0;
}
