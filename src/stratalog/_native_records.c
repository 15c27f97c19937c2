/* _native_records.c -- many Record tuples made from the columns of one read, and the memory under them.
 *
 * Made by iterators of Python, a record costs five objects and a zip's tuple that is copied into the
 * Record and thrown away.  Here the Record is allocated as what it is, a tuple of five, and its fields
 * are set: a quarter less time, and less than half with copies.
 *
 *   field --> slice --> memoryview --> StratalogPinned --> sl_pin --> the segment's map
 *
 * StratalogPinned exports the columns' memory, read-only, and holds the pin: when the last view goes, so
 * does the pin, and the map may go too.  As one object it replaces a cffi buffer, its owner and two
 * views between them, which cost a point lookup more than the engine took to find the record.
 *
 * The Python build appends this file to the source of the extension module, like _native_capsule.c.
 *
 * Between the two cffi marks below only plain declarations stand: the Python build reads them. */

/* cffi: begin */

/* Make builtins; each returns a new reference to a PyObject *, or NULL with an exception set.  The
 * interpreter's lock must be held, which a cffi call drops: Python calls these through
 * ctypes.PYFUNCTYPE.  `address` is that of an sl_columns that was filled; its pin is taken over, also
 * when the call fails.
 *
 *   pinned(address) -> memoryview of the columns' base
 *   records(copy, address, count, headers) -> list of `count` instances of record_type
 *       copy     fields are bytes objects; otherwise views
 *       headers  list of `count` objects, or None: every record gets the empty tuple
 *       all arrays of the columns are wanted */
void *stratalog_pinned_new(void);
void *stratalog_records_new(void *record_type);

/* cffi: end */

typedef struct stratalog_pinned {
    PyObject_HEAD const uint8_t *data;
    Py_ssize_t bytes;
    sl_pin *pin;
} stratalog_pinned;

static int stratalog_pinned_export(PyObject *self, Py_buffer *view, int flags) {
    stratalog_pinned *pinned = (stratalog_pinned *)self;
    return PyBuffer_FillInfo(view, self, (void *)(uintptr_t)pinned->data, pinned->bytes, 1, flags);
}

static void stratalog_pinned_destroy(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    sl_pin_release(((stratalog_pinned *)self)->pin);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *stratalog_pinned_type(void) {
    static PyObject *type; /* made once, with the interpreter's lock held */
    static PyType_Slot slots[] = {{Py_tp_dealloc, (void *)stratalog_pinned_destroy},
                                  {Py_bf_getbuffer, (void *)stratalog_pinned_export},
                                  {0, NULL}};
    static PyType_Spec spec = {"stratalog._native.Pinned", (int)sizeof(stratalog_pinned), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
    if (type == NULL) type = PyType_FromSpec(&spec);
    return type;
}

/* A memoryview of the columns' memory; takes over the pin. */
static PyObject *stratalog_view(const sl_columns *columns) {
    PyObject *type = stratalog_pinned_type();
    PyObject *self = type == NULL ? NULL : PyType_GenericAlloc((PyTypeObject *)type, 0);
    if (self == NULL) {
        sl_pin_release(columns->pin);
        return NULL;
    }
    stratalog_pinned *pinned = (stratalog_pinned *)self;
    pinned->data = columns->base;
    pinned->bytes = (Py_ssize_t)columns->base_bytes;
    pinned->pin = columns->pin;
    PyObject *view = PyMemoryView_FromObject(self);
    Py_DECREF(self);
    return view;
}

static PyObject *stratalog_pinned_of(PyObject *self, PyObject *address) {
    (void)self;
    const sl_columns *columns = PyLong_AsVoidPtr(address);
    if (columns == NULL) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "the address is 0");
        return NULL;
    }
    return stratalog_view(columns);
}

void *stratalog_pinned_new(void) {
    static PyMethodDef definition = {"pinned", stratalog_pinned_of, METH_O, NULL};
    return PyCFunction_NewEx(&definition, NULL, NULL);
}

enum { STRATALOG_RECORD_FIELDS = 5 };

static PyObject *stratalog_slice(PyObject *source, const uint8_t *base, int32_t start,
                                 int32_t end) {
    if (source == NULL) return PyBytes_FromStringAndSize((const char *)base + start, end - start);
    PyObject *from = PyLong_FromLong(start);
    PyObject *to = PyLong_FromLong(end);
    PyObject *slice = from != NULL && to != NULL ? PySlice_New(from, to, NULL) : NULL;
    Py_XDECREF(from);
    Py_XDECREF(to);
    if (slice == NULL) return NULL;
    PyObject *field = PyObject_GetItem(source, slice);
    Py_DECREF(slice);
    return field;
}

static PyObject *stratalog_field(PyObject *source, const uint8_t *base, int32_t start,
                                 int32_t end) {
    if (end >= 0) return stratalog_slice(source, base, start, end);
    Py_INCREF(Py_None);
    return Py_None;
}

/* Steals `field`; NULL is an exception that is set already. */
static int stratalog_set_field(PyObject *record, Py_ssize_t at, PyObject *field) {
    return field == NULL ? -1 : PyTuple_SetItem(record, at, field);
}

static int stratalog_fill_record(PyObject *record, PyObject *source, const sl_columns *columns,
                                 Py_ssize_t i, PyObject *time, PyObject *headers) {
    const uint8_t *base = columns->base;
    Py_INCREF(headers);
    Py_INCREF(time);
    if (stratalog_set_field(record, 4, headers) != 0 ||
        stratalog_set_field(record, 0, PyLong_FromLongLong(columns->offsets[i])) != 0 ||
        stratalog_set_field(record, 1, time) != 0 ||
        stratalog_set_field(
            record, 2, stratalog_field(source, base, columns->key_start[i], columns->key_end[i])) !=
            0 ||
        stratalog_set_field(
            record, 3,
            stratalog_field(source, base, columns->value_start[i], columns->value_end[i])) != 0)
        return -1;
    return 0;
}

static PyObject *stratalog_records(PyObject *record_type, PyObject *const *arguments,
                                   Py_ssize_t argument_count) {
    if (argument_count != 4) {
        PyErr_SetString(PyExc_TypeError, "copy, address, count and headers are wanted");
        return NULL;
    }
    const sl_columns *columns = PyLong_AsVoidPtr(arguments[1]);
    Py_ssize_t count = PyLong_AsSsize_t(arguments[2]);
    PyObject *headers = arguments[3] == Py_None ? NULL : arguments[3];
    if (PyErr_Occurred()) return NULL;
    PyObject *source = NULL;
    if (arguments[0] != Py_True) {
        source = stratalog_view(columns);
        if (source == NULL) return NULL;
    }
    PyObject *list = PyList_New(count);
    PyObject *no_headers = PyTuple_New(0);
    PyObject *time = NULL;
    int failed = list == NULL || no_headers == NULL;
    for (Py_ssize_t i = 0; i < count && !failed; i++) {
        PyObject *its_headers = headers == NULL ? no_headers : PyList_GetItem(headers, i);
        PyObject *record = its_headers == NULL ? NULL
                                               : PyType_GenericAlloc((PyTypeObject *)record_type,
                                                                     STRATALOG_RECORD_FIELDS);
        failed = record == NULL;
        if (failed) break;
        /* Nothing in a record leads back to it: the collector need not look for cycles there. */
        PyObject_GC_UnTrack(record);
        /* Neighbours were often appended in the same millisecond. */
        if (time == NULL || columns->timestamps_ms[i] != columns->timestamps_ms[i - 1]) {
            Py_XDECREF(time);
            time = PyLong_FromLongLong(columns->timestamps_ms[i]);
        }
        failed = time == NULL ||
                 stratalog_fill_record(record, source, columns, i, time, its_headers) != 0;
        if (failed)
            Py_DECREF(record);
        else
            failed = PyList_SetItem(list, i, record) != 0; /* steals it in either case */
    }
    Py_XDECREF(no_headers);
    Py_XDECREF(time);
    if (source == NULL) sl_pin_release(columns->pin);
    Py_XDECREF(source);
    if (!failed) return list;
    Py_XDECREF(list);
    return NULL;
}

void *stratalog_records_new(void *record_type) {
    static PyMethodDef definition = {"records", (PyCFunction)(void (*)(void))stratalog_records,
                                     METH_FASTCALL, NULL};
    if (!PyType_IsSubtype(record_type, &PyTuple_Type)) {
        PyErr_SetString(PyExc_TypeError, "records are made of a class derived from tuple");
        return NULL;
    }
    return PyCFunction_NewEx(&definition, record_type, NULL);
}
