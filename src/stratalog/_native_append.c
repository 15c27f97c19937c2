/* _native_append.c -- the shortest way from Python to an append: a builtin function for each log.
 *
 * A cffi call of three arguments takes 165 ns beside the 100 ns that the append itself takes: a tuple
 * is built and unpacked, three objects are converted, the length was asked for by another call.  A
 * builtin that CPython calls by vectorcall takes the bytes object as it is.
 *
 *   Log._append_plain --> builtin --> capsule: pointer  sl_log *
 *                                              context  the cffi handle, referenced
 *
 * Lifetime is that of every other call (handle.py): who calls the builtin holds it, it holds the
 * capsule, and the capsule holds the handle; the last to leave frees the log.
 *
 * The interpreter's lock is given back around the append, which may wait for a disk.
 *
 * The Python build appends this file to the source of the extension module, like _native_capsule.c.
 *
 * Between the two cffi marks below only plain declarations stand: the Python build reads them. */

/* cffi: begin */

/* Make the builtin for a log; `handle` is the PyObject * that keeps it.  Returns a new reference to a
 * PyObject *, or NULL with an exception set.  The interpreter's lock must be held, which a cffi call
 * drops: Python calls this through ctypes.PYFUNCTYPE. */
void *stratalog_append_plain_new(void *handle, void *log);

/* cffi: end */

static PyObject *stratalog_append_plain(PyObject *capsule, PyObject *const *arguments,
                                        Py_ssize_t count) {
    char *value;
    Py_ssize_t bytes;
    if (count != 1 || !Py_IS_TYPE(arguments[0], &PyBytes_Type))
        return PyLong_FromLongLong(INT64_MIN);
    if (PyBytes_AsStringAndSize(arguments[0], &value, &bytes) != 0) return NULL;
    sl_log *log = PyCapsule_GetPointer(capsule, NULL);
    if (log == NULL) return NULL;
    int64_t result;
    Py_BEGIN_ALLOW_THREADS result = sl_log_append_value(log, (const uint8_t *)value, (size_t)bytes);
    Py_END_ALLOW_THREADS return PyLong_FromLongLong(result);
}

static void stratalog_append_plain_destroy(PyObject *capsule) {
    Py_XDECREF((PyObject *)PyCapsule_GetContext(capsule));
}

void *stratalog_append_plain_new(void *handle, void *log) {
    static PyMethodDef definition = {
        "append_plain", (PyCFunction)(void (*)(void))stratalog_append_plain, METH_FASTCALL, NULL};
    PyObject *capsule = PyCapsule_New(log, NULL, stratalog_append_plain_destroy);
    if (capsule == NULL) return NULL;
    Py_INCREF((PyObject *)handle);
    if (PyCapsule_SetContext(capsule, handle) != 0) {
        Py_DECREF((PyObject *)handle);
        Py_DECREF(capsule);
        return NULL;
    }
    PyObject *function = PyCFunction_NewEx(&definition, capsule, NULL);
    Py_DECREF(capsule);
    return function;
}
