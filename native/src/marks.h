/* marks.h -- where the records of recently looked-up batches begin: see marks.c. */
#ifndef SL_MARKS_H
#define SL_MARKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { SL_MARKS = 32, SL_MARK_SLOTS = 16384, SL_MARKED_RECORDS_MIN = 64 };

/* One batch: the positions, relative to its first record, of every (record_count / SL_MARKS)th; known
 * up to some mark, -1 from there on. */
typedef struct sl_mark_slot {
    _Atomic uint32_t version; /* odd while it is being written */
    _Atomic uint32_t position;
    _Atomic uint64_t segment_id;
    _Atomic int32_t at[SL_MARKS];
} sl_mark_slot;

typedef struct sl_marks {
    sl_mark_slot slots[SL_MARK_SLOTS];
} sl_marks;

/* Copy the marks of a batch; all -1 but the first when it is not known. */
void sl_marks_load(sl_marks *marks, uint64_t segment_id, int64_t position, int32_t at[SL_MARKS]);

/* Remember them: at[k] is where record number k * sl_marks_stride(record_count) begins. */
void sl_marks_store(sl_marks *marks, uint64_t segment_id, int64_t position,
                    const int32_t at[SL_MARKS]);

static inline int64_t sl_marks_stride(int32_t record_count) {
    return ((int64_t)record_count + SL_MARKS - 1) / SL_MARKS;
}

#endif
