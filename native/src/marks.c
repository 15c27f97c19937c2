/* marks.c -- a small cache that makes point lookups short.
 *
 * Records have no fixed length, so finding record k of a batch means stepping over k lengths, each a
 * cache line that has to arrive before the next is known: 5 us for half of a 64 KiB batch.  A lookup
 * therefore notes where every n/32nd record begins, as far as it goes; later ones step over at most
 * n/32 lengths from there.
 *
 * 16,384 slots, direct-mapped by batch, 2.4 MiB, allocated at a log's first point lookup.  A slot is a sequence lock: the writer makes its version odd, stores, makes it even; a reader that saw it
 * change takes the slot for empty.  Two writers at once: the second leaves it alone.  Nothing is ever
 * wrong, only forgotten: segment ids are never used twice and batches never change. */
#include "marks.h"

#include <stddef.h>

static sl_mark_slot *slot_of(sl_marks *marks, uint64_t segment_id, int64_t position) {
    uint64_t hash = (segment_id * 0x9E3779B97F4A7C15u) ^ ((uint64_t)position * 0xC2B2AE3D27D4EB4Fu);
    return &marks->slots[(hash >> 40) % SL_MARK_SLOTS];
}

void sl_marks_load(sl_marks *marks, uint64_t segment_id, int64_t position, int32_t at[SL_MARKS]) {
    sl_mark_slot *slot = slot_of(marks, segment_id, position);
    uint32_t before = atomic_load_explicit(&slot->version, memory_order_acquire);
    if ((before & 1) == 0 && before != 0 &&
        atomic_load_explicit(&slot->segment_id, memory_order_relaxed) == segment_id &&
        atomic_load_explicit(&slot->position, memory_order_relaxed) == (uint32_t)position) {
        for (size_t i = 0; i < SL_MARKS; i++)
            at[i] = atomic_load_explicit(&slot->at[i], memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&slot->version, memory_order_relaxed) == before) return;
    }
    at[0] = 0;
    for (size_t i = 1; i < SL_MARKS; i++) at[i] = -1;
}

void sl_marks_store(sl_marks *marks, uint64_t segment_id, int64_t position,
                    const int32_t at[SL_MARKS]) {
    sl_mark_slot *slot = slot_of(marks, segment_id, position);
    uint32_t version = atomic_load_explicit(&slot->version, memory_order_relaxed);
    if ((version & 1) != 0 ||
        !atomic_compare_exchange_strong_explicit(&slot->version, &version, version + 1,
                                                 memory_order_acquire, memory_order_relaxed))
        return;
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&slot->segment_id, segment_id, memory_order_relaxed);
    atomic_store_explicit(&slot->position, (uint32_t)position, memory_order_relaxed);
    for (size_t i = 0; i < SL_MARKS; i++)
        atomic_store_explicit(&slot->at[i], at[i], memory_order_relaxed);
    atomic_store_explicit(&slot->version, version + 2, memory_order_release);
}
