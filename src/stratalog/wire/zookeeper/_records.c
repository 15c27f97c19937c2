/* _records.c -- stratalog.wire.zookeeper._records: the records of a transaction log, many at a time.
 *
 *     | Adler-32 of payload 8 | length 4 | payload | "B" |
 *
 * The format's home is txn_log.py.  A server appends what came in a turn as one piece; made one by one
 * in Python, its records cost more than deciding the transactions does.
 *
 * Adler-32: two sums modulo 65521, of the bytes and of the first sums; the remainders are taken once
 * every 5,552 bytes, before 32 bits overflow.
 *
 * Source: FileTxnLog.java, Util.java; RFC 1950. */

#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { PREFIX_BYTES = 12, RECORD_OVERHEAD_BYTES = 13, BASE = 65521, STRIDE = 5552 };

static uint32_t adler32(const uint8_t *data, size_t bytes) {
    uint32_t a = 1, b = 0;
    while (bytes > 0) {
        size_t stride = bytes < STRIDE ? bytes : STRIDE;
        bytes -= stride;
        for (; stride >= 8; stride -= 8, data += 8) {
            b += 8 * a + 8u * data[0] + 7u * data[1] + 6u * data[2] + 5u * data[3] + 4u * data[4] +
                 3u * data[5] + 2u * data[6] + data[7];
            a += (uint32_t)data[0] + data[1] + data[2] + data[3] + data[4] + data[5] + data[6] +
                 data[7];
        }
        while (stride-- > 0) {
            a += *data++;
            b += a;
        }
        a %= BASE;
        b %= BASE;
    }
    return b << 16 | a;
}

static uint8_t *put32(uint8_t *to, uint32_t value) {
    value = __builtin_bswap32(value);
    memcpy(to, &value, 4);
    return to + 4;
}

PyDoc_STRVAR(encode_doc, "encode_records(payloads)\n--\n\n"
                         "Return the records of a list of payloads, one behind the other.");

static PyObject *encode(PyObject *module, PyObject *payloads) {
    (void)module;
    if (!PyList_Check(payloads)) {
        PyErr_SetString(PyExc_TypeError, "payloads come in a list");
        return NULL;
    }
    Py_ssize_t count = PyList_Size(payloads), room = 0, bytes;
    char *data;
    for (Py_ssize_t n = 0; n < count; n++) {
        if (PyBytes_AsStringAndSize(PyList_GetItem(payloads, n), &data, &bytes) < 0) return NULL;
        if (bytes > INT32_MAX) {
            PyErr_SetString(PyExc_OverflowError, "a payload is longer than its length can say");
            return NULL;
        }
        room += bytes + RECORD_OVERHEAD_BYTES;
    }
    PyObject *records = PyBytes_FromStringAndSize(NULL, room);
    if (records == NULL) return NULL;
    uint8_t *to = (uint8_t *)PyBytes_AsString(records);
    for (Py_ssize_t n = 0; n < count; n++) {
        PyBytes_AsStringAndSize(PyList_GetItem(payloads, n), &data, &bytes);
        to = put32(to, 0);
        to = put32(to, adler32((const uint8_t *)data, (size_t)bytes));
        to = put32(to, (uint32_t)bytes);
        memcpy(to, data, (size_t)bytes);
        to += bytes;
        *to++ = 'B';
    }
    return records;
}

static PyMethodDef functions[] = {{"encode_records", encode, METH_O, encode_doc},
                                  {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                        "_records",
                                        "Records of ZooKeeper's transaction logs.",
                                        -1,
                                        functions,
                                        NULL,
                                        NULL,
                                        NULL,
                                        NULL};

PyMODINIT_FUNC PyInit__records(void) { return PyModule_Create(&definition); }
