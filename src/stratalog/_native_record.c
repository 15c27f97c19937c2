/* _native_record.c -- one record with all its parts, appended by one call of many small arguments.
 *
 * sl_log_append takes a struct of columns, which is right for thousands of records and costs more
 * than the append itself for one: cffi would set each field by a call of its own, and borrow each
 * bytes object through another.  Plain arguments are converted all at once and bytes are passed as
 * they are, so that a keyed append costs little more than the shortest one.
 *
 * The Python build appends this file to the source of the extension module, like _native_capsule.c.
 *
 * Between the two cffi marks below only plain declarations stand: the Python build reads them. */

/* cffi: begin */

/* Append one record.  Lengths of -1 are null; the pointer beside one may be NULL, and so may
 * headers when headers_count is 0.  timestamp_ms -1: now.  Returns the offset or -(sl_status). */
int64_t stratalog_append_record(sl_log *log, const uint8_t *value, int32_t value_bytes,
                                const uint8_t *key, int32_t key_bytes, int64_t timestamp_ms,
                                const uint8_t *headers, int32_t headers_bytes,
                                int32_t headers_count, int32_t codec, int32_t codec_level);

/* cffi: end */

int64_t stratalog_append_record(sl_log *log, const uint8_t *value, int32_t value_bytes,
                                const uint8_t *key, int32_t key_bytes, int64_t timestamp_ms,
                                const uint8_t *headers, int32_t headers_bytes,
                                int32_t headers_count, int32_t codec, int32_t codec_level) {
    static const uint8_t nothing = 0;
    sl_records records = {
        .count = 1,
        .values = value_bytes < 0 ? &nothing : value,
        .value_bytes = &value_bytes,
        .keys = key_bytes < 0 ? NULL : key,
        .key_bytes = key_bytes < 0 ? NULL : &key_bytes,
        .headers = headers_count == 0 ? NULL : headers,
        .headers_bytes = headers_count == 0 ? NULL : &headers_bytes,
        .headers_count = headers_count == 0 ? NULL : &headers_count,
        .timestamp_ms = timestamp_ms,
        .codec = codec,
        .codec_level = codec_level,
        .leader_epoch = -1,
        .producer_id = -1,
        .producer_epoch = -1,
        .base_sequence = -1,
    };
    return sl_log_append(log, &records);
}
