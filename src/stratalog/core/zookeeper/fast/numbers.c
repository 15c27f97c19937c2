/* numbers.c -- digests and Stats.
 *
 * The digest of a znode is the CRC-32 (IEEE 802.3) of path, data and numbers:
 *
 *     | path | data | czxid 8 | mzxid 8 | pzxid 8 | ctime 8 | mtime 8 | version 4 | cversion 4
 *     | aversion 4 | owner 8 |
 *
 * and 0 for what lies below /zookeeper, which each server keeps on its own.  The tree's is their sum.
 *
 * A Stat is 68 bytes: czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, length of the
 * data, number of children, pzxid.  Clients see cversion count creates and deletes, and no owner but a
 * session.
 *
 * The CRC goes eight bytes at a time by eight tables ("slicing by 8").
 *
 * Source: DigestCalculator.java, DataNode.java, EphemeralType.java. */

#include "fast.h"

enum { DIGESTED_BYTES = 60 };

static uint32_t tables[8][256];
static PyObject *encode_ustring; /* of stratalog.wire.jute */

void numbers_begin(void) {
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t crc = n;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
        tables[0][n] = crc;
    }
    for (uint32_t n = 0; n < 256; n++)
        for (int k = 1; k < 8; k++)
            tables[k][n] = tables[k - 1][n] >> 8 ^ tables[0][tables[k - 1][n] & 0xFF];
}

static uint32_t crc_more(uint32_t crc, const uint8_t *data, size_t bytes) {
    crc = ~crc;
    while (bytes >= 8) {
        uint64_t word; /* little-endian, as every machine is that this library is built for */
        memcpy(&word, data, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        word ^= crc;
        crc = tables[7][word & 0xFF] ^ tables[6][word >> 8 & 0xFF] ^ tables[5][word >> 16 & 0xFF] ^
              tables[4][word >> 24 & 0xFF] ^ tables[3][word >> 32 & 0xFF] ^
              tables[2][word >> 40 & 0xFF] ^ tables[1][word >> 48 & 0xFF] ^ tables[0][word >> 56];
        data += 8;
        bytes -= 8;
    }
    while (bytes-- > 0) crc = crc >> 8 ^ tables[0][(crc ^ *data++) & 0xFF];
    return ~crc;
}

unsigned digest_at(const char *path, Py_ssize_t length, const numbers *node) {
    uint32_t crc = crc_more(0, (const uint8_t *)path, (size_t)length);
    if (!is_none(node->data)) {
        char *data;
        Py_ssize_t bytes;
        PyBytes_AsStringAndSize(node->data, &data, &bytes); /* bytes: see numbers_data_set */
        crc = crc_more(crc, (const uint8_t *)data, (size_t)bytes);
    }
    uint8_t fixed[DIGESTED_BYTES], *to = fixed;
    to = put64(to, (uint64_t)node->czxid);
    to = put64(to, (uint64_t)node->mzxid);
    to = put64(to, (uint64_t)node->pzxid);
    to = put64(to, (uint64_t)node->ctime);
    to = put64(to, (uint64_t)node->mtime);
    to = put32(to, (uint32_t)node->version);
    to = put32(to, (uint32_t)node->cversion);
    to = put32(to, (uint32_t)node->aversion);
    put64(to, (uint64_t)node->owner);
    return crc_more(crc, fixed, sizeof fixed);
}

const char *ascii_of(PyObject *text, Py_ssize_t *bytes) {
    const char *found = PyUnicode_AsUTF8AndSize(text, bytes);
    if (found != NULL) return *bytes == PyUnicode_GetLength(text) ? found : NULL;
    if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) PyErr_Clear(); /* surrogates */
    return NULL;
}

PyObject *java_text(PyObject *text) {
    if (encode_ustring == NULL) {
        PyObject *jute = PyImport_ImportModule("stratalog.wire.jute");
        if (jute == NULL) return NULL;
        encode_ustring = PyObject_GetAttrString(jute, "encode_ustring");
        Py_DECREF(jute);
        if (encode_ustring == NULL) return NULL;
    }
    PyObject *encoded = PyObject_CallFunctionObjArgs(encode_ustring, text, NULL);
    if (encoded != NULL && !PyBytes_Check(encoded)) {
        PyErr_SetString(PyExc_TypeError, "encode_ustring makes bytes");
        Py_CLEAR(encoded);
    }
    return encoded;
}

bool digest_any(PyObject *path, const numbers *node, unsigned *digest) {
    static const char system[] = "/zookeeper/";
    Py_ssize_t bytes = 0;
    PyObject *encoded = NULL;
    const char *text = ascii_of(path, &bytes);
    if (text == NULL) {
        if (PyErr_Occurred() || (encoded = java_text(path)) == NULL) return false;
        text = PyBytes_AsString(encoded);
        bytes = PyBytes_Size(encoded);
    }
    if (bytes >= (Py_ssize_t)sizeof system - 1 && memcmp(text, system, sizeof system - 1) == 0)
        *digest = 0;
    else
        *digest = digest_at(text, bytes == 1 && text[0] == '/' ? 0 : bytes, node);
    Py_XDECREF(encoded);
    return true;
}

/* The owner as clients see it: a session's id, else 0. */
static i64 owner_seen(i64 owner, bool extended) {
    uint64_t bits = (uint64_t)owner;
    if (extended && bits >> 56 == 0xFF && (bits >> 40 & 0xFFFF) == 0) return 0; /* time to live */
    return bits == 1ull << 63 ? 0 : owner;                                      /* container */
}

void put_stat(uint8_t *to, const znode *node, bool extended) {
    uint32_t children = is_none(node->children) ? 0 : (uint32_t)PyDict_Size(node->children);
    uint32_t bytes = is_none(node->is.data) ? 0 : (uint32_t)PyBytes_Size(node->is.data);
    to = put64(to, (uint64_t)node->is.czxid);
    to = put64(to, (uint64_t)node->is.mzxid);
    to = put64(to, (uint64_t)node->is.ctime);
    to = put64(to, (uint64_t)node->is.mtime);
    to = put32(to, (uint32_t)node->is.version);
    to = put32(to, (uint32_t)node->is.cversion * 2 - children);
    to = put32(to, (uint32_t)node->is.aversion);
    to = put64(to, (uint64_t)owner_seen(node->is.owner, extended));
    to = put32(to, bytes);
    to = put32(to, children);
    put64(to, (uint64_t)node->is.pzxid);
}
