/* believe.c -- how far the files of a directory are believed.
 *
 * One set of rules for the writer, which then makes the files fit (recovery.c), and for a reader of a
 * log that nobody writes, which shows what a writer would keep and changes nothing (reader.c).
 *
 * Three offsets decide:
 *
 *   known durable   the larger of the recovery-point checkpoint and the control page's durable offset:
 *                   everything below was synced, so damage there is damage
 *   recovery point  the checkpoint alone: where walking the bytes begins
 *   sound end       what walking finds
 *
 *    what is found                        below known durable           at or above it
 *    ------------------------------------------------------------------------------------------
 *    sound batches                        keep                          keep, not yet durable
 *    zeros to the end of the file         records are lost              end of the log
 *    a batch that breaks a rule           damage                        end of the log; later
 *                                                                       segments are no part of it
 *    a segment ends before the next       damage                        end of the log, as above
 *    one's base offset
 *    ------------------------------------------------------------------------------------------
 *
 * A truncation that was carried out lowers both offsets to its own.  truncate_prefix syncs before it
 * decides: a log that ends below its start is damaged, in its records or in that checkpoint. */
#define _GNU_SOURCE
#include "believe.h"

sl_status sl_belief_read(sl_log *log, int64_t previous_durable, sl_belief *out) {
    bool own_files = (log->options.flags & SL_OPEN_NO_CHECKPOINTS) == 0;
    *out = (sl_belief){.recovery_point = log->options.recovery_point,
                       .log_start_offset = log->options.log_start_offset};
    sl_status status = SL_OK;
    if (own_files)
        status = sl_checkpoint_read(log->place, sl_recovery_point_file, &out->recovery_point);
    if (own_files && status == SL_OK)
        status = sl_checkpoint_read(log->place, sl_log_start_file, &out->log_start_offset);
    if (status == SL_OK)
        status = sl_checkpoint_read(log->place, sl_truncation_file, &out->truncation);
    if (status != SL_OK) return status;
    out->contiguous = own_files && out->recovery_point >= 0;
    out->known_durable =
        out->recovery_point > previous_durable ? out->recovery_point : previous_durable;
    log->checkpoint_offset = out->recovery_point;
    return SL_OK;
}

void sl_belief_cut(sl_belief *belief, int64_t end_offset) {
    if (belief->recovery_point > end_offset) belief->recovery_point = end_offset;
    if (belief->known_durable > end_offset) belief->known_durable = end_offset;
}

int32_t sl_belief_first(const sl_belief *belief, const int64_t *bases, int32_t count) {
    /* A segment that begins at the recovery point may have been made by a roll that got no further: the
     * one before it is then still as long as it was reserved. */
    int32_t first = 0;
    for (int32_t i = 1; i < count; i++)
        if (bases[i] < belief->recovery_point) first = i;
    return first;
}

/* A place from which walking to `offset` is short: an index entry that holds, or the start. */
static void starting_point(sl_place *place, int64_t base_offset, int64_t offset,
                           int64_t *out_position, int64_t *out_offset) {
    *out_position = 0;
    *out_offset = base_offset;
    if (offset <= base_offset) return;
    sl_segment *segment;
    if (sl_segment_known(place, base_offset, &segment) != SL_OK) return;
    if (sl_segment_load(segment) == SL_OK) {
        int64_t position = sl_segment_floor_position(segment, offset - 1);
        if (position > 0) {
            sl_batch_header header;
            sl_header_decode(segment->map + position, &header);
            *out_position = position;
            *out_offset = header.base_offset;
        }
    }
    sl_segment_release(segment);
}

sl_status sl_believe_segment(sl_log *log, const sl_belief *belief, int64_t hint,
                             const int64_t *bases, int32_t count, int32_t i, sl_verdict *out) {
    int64_t start;
    int64_t start_offset;
    *out = (sl_verdict){0};
    starting_point(log->place, bases[i], hint, &start, &start_offset);
    sl_status status =
        sl_scan_file(log->place, bases[i], start, start_offset, belief->recovery_point,
                     belief->contiguous, belief->drop_cache, &out->scan);
    if (status != SL_OK) return status;
    bool last = i == count - 1;
    /* Only where we know that a writer of ours left this tail does a gap mean a loss: Kafka's cleaner
     * leaves gaps too. */
    out->gap = !last && belief->contiguous && out->scan.fault == NULL &&
               out->scan.next_offset < bases[i + 1];
    out->ends_here = last || out->gap || out->scan.fault != NULL;
    out->lost = out->ends_here && out->scan.next_offset < belief->known_durable;
    out->unstarted = out->ends_here && (log->options.flags & SL_OPEN_NO_CHECKPOINTS) == 0 &&
                     out->scan.next_offset < belief->log_start_offset;
    return SL_OK;
}
