/*
 * crc32c.c: CRC-32C, in whatever way this processor does it fastest.
 *
 * What it promises.  The same 32 bits from every implementation, for any
 * length, alignment and division into calls.  No byte outside the buffer is
 * read, nothing is allocated, no call fails, and any number of threads may
 * call at once.
 *
 * The polynomial and the order of bits.  The message is read as a polynomial
 * over the field of two elements, the first bit being the coefficient of the
 * highest power of x, and the checksum is that times x^32, reduced modulo
 *
 *     P = x^32 + x^28 + x^27 + x^26 + x^25 + x^23 + x^22 + x^20 + x^19 + x^18
 *       + x^14 + x^13 + x^11 + x^10 + x^9 + x^8 + x^6 + 1        (0x11EDC6F41)
 *
 * with 32 bits of ones exclusive-ored into the beginning of the message and
 * into the result.  Within a byte the least significant bit comes first, so
 * everything here is mirrored: in a word of n bits, bit i is the coefficient
 * of x^(n-1-i).  A little-endian load then has the message's order already, a
 * shift to the right multiplies by x, and P without its x^32 is 0x82F63B78.
 *
 * The "state" is the residue before the last inversion.  Stepping a state s
 * over a word w of 64 bits yields s * x^64 + w * x^32 modulo P, and because
 * this is linear, a message may be cut in pieces that are worked on side by
 * side: a piece's residue is multiplied by a power of x to move it past those
 * that follow, and added, which is exclusive or.  All speed comes from that.
 *
 *     table        Eight look-ups per word, any processor.
 *     sse4.2       The crc32 instruction on three streams, since it takes
 *                  three cycles and one can start in each.
 *     pclmulqdq    The same beside folding by 128-bit vectors, which keeps two
 *                  execution units busy at once.
 *     vpclmulqdq   Folding by 512-bit vectors alone.
 *     armv8        The crc32cx instruction on three streams.
 *
 * Folding.  A vector lane of 128 bits is moved forward over the message without
 * being reduced to 32 bits: each half is multiplied by a residue that is
 * congruent to the power of x it has to move by, and the two products (of 95
 * bits at most) are added to the lane that is already there.
 *
 *     16 bytes          distance d         16 bytes
 *     +----+----+                          +----+----+
 *     |  A |  B |  . . . . . . . . . . .   |    C    |
 *     +----+----+                          +----+----+
 *        |    |                                 |
 *        |    +---- B * x^d ------------- + ----+---->  a new lane here, with
 *        +--------- A * x^(d+64) -------- +             the residue of both
 *
 * With several lanes, each leaps over the others in every turn.  At the end
 * they are folded onto the last, over whose 16 bytes the crc32 instruction
 * steps; it does the reduction that Barrett's method is often used for.
 *
 * The constants.  The product of two mirrored 64-bit words comes out one bit
 * off its place in 128 bits, which is a factor of x; and a 32-bit residue in
 * the lower half of a word is read as if multiplied by x^32.  To move by 64w
 * bits therefore takes the residue of x^(64w - 33), and the two halves of a
 * lane that moves by w words take the entries w and w + 1 of that table, as
 * does the merging of streams, where the crc32 step that follows contributes
 * x^32 and the narrower product the rest.  So one table, computed on first use
 * by repeated stepping over a zero word, serves every purpose, and no constant
 * but P itself is written down.
 *
 * The dispatch.  sl_crc32c jumps through an atomic pointer.  It starts at a
 * function that computes the tables (some 50 microseconds, once), asks the
 * processor and the operating system what they support, stores the best
 * implementation and passes the call on.
 *
 * Measured on a virtual machine with an Intel Xeon of the Sapphire and
 * Emerald Rapids generation, one thread, gcc 12 -O2, the data in the cache and 3
 * bytes off alignment; nanoseconds per call, and gigabytes per second:
 *
 *                    64 B     150 B     256 B     1 KiB     4 KiB       64 KiB    cold
 *     vpclmulqdq   4.5 ns    6.8 ns    5.6 ns     10 ns     37 ns (111)    573 (114)   29
 *     pclmulqdq    5.1       6.8        10        26        81  (51)      1260  (52)   27
 *     sse4.2       4.4       6.8        10        38       148  (28)      2330  (28)   21
 *     table         23        70       124       533      2160 (1.9)     34800 (1.9)  1.9
 *
 * "cold" is gigabytes per second over 64 MiB.  Where each call must wait for the
 * result of the last, a call of 64 bytes takes 9 ns and one of 150 takes 11.  A
 * version that also stepped three streams beside the 512-bit folding gained a
 * tenth from 8 KiB upwards and lost below, so it was not kept.
 *
 * What is left to others.  Whether a checksum matches is decided by whoever
 * reads the batch; nothing here knows of batches.  A page of a mapped file that
 * cannot be read raises SIGBUS here as it would anywhere else.  The processor's
 * CRC-32 of other polynomials is not offered.  Blocks are kept to a few pages,
 * rather than cutting a large buffer in distant thirds, so that the kernel
 * still sees a mapped file read from front to back.
 */
#include "crc32c.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#define HAVE_ARMV8 1
#include <sys/auxv.h>
#endif

/* ------------------------------------------------------------------------
 * The arithmetic, in portable C.
 */

/* The polynomial without its x^32, mirrored: bit 31 is the coefficient of
 * x^0 and bit 0 that of x^31. */
#define POLYNOMIAL UINT32_C(0x82F63B78)

/* The powers of x repeat with this period modulo the polynomial, which is
 * x + 1 times a primitive polynomial of degree 31. */
#define PERIOD_OF_X ((UINT64_C(1) << 31) - 1)

/* The residue 1, mirrored. */
#define RESIDUE_ONE UINT32_C(0x80000000)

/* The longest distance, in words of eight bytes, that `word_shift` covers.
 * It bounds how far apart the parallel streams of one block may lie. */
enum { LONGEST_SHIFT = 576 };

/* The length in words of each of the three streams of the ARMv8 version. */
enum { ARMV8_RUN = 32 };

/* byte_table[k][b] is the state left by the byte b followed by k zero bytes,
 * from a state of zero. */
static uint32_t byte_table[8][256];

/* word_shift[w] is x^(64w - 33) modulo the polynomial: the constant that moves
 * a state or a vector lane past w words.  The upper half of each is zero; they
 * are 64 bits wide so that two neighbours load as one vector operand. */
static uint64_t word_shift[LONGEST_SHIFT + 2];

/* power_of_bytes[k] is x^(8 * 2^k), which moves a state past 2^k bytes. */
static uint32_t power_of_bytes[64];

#if defined(HAVE_ARMV8)
/* run_table[k][b] is the state b << 8k moved past ARMV8_RUN words. */
static uint32_t run_table[4][256];
#endif

static inline uint32_t times_x(uint32_t residue) {
    return (residue >> 1) ^ (POLYNOMIAL & (0U - (residue & 1U)));
}

/* The product of two residues, by Horner's rule from x^31 (bit 0) downwards. */
static uint32_t multiply(uint32_t left, uint32_t right) {
    uint32_t product = 0;
    for (int bit = 0; bit < 32; bit++) {
        product = times_x(product) ^ (right & (0U - ((left >> bit) & 1U)));
    }
    return product;
}

static uint32_t power_of_x(uint64_t exponent) {
    uint32_t result = RESIDUE_ONE;
    uint32_t square = times_x(RESIDUE_ONE);
    for (; exponent != 0; exponent >>= 1) {
        if ((exponent & 1) != 0) {
            result = multiply(result, square);
        }
        square = multiply(square, square);
    }
    return result;
}

/* Reads eight bytes so that the first of them is the least significant,
 * whatever the order of bytes in this machine's words. */
static inline uint64_t load_word(const unsigned char *from) {
    uint64_t word;
    memcpy(&word, from, sizeof word);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* Moves a state past one word of the message by eight independent look-ups. */
static inline uint32_t table_step(uint32_t state, uint64_t word) {
    word ^= state;
    return byte_table[7][word & 0xFF] ^ byte_table[6][(word >> 8) & 0xFF] ^
           byte_table[5][(word >> 16) & 0xFF] ^ byte_table[4][(word >> 24) & 0xFF] ^
           byte_table[3][(word >> 32) & 0xFF] ^ byte_table[2][(word >> 40) & 0xFF] ^
           byte_table[1][(word >> 48) & 0xFF] ^ byte_table[0][word >> 56];
}

static void compute_tables(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t state = byte;
        for (int bit = 0; bit < 8; bit++) {
            state = times_x(state);
        }
        byte_table[0][byte] = state;
    }
    for (int zeros = 1; zeros < 8; zeros++) {
        for (int byte = 0; byte < 256; byte++) {
            uint32_t before = byte_table[zeros - 1][byte];
            byte_table[zeros][byte] = (before >> 8) ^ byte_table[0][before & 0xFF];
        }
    }

    /* The exponent -33 is reached from below through the period; from there
     * each step past a word of zeros multiplies by x^64. */
    uint32_t residue = power_of_x(PERIOD_OF_X - 33);
    for (int words = 0; words < LONGEST_SHIFT + 2; words++) {
        word_shift[words] = residue;
        residue = table_step(residue, 0);
    }

    residue = power_of_x(8);
    for (int doublings = 0; doublings < 64; doublings++) {
        power_of_bytes[doublings] = residue;
        residue = multiply(residue, residue);
    }

#if defined(HAVE_ARMV8)
    /* Moving is linear, so only the single bits need a multiplication. */
    const uint32_t past_run = power_of_x(64 * ARMV8_RUN);
    for (int place = 0; place < 4; place++) {
        for (uint32_t byte = 1; byte < 256; byte++) {
            uint32_t others = byte & (byte - 1);
            run_table[place][byte] =
                others == 0 ? multiply(byte << (8 * place), past_run)
                            : run_table[place][others] ^ run_table[place][byte ^ others];
        }
    }
#endif
}

static uint32_t update_table(uint32_t crc, const unsigned char *next, size_t bytes) {
    uint32_t state = ~crc;
    for (; bytes >= 8; bytes -= 8, next += 8) {
        state = table_step(state, load_word(next));
    }
    for (; bytes > 0; bytes--, next++) {
        state = (state >> 8) ^ byte_table[0][(state ^ *next) & 0xFF];
    }
    return ~state;
}

/* ------------------------------------------------------------------------
 * x86-64: the crc32 instruction, alone and beside carry-less multiplication.
 */
#if defined(__x86_64__)

#define TARGET_SSE42 __attribute__((target("sse4.2,pclmul")))
#define TARGET_AVX512 __attribute__((target("sse4.2,pclmul,avx512f,vpclmulqdq")))
#define ALWAYS_INLINE inline __attribute__((always_inline))

/* The state is kept in 64 bits, as the instruction has it, so that the
 * compiler need not widen it again at every step. */
TARGET_SSE42 static ALWAYS_INLINE uint64_t sse_step(uint64_t state, uint64_t word) {
    return _mm_crc32_u64(state, word);
}

/* A word of message which, stepped over from a state of zero, leaves `state`
 * moved past `words` words.  Several such words may be exclusive-ored first
 * and stepped over together. */
TARGET_SSE42 static ALWAYS_INLINE uint64_t sse_shifted(uint64_t state, size_t words) {
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)state),
                                           _mm_loadl_epi64((const void *)&word_shift[words]), 0x00);
    return (uint64_t)_mm_cvtsi128_si64(product);
}

TARGET_SSE42 static ALWAYS_INLINE uint64_t sse_few_bytes(uint64_t state, const unsigned char *next,
                                                         size_t bytes) {
    uint32_t narrow = (uint32_t)state;
    if ((bytes & 4) != 0) {
        uint32_t piece;
        memcpy(&piece, next, sizeof piece);
        narrow = _mm_crc32_u32(narrow, piece);
        next += 4;
    }
    if ((bytes & 2) != 0) {
        uint16_t piece;
        memcpy(&piece, next, sizeof piece);
        narrow = _mm_crc32_u16(narrow, piece);
        next += 2;
    }
    if ((bytes & 1) != 0) {
        narrow = _mm_crc32_u8(narrow, *next);
    }
    return narrow;
}

/* Takes the odd bytes first, so that whole words remain.  At least eight bytes
 * must be readable at `next`, of which `odd` (0 to 7) are consumed: moved to
 * the end of a word whose beginning is zero, they pass in a single step and
 * without a branch on their number, which would be mispredicted. */
TARGET_SSE42 static ALWAYS_INLINE uint64_t sse_odd_bytes(uint64_t state, const unsigned char *next,
                                                         size_t odd) {
    uint64_t word = load_word(next) ^ state;
    uint64_t moved = (word << (56 - 8 * odd)) << 8;
    return (state >> (8 * odd)) ^ sse_step(0, moved);
}

/* Three streams, because one crc32 instruction can start every cycle but takes
 * three to finish. */
TARGET_SSE42 static ALWAYS_INLINE uint64_t sse_words(uint64_t state, const unsigned char *next,
                                                     size_t words) {
    enum { SHORTEST_RUN = 2, LONGEST_RUN = 128 };

    while (words >= 3 * SHORTEST_RUN) {
        size_t run = words / 3;
        if (run > LONGEST_RUN) {
            run = LONGEST_RUN;
        }
        uint64_t second = 0;
        uint64_t third = 0;
        const unsigned char *end = next + 8 * run;
        for (; next != end; next += 8) {
            state = sse_step(state, load_word(next));
            second = sse_step(second, load_word(next + 8 * run));
            third = sse_step(third, load_word(next + 16 * run));
        }
        state = third ^ sse_step(0, sse_shifted(state, 2 * run) ^ sse_shifted(second, run));
        next += 16 * run;
        words -= 3 * run;
    }
    for (; words > 0; words--, next += 8) {
        state = sse_step(state, load_word(next));
    }
    return state;
}

TARGET_SSE42 static uint32_t update_sse42(uint32_t crc, const unsigned char *next, size_t bytes) {
    uint64_t state = (uint32_t)~crc;
    if (bytes < 8) {
        return ~(uint32_t)sse_few_bytes(state, next, bytes);
    }
    state = sse_odd_bytes(state, next, bytes & 7);
    return ~(uint32_t)sse_words(state, next + (bytes & 7), bytes / 8);
}

/* The two halves of a vector lane stand at different distances from where the
 * lane is moved to, hence the pair of constants; the immediate operands cross
 * them, since the half that comes first in memory has further to go. */
TARGET_SSE42 static ALWAYS_INLINE __m128i sse_fold(__m128i lane, __m128i constants, __m128i onto) {
    return _mm_xor_si128(onto, _mm_xor_si128(_mm_clmulepi64_si128(lane, constants, 0x10),
                                             _mm_clmulepi64_si128(lane, constants, 0x01)));
}

TARGET_SSE42 static ALWAYS_INLINE __m128i sse_load(const void *from) {
    return _mm_loadu_si128(from);
}

/* Steps over the sixteen bytes that stand for all the folded ones. */
TARGET_SSE42 static ALWAYS_INLINE uint64_t sse_reduce(__m128i lane) {
    uint64_t state = sse_step(0, (uint64_t)_mm_cvtsi128_si64(lane));
    return sse_step(state, (uint64_t)_mm_extract_epi64(lane, 1));
}

/*
 * The block of the "pclmulqdq" version: a stretch for the vector unit, then
 * three for the crc32 instruction, all advanced in the same loop.
 *
 *     | folded: turns * 8 words | first: turns * 3 | second | third |
 *
 * Eight multiplications and nine crc32 steps make a turn, on different
 * execution units, so that either kind hides behind the other.
 */
enum {
    FOLDED_PER_TURN = 8,
    STEPPED_PER_TURN = 3,
    WORDS_PER_TURN = FOLDED_PER_TURN + 3 * STEPPED_PER_TURN,
    MOST_TURNS = LONGEST_SHIFT / (3 * STEPPED_PER_TURN)
};

TARGET_SSE42 static uint64_t fused_block(uint64_t state, const unsigned char *next, size_t turns) {
    const size_t run = turns * STEPPED_PER_TURN;
    const unsigned char *stream = next + turns * FOLDED_PER_TURN * 8;
    const __m128i constants = sse_load(&word_shift[FOLDED_PER_TURN]);

    __m128i lane_0 = _mm_xor_si128(sse_load(next), _mm_cvtsi64_si128((long long)state));
    __m128i lane_1 = sse_load(next + 16);
    __m128i lane_2 = sse_load(next + 32);
    __m128i lane_3 = sse_load(next + 48);
    uint64_t first = 0;
    uint64_t second = 0;
    uint64_t third = 0;

    for (;;) {
        for (int step = 0; step < STEPPED_PER_TURN; step++, stream += 8) {
            first = sse_step(first, load_word(stream));
            second = sse_step(second, load_word(stream + 8 * run));
            third = sse_step(third, load_word(stream + 16 * run));
        }
        if (--turns == 0) {
            break;
        }
        next += 8 * FOLDED_PER_TURN;
        lane_0 = sse_fold(lane_0, constants, sse_load(next));
        lane_1 = sse_fold(lane_1, constants, sse_load(next + 16));
        lane_2 = sse_fold(lane_2, constants, sse_load(next + 32));
        lane_3 = sse_fold(lane_3, constants, sse_load(next + 48));
    }

    lane_3 = sse_fold(lane_0, sse_load(&word_shift[6]), lane_3);
    lane_2 = sse_fold(lane_1, sse_load(&word_shift[2]), lane_2);
    lane_3 = sse_fold(lane_2, sse_load(&word_shift[2]), lane_3);
    return third ^ sse_step(0, sse_shifted(sse_reduce(lane_3), 3 * run) ^
                                   sse_shifted(first, 2 * run) ^ sse_shifted(second, run));
}

TARGET_SSE42 static uint32_t update_pclmulqdq(uint32_t crc, const unsigned char *next,
                                              size_t bytes) {
    /* Below this the merge of four parts costs more than the vector unit
     * gains. */
    enum { SHORTEST_FUSED = 480 };

    if (bytes < SHORTEST_FUSED) {
        return update_sse42(crc, next, bytes);
    }
    uint64_t state = sse_odd_bytes((uint32_t)~crc, next, bytes & 7);
    next += bytes & 7;
    size_t words = bytes / 8;
    while (words >= SHORTEST_FUSED / 8) {
        size_t turns = words / WORDS_PER_TURN;
        if (turns > MOST_TURNS) {
            turns = MOST_TURNS;
        }
        state = fused_block(state, next, turns);
        next += turns * WORDS_PER_TURN * 8;
        words -= turns * WORDS_PER_TURN;
    }
    return ~(uint32_t)sse_words(state, next, words);
}

/* One multiplication here does the work of four of the above, each lane of
 * 128 bits apart; the ternary operation 0x96 is the exclusive or of three. */
TARGET_AVX512 static ALWAYS_INLINE __m512i wide_fold(__m512i lanes, __m512i constants,
                                                     __m512i onto) {
    return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(lanes, constants, 0x10),
                                     _mm512_clmulepi64_epi128(lanes, constants, 0x01), onto, 0x96);
}

TARGET_AVX512 static ALWAYS_INLINE __m512i wide_constants(size_t words) {
    return _mm512_broadcast_i32x4(sse_load(&word_shift[words]));
}

/* Folds `vectors` (at least one) pieces of 64 bytes. */
TARGET_AVX512 static ALWAYS_INLINE uint64_t wide_vectors(uint64_t state, const unsigned char *next,
                                                         size_t vectors) {
    const unsigned char *end = next + 64 * vectors;
    const __m512i past_one = wide_constants(8);
    __m512i lanes = _mm512_xor_si512(_mm512_loadu_si512(next),
                                     _mm512_zextsi128_si512(_mm_cvtsi64_si128((long long)state)));
    next += 64;

    /* Four accumulators, because a multiplication takes some eight cycles to
     * finish and another can start in every one of them. */
    if (vectors >= 4) {
        const __m512i past_four = wide_constants(32);
        __m512i lanes_1 = _mm512_loadu_si512(next);
        __m512i lanes_2 = _mm512_loadu_si512(next + 64);
        __m512i lanes_3 = _mm512_loadu_si512(next + 128);
        for (next += 192; end - next >= 256; next += 256) {
            lanes = wide_fold(lanes, past_four, _mm512_loadu_si512(next));
            lanes_1 = wide_fold(lanes_1, past_four, _mm512_loadu_si512(next + 64));
            lanes_2 = wide_fold(lanes_2, past_four, _mm512_loadu_si512(next + 128));
            lanes_3 = wide_fold(lanes_3, past_four, _mm512_loadu_si512(next + 192));
        }
        lanes_3 = wide_fold(lanes, wide_constants(24), lanes_3);
        lanes_2 = wide_fold(lanes_1, past_one, lanes_2);
        lanes = wide_fold(lanes_2, past_one, lanes_3);
    }
    for (; next != end; next += 64) {
        lanes = wide_fold(lanes, past_one, _mm512_loadu_si512(next));
    }

    /* The first eight constants, lanes reversed, move each lane onto the last
     * one: by six, four, two and (which leaves it as it is) zero words. */
    __m512i to_last = _mm512_loadu_si512(word_shift);
    to_last = _mm512_shuffle_i64x2(to_last, to_last, 0x1B);
    lanes = wide_fold(lanes, to_last, _mm512_setzero_si512());
    __m256i half =
        _mm256_xor_si256(_mm512_castsi512_si256(lanes), _mm512_extracti64x4_epi64(lanes, 1));
    return sse_reduce(
        _mm_xor_si128(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
}

TARGET_AVX512 static uint32_t update_vpclmulqdq(uint32_t crc, const unsigned char *next,
                                                size_t bytes) {
    /* From the second size on, vectors that straddle two cache lines cost
     * more than the words it takes to reach a line's beginning. */
    enum { SHORTEST_WIDE = 192, SHORTEST_ALIGNED = 16384 };

    if (bytes < SHORTEST_WIDE) {
        return update_sse42(crc, next, bytes);
    }
    size_t lead = bytes >= SHORTEST_ALIGNED ? (64 - ((uintptr_t)next & 63)) & 63 : bytes & 7;
    bytes -= lead;
    uint64_t state = sse_odd_bytes((uint32_t)~crc, next, lead & 7);
    next += lead & 7;
    for (lead /= 8; lead > 0; lead--, next += 8) {
        state = sse_step(state, load_word(next));
    }

    state = wide_vectors(state, next, bytes / 64);
    next += bytes & ~(size_t)63;
    for (size_t words = (bytes & 63) / 8; words > 0; words--, next += 8) {
        state = sse_step(state, load_word(next));
    }
    return ~(uint32_t)sse_few_bytes(state, next, bytes & 7);
}

/* The compiler's own test of these also asks whether the operating system
 * saves the vector registers, without which they must not be used. */
static bool have_sse42(void) {
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}

static bool have_vpclmulqdq(void) {
    return have_sse42() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("vpclmulqdq");
}

#endif /* __x86_64__ */

/* ------------------------------------------------------------------------
 * ARMv8: the crc32c instructions, which are optional in version 8.0.
 */
#if defined(HAVE_ARMV8)

/* Written in assembler, since the compilers disagree on how a single function
 * asks for the extension. */
#define DEFINE_ARMV8_STEP(name, instruction, operand, type)                                        \
    static inline uint32_t name(uint32_t state, type piece) {                                      \
        uint32_t result;                                                                           \
        __asm__(".arch_extension crc\n\t" instruction " %w0, %w1, " operand                        \
                : "=r"(result)                                                                     \
                : "r"(state), "r"(piece));                                                         \
        return result;                                                                             \
    }
DEFINE_ARMV8_STEP(armv8_step, "crc32cx", "%x2", uint64_t)
DEFINE_ARMV8_STEP(armv8_step_byte, "crc32cb", "%w2", uint32_t)

static inline uint32_t armv8_past_run(uint32_t state) {
    return run_table[0][state & 0xFF] ^ run_table[1][(state >> 8) & 0xFF] ^
           run_table[2][(state >> 16) & 0xFF] ^ run_table[3][state >> 24];
}

/* Three streams as on x86-64, but merged by tables: carry-less multiplication
 * is a separate option here, and processors exist that have only the crc. */
static uint32_t update_armv8(uint32_t crc, const unsigned char *next, size_t bytes) {
    enum { RUN = 8 * ARMV8_RUN };

    uint32_t state = ~crc;
    for (; bytes >= 3 * RUN; bytes -= 3 * RUN, next += 2 * RUN) {
        uint32_t second = 0;
        uint32_t third = 0;
        for (const unsigned char *end = next + RUN; next != end; next += 8) {
            state = armv8_step(state, load_word(next));
            second = armv8_step(second, load_word(next + RUN));
            third = armv8_step(third, load_word(next + 2 * RUN));
        }
        state = armv8_past_run(armv8_past_run(state) ^ second) ^ third;
    }
    for (; bytes >= 8; bytes -= 8, next += 8) {
        state = armv8_step(state, load_word(next));
    }
    for (; bytes > 0; bytes--, next++) {
        state = armv8_step_byte(state, *next);
    }
    return ~state;
}

static bool have_armv8(void) { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }

#endif /* HAVE_ARMV8 */

/* ------------------------------------------------------------------------
 * The choice between them.
 */

typedef uint32_t update_function(uint32_t crc, const unsigned char *next, size_t bytes);

static bool have_table(void) { return true; }

/* Best first. */
static const struct {
    const char *name;
    update_function *update;
    bool (*available)(void);
} implementations[] = {
#if defined(__x86_64__)
    {"vpclmulqdq", update_vpclmulqdq, have_vpclmulqdq},
    {"pclmulqdq", update_pclmulqdq, have_sse42},
    {"sse4.2", update_sse42, have_sse42},
#endif
#if defined(HAVE_ARMV8)
    {"armv8", update_armv8, have_armv8},
#endif
    {"table", update_table, have_table},
};

enum { IMPLEMENTATIONS = sizeof implementations / sizeof implementations[0] };

static update_function update_first_call;

/* What sl_crc32c jumps to.  Whoever stores another function than the first
 * has computed the tables before, and stores with release order; whoever loads
 * with acquire order therefore sees them. */
static _Atomic(update_function *) current = update_first_call;

static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

/* The best available one, or the one of that name; NULL if there is none. */
static update_function *find_implementation(const char *name) {
    for (size_t index = 0; index < IMPLEMENTATIONS; index++) {
        if ((name == NULL || strcmp(name, implementations[index].name) == 0) &&
            implementations[index].available()) {
            return implementations[index].update;
        }
    }
    return NULL;
}

/* Returns the function in use, after choosing it if nobody has yet.  The
 * exchange lets a choice that another thread forces meanwhile stand. */
static update_function *resolve(void) {
    update_function *update = atomic_load_explicit(&current, memory_order_acquire);
    if (update == update_first_call) {
        (void)pthread_once(&tables_once, compute_tables);
        update_function *best = find_implementation(NULL);
        if (atomic_compare_exchange_strong_explicit(&current, &update, best, memory_order_acq_rel,
                                                    memory_order_acquire)) {
            update = best;
        }
    }
    return update;
}

static uint32_t update_first_call(uint32_t crc, const unsigned char *next, size_t bytes) {
    return resolve()(crc, next, bytes);
}

uint32_t sl_crc32c(uint32_t crc, const void *data, size_t bytes) {
    return atomic_load_explicit(&current, memory_order_acquire)(crc, data, bytes);
}

uint32_t sl_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t bytes_b) {
    (void)pthread_once(&tables_once, compute_tables);

    /* The inversions cancel: the first checksum, moved past the second piece,
     * is what the two differ by. */
    for (int doublings = 0; bytes_b != 0; doublings++, bytes_b >>= 1) {
        if ((bytes_b & 1) != 0) {
            crc_a = multiply(crc_a, power_of_bytes[doublings]);
        }
    }
    return crc_a ^ crc_b;
}

const char *sl_crc32c_implementation(void) {
    update_function *update = resolve();
    size_t index = 0;
    while (implementations[index].update != update) {
        index++;
    }
    return implementations[index].name;
}

int sl_crc32c_force(const char *name) {
    update_function *update = find_implementation(name);
    if (update == NULL) {
        return -1;
    }
    (void)pthread_once(&tables_once, compute_tables);
    atomic_store_explicit(&current, update, memory_order_release);
    return 0;
}
