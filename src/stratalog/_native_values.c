/* _native_values.c -- many values appended straight from the bytes objects that hold them.
 *
 * Joining a thousand bytes objects and packing their lengths takes Python twice as long as the engine
 * needs to encode and store them.  Here C looks into a tuple itself: it notes where each object's
 * bytes are and how many, and the engine copies them once, into the segment.
 *
 *   cffi drops the interpreter's lock -> taken again to look at the tuple -> dropped -> sl_log_append
 *
 * The caller holds the tuple for the whole call, the tuple holds its items, and neither tuples nor
 * bytes ever change: the addresses stay good without the lock.
 *
 * The Python build appends this file to the source of the extension module, like _native_capsule.c.
 *
 * Between the two cffi marks below only plain declarations stand: the Python build reads them. */

/* cffi: begin */

/* Append the items of a tuple, bytes or None, as values.  Returns the first offset, -(sl_status), or
 * INT64_MIN when an item is neither: nothing happened then, and Python sorts it out.  timestamp_ms -1:
 * now.  The tuple is a PyObject *, which cffi does not know. */
int64_t stratalog_append_values(sl_log *log, void *tuple, int64_t timestamp_ms, int32_t codec,
                                int32_t codec_level, int32_t one_batch);

/* cffi: end */

enum { STRATALOG_VALUES_ON_STACK = 256 };

/* Interpreter's lock held. */
static int stratalog_look_into(PyObject *tuple, Py_ssize_t count, const uint8_t **pointers,
                               int32_t *lengths) {
    static const uint8_t nothing = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GetItem(tuple, i);
        if (Py_IS_TYPE(item, &PyBytes_Type)) {
            char *data;
            Py_ssize_t bytes;
            if (PyBytes_AsStringAndSize(item, &data, &bytes) != 0 || bytes > INT32_MAX) {
                PyErr_Clear();
                return 0;
            }
            pointers[i] = (const uint8_t *)data;
            lengths[i] = (int32_t)bytes;
        } else if (item == Py_None) {
            pointers[i] = &nothing;
            lengths[i] = -1;
        } else {
            return 0;
        }
    }
    return 1;
}

int64_t stratalog_append_values(sl_log *log, void *tuple, int64_t timestamp_ms, int32_t codec,
                                int32_t codec_level, int32_t one_batch) {
    const uint8_t *few_pointers[STRATALOG_VALUES_ON_STACK];
    int32_t few_lengths[STRATALOG_VALUES_ON_STACK];
    const uint8_t **pointers = few_pointers;
    int32_t *lengths = few_lengths;
    void *memory = NULL;
    int64_t result = INT64_MIN;
    PyGILState_STATE state = PyGILState_Ensure();
    Py_ssize_t count = PyTuple_Size(tuple);
    if (count > STRATALOG_VALUES_ON_STACK) {
        memory = malloc((size_t)count * (sizeof *pointers + sizeof *lengths));
        pointers = memory;
        lengths = memory == NULL ? NULL : (int32_t *)(void *)(pointers + count);
    }
    int plain = pointers != NULL && stratalog_look_into(tuple, count, pointers, lengths);
    PyGILState_Release(state);
    if (plain) {
        sl_records records = {
            .count = count,
            .value_pointers = pointers,
            .value_bytes = lengths,
            .timestamp_ms = timestamp_ms,
            .codec = codec,
            .codec_level = codec_level,
            .one_batch = one_batch,
            .leader_epoch = -1,
            .producer_id = -1,
            .producer_epoch = -1,
            .base_sequence = -1,
        };
        result = sl_log_append(log, &records);
    }
    free(memory);
    return result;
}
