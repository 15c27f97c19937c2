/* logkit.h -- a model of a log to hold the engine against, and the files under it.
 *
 * The model keeps no bytes: what a record contains follows from its serial number, so that a log of
 * any length is compared without a copy.  Offsets in a model have no gaps; a serial number is given
 * once and never again, so a record that comes back after a truncation is told from its successor
 * at the same offset.
 *
 *   kit_append   draws records of a random shape, appends them, and notes what the engine took
 *   kit_check_*  read the log in one of its ways and hold every record against the model */
#ifndef LOGKIT_H
#define LOGKIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stratalog.h"

typedef struct kit_record {
    int64_t timestamp_ms;
    uint32_t serial;
    int32_t key_bytes;   /* -1 null */
    int32_t value_bytes; /* -1 null */
    int32_t headers_count;
} kit_record;

typedef struct kit_model {
    kit_record *records; /* [base_offset, end_offset) */
    int64_t base_offset;
    int64_t start_offset; /* log start: records below it must not be served */
    int64_t end_offset;
    int64_t capacity;
    uint32_t next_serial;
    int64_t clock_ms;
} kit_model;

typedef struct kit_shape {
    int64_t count;
    int32_t value_bytes_max;
    int32_t codec;
    int32_t one_batch;
    bool plain; /* null keys, no headers, one timestamp: the engine's short path */
} kit_shape;

void kit_begin(kit_model *model, int64_t base_offset);
void kit_free(kit_model *model);
void kit_cut(kit_model *model, int64_t end_offset); /* records from here on are gone */
const kit_record *kit_at(const kit_model *model, int64_t offset);
/* Copy `from` over `to`, for a test that wants to go back. */
void kit_copy(kit_model *to, const kit_model *from);

/* Bytes of a record. kind: 'k' or 'v'. */
uint8_t kit_byte(uint32_t serial, char kind, int32_t at);
/* Encoded headers of a record into out; returns their bytes (at most 32 a header). */
int32_t kit_headers(uint32_t serial, int32_t count, uint8_t *out);

/* Append; the model takes what the engine says it took.  Returns what sl_log_append returned. */
int64_t kit_append(sl_log *log, kit_model *model, const kit_shape *shape);
int64_t kit_append_some(sl_log *log, kit_model *model, int64_t count);

/* Whether row i of columns is the model's record at that offset. */
bool kit_row_equals(const kit_model *model, const sl_columns *columns, int64_t i);

/* Arrays for sl_columns. */
typedef struct kit_rows {
    sl_columns columns;
    int64_t *offsets;
    int64_t *timestamps_ms;
    int32_t *ints;
} kit_rows;
void kit_rows_begin(kit_rows *rows, int64_t capacity);
void kit_rows_free(kit_rows *rows);

/* Read [from, end) with a cursor whose columns hold `capacity` rows.  Returns how many records were
 * served; every one of them is checked, and that nothing is left out. */
int64_t kit_check_cursor(sl_log *log, const kit_model *model, int64_t from, int64_t capacity);
/* The same, but a failure may end it: returns the offset where it ended, the status in *out_status.
 * A record that is served must still be the model's. */
int64_t kit_read_prefix(sl_log *log, const kit_model *model, int32_t flags, sl_status *out_status);
void kit_check_batches(sl_log *log, const kit_model *model);
void kit_check_gets(sl_log *log, const kit_model *model);
void kit_check_lookups(sl_log *log, const kit_model *model, int64_t count);
void kit_check_ranges(sl_log *log, const kit_model *model, int64_t tries);
void kit_check_times(sl_log *log, const kit_model *model, int64_t tries);
/* First offset at or after the log's start with timestamp >= timestamp_ms, or -1. */
int64_t kit_offset_for_timestamp(const kit_model *model, int64_t timestamp_ms);
/* sl_log_verify_segment finds nothing. */
void kit_check_verified(sl_log *log);
/* All of the above on a log that must equal the model. */
void kit_check_equal(sl_log *log, const kit_model *model);

/* ---- files ---- */

typedef struct kit_file {
    uint8_t *data;
    int64_t bytes; /* -1: there is none */
} kit_file;
kit_file kit_read(const char *directory, const char *name);
void kit_write(const char *directory, const char *name, const void *data, int64_t bytes);
int64_t kit_bytes(const char *directory, const char *name);
void kit_unlink(const char *directory, const char *name);
bool kit_exists(const char *directory, const char *name);
void kit_copy_directory(const char *from, const char *to); /* `to` is emptied first */
/* Name of a segment's file: "00000000000000000000.log". */
const char *kit_segment(char out[64], int64_t base_offset, const char *suffix);

/* Options with small numbers, so that little data makes many segments and index entries. */
sl_options kit_options(int32_t flags, int64_t segment_bytes);

#endif
