/* _native_capsule.c -- Arrow structs that live in a PyCapsule.
 *
 * The Python build appends this file to the source of the extension module: it is the one piece of
 * C that knows Python, and libstratalog stays free of it.
 *
 * A capsule holds an address, a name and a destructor.  The consumer moves the struct out of it
 * (copies the bytes, sets release to NULL), or never looks; the destructor runs when the last
 * reference to the capsule goes, releases the struct in the latter case, and frees its memory in
 * both.  It is called by the interpreter with its lock held and perhaps with an exception set, so
 * it calls nothing of Python but the two accessors of the capsule, which neither fail nor touch
 * that exception while name and pointer are those the capsule was made with.
 *
 * cffi drops the interpreter's lock around every call, and PyCapsule_New needs it: hence Python
 * makes the capsule through ctypes.pythonapi, which keeps the lock, and takes only the addresses
 * of struct, name and destructor from here.  See log/columns.py.
 *
 * Between the two cffi marks below only plain declarations stand: the Python build reads them.  The
 * destructors are declared with void * for PyObject *, which cffi does not know. */
#include <stdlib.h>

/* cffi: begin */

/* A struct ArrowArrayStream or ArrowSchema in memory of its own; see arrow.h for the rest. */
sl_status stratalog_stream_new(sl_log *log, const sl_arrow_request *request, void **out_stream);
sl_status stratalog_schema_new(int32_t key_form, int32_t value_form, void **out_schema);

/* For a struct that never came into a capsule.  NULL is fine. */
void stratalog_stream_free(void *stream);
void stratalog_schema_free(void *schema);

/* What PyCapsule_New gets beside the struct: it keeps the name's address, so that is C's memory,
 * which no interpreter takes down while a capsule lives. */
extern const char stratalog_stream_capsule_name[19];
extern const char stratalog_schema_capsule_name[13];
void stratalog_stream_capsule_destroy(void *capsule);
void stratalog_schema_capsule_destroy(void *capsule);

/* cffi: end */

const char stratalog_stream_capsule_name[19] = "arrow_array_stream";
const char stratalog_schema_capsule_name[13] = "arrow_schema";

sl_status stratalog_stream_new(sl_log *log, const sl_arrow_request *request, void **out_stream) {
    struct ArrowArrayStream *made = calloc(1, sizeof *made);
    *out_stream = NULL;
    if (made == NULL) return SL_E_NO_MEMORY;
    sl_status status = sl_log_arrow_stream_as(log, request, made);
    if (status != SL_OK) {
        free(made);
        return status;
    }
    *out_stream = made;
    return SL_OK;
}

sl_status stratalog_schema_new(int32_t key_form, int32_t value_form, void **out_schema) {
    struct ArrowSchema *made = calloc(1, sizeof *made);
    *out_schema = NULL;
    if (made == NULL) return SL_E_NO_MEMORY;
    sl_status status = sl_arrow_schema(key_form, value_form, made);
    if (status != SL_OK) {
        free(made);
        return status;
    }
    *out_schema = made;
    return SL_OK;
}

void stratalog_stream_free(void *stream) {
    struct ArrowArrayStream *held = stream;
    if (held != NULL && held->release != NULL) held->release(held);
    free(held);
}

void stratalog_schema_free(void *schema) {
    struct ArrowSchema *held = schema;
    if (held != NULL && held->release != NULL) held->release(held);
    free(held);
}

/* The pointer under whatever name the capsule has: a consumer may have renamed it. */
static void *capsule_content(void *capsule) {
    return PyCapsule_GetPointer((PyObject *)capsule, PyCapsule_GetName((PyObject *)capsule));
}

void stratalog_stream_capsule_destroy(void *capsule) {
    stratalog_stream_free(capsule_content(capsule));
}

void stratalog_schema_capsule_destroy(void *capsule) {
    stratalog_schema_free(capsule_content(capsule));
}
