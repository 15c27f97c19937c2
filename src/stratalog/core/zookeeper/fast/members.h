/* members.h -- how the modules of C tell Python what lies where in their types.
 *
 *     OBJECT   any object, None where there is none      OWNED   one that is set before it is read
 *     NUMBER   64 bits      SMALL   32 bits      FLAG   true or false      END   of a table
 *
 * Source: CPython's structmember.h. */

#ifndef STRATALOG_ZOOKEEPER_MEMBERS_H
#define STRATALOG_ZOOKEEPER_MEMBERS_H

#include "fast.h"

#include <stddef.h>
#include <structmember.h>

#define OBJECT(type, field, name) {name, T_OBJECT, offsetof(type, field), 0, NULL}
#define OWNED(type, field, name) {name, T_OBJECT_EX, offsetof(type, field), 0, NULL}
#define NUMBER(type, field, name) {name, T_LONGLONG, offsetof(type, field), 0, NULL}
#define SMALL(type, field, name) {name, T_INT, offsetof(type, field), 0, NULL}
#define FLAG(type, field, name) {name, T_BOOL, offsetof(type, field), 0, NULL}
#define END {NULL, 0, 0, 0, NULL}

/* Python keeps functions in slots of type void *, which ISO C has no word for. */
#define SLOT(id, function) {id, __extension__(void *)(function)}

/* Give back the memory of an object of a type of ours; its references are gone. */
static inline void free_memory(PyObject *self) {
    (__extension__(freefunc) PyType_GetSlot(Py_TYPE(self), Py_tp_free))(self);
}

#endif
