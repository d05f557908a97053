/* Exact sums over the integer codes of two records in one pass, for experiments/code_sums.py, which says what they are.

   Every sum is a whole number that its type holds, so that neither the order of adding nor the width of a processor's
   registers changes a bit. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* Where the linker can choose at run time, loops are compiled for wide registers as well. */
#if defined(__x86_64__) && defined(__GNUC__) && defined(__GLIBC__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

/* Pairs at once: 65 537 codes of 16 bits, and as many halves of products, fit into 32 bits. */
#define PIECE 32768

typedef struct {
    uint64_t sum_i, sum_v, sum_vi;
    uint32_t lowest_i, highest_i, lowest_v, highest_v;
} sums_t;

typedef struct {
    uint64_t squares;
    uint32_t varied;
} scatter_t;

#define CODE uint8_t
#define NAMED(loop) loop##_8
#include "_code_loops.h"
#undef CODE
#undef NAMED
#define CODE uint16_t
#define NAMED(loop) loop##_16
#include "_code_loops.h"

/* A record: a whole row of numbers without a sign, of 8 or of 16 bits each. */
static int get_record(PyObject *codes, Py_buffer *record)
{
    if (PyObject_GetBuffer(codes, record, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return -1;
    if (record->ndim == 1 && (!strcmp(record->format, "B") || !strcmp(record->format, "H")))
        return 0;
    PyErr_Format(PyExc_TypeError, "codes are one row of 8 or 16 bits each, not %d of %s", record->ndim, record->format);
    PyBuffer_Release(record);
    return -1;
}

/* Two of them, alike and equally long. */
typedef struct {
    Py_buffer i, v;
} pair_t;

static void release(pair_t *pair)
{
    PyBuffer_Release(&pair->i);
    PyBuffer_Release(&pair->v);
}

static int get_pair(PyObject *i, PyObject *v, pair_t *pair)
{
    if (get_record(i, &pair->i) < 0)
        return -1;
    if (get_record(v, &pair->v) < 0) {
        PyBuffer_Release(&pair->i);
        return -1;
    }
    if (pair->i.itemsize == pair->v.itemsize && pair->i.len == pair->v.len)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the records are not of the same width and length");
    release(pair);
    return -1;
}

static PyObject *whole(PyObject *self, PyObject *args)
{
    PyObject *i, *v;
    pair_t pair;
    sums_t s;
    if (!PyArg_ParseTuple(args, "OO", &i, &v) || get_pair(i, v, &pair) < 0)
        return NULL;
    size_t n = pair.i.shape[0];
    Py_BEGIN_ALLOW_THREADS
    s = pair.i.itemsize == 1 ? whole_8(pair.i.buf, pair.v.buf, n) : whole_16(pair.i.buf, pair.v.buf, n);
    Py_END_ALLOW_THREADS
    release(&pair);
    return Py_BuildValue("KKKIIII", s.sum_i, s.sum_v, s.sum_vi, s.lowest_i, s.highest_i, s.lowest_v, s.highest_v);
}

static PyObject *between(PyObject *self, PyObject *args)
{
    PyObject *i, *v, *result = NULL;
    Py_buffer cuts, out;
    pair_t pair;
    if (!PyArg_ParseTuple(args, "OOy*w*", &i, &v, &cuts, &out))
        return NULL;
    if (get_pair(i, v, &pair) < 0)
        goto done;
    const int64_t *at = cuts.buf;
    Py_ssize_t stretches = cuts.len / (Py_ssize_t)sizeof(int64_t) - 1;
    int rising = stretches >= 0 && at[0] >= 0 && at[stretches] <= pair.i.shape[0];
    for (Py_ssize_t k = 0; rising && k < stretches; k++)
        rising = at[k] < at[k + 1];
    if (!rising) {
        PyErr_SetString(PyExc_ValueError, "cuts do not rise, or lie outside the records");
    } else if (out.len != 3 * stretches * (Py_ssize_t)sizeof(double)) {
        PyErr_SetString(PyExc_ValueError, "there must be room for three sums between each two cuts");
    } else {
        Py_BEGIN_ALLOW_THREADS
        if (pair.i.itemsize == 1)
            between_8(pair.i.buf, pair.v.buf, at, stretches, out.buf);
        else
            between_16(pair.i.buf, pair.v.buf, at, stretches, out.buf);
        Py_END_ALLOW_THREADS
        result = Py_NewRef(Py_None);
    }
    release(&pair);
done:
    PyBuffer_Release(&cuts);
    PyBuffer_Release(&out);
    return result;
}

static PyObject *blocks(PyObject *self, PyObject *args)
{
    PyObject *codes, *result = NULL;
    Py_buffer record, out;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "Onw*", &codes, &size, &out))
        return NULL;
    if (get_record(codes, &record) == 0) {
        Py_ssize_t count = out.len / (Py_ssize_t)sizeof(double);
        if (size < 1 || count > record.shape[0] / size) {
            PyErr_SetString(PyExc_ValueError, "the record does not hold so many blocks");
        } else {
            Py_BEGIN_ALLOW_THREADS
            if (record.itemsize == 1)
                blocks_8(record.buf, size, count, out.buf);
            else
                blocks_16(record.buf, size, count, out.buf);
            Py_END_ALLOW_THREADS
            result = Py_NewRef(Py_None);
        }
        PyBuffer_Release(&record);
    }
    PyBuffer_Release(&out);
    return result;
}

static PyObject *scatter(PyObject *self, PyObject *codes)
{
    Py_buffer record;
    scatter_t s;
    if (get_record(codes, &record) < 0)
        return NULL;
    size_t n = record.shape[0];
    if (n == 0) {
        PyBuffer_Release(&record);
        PyErr_SetString(PyExc_ValueError, "no codes");
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    s = record.itemsize == 1 ? scatter_8(record.buf, n) : scatter_16(record.buf, n);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&record);
    return Py_BuildValue("IK", s.varied, s.squares);
}

static PyMethodDef methods[] = {
    {"whole", whole, METH_VARARGS, "whole(i, v): the sums of i, v and i v, and the lowest and highest of i and of v."},
    {"between", between, METH_VARARGS, "between(i, v, cuts, out): the sums of i, v and i v between each two cuts."},
    {"blocks", blocks, METH_VARARGS, "blocks(codes, size, out): the sums of neighbouring blocks."},
    {"scatter", scatter, METH_O, "scatter(codes): the bits in which codes differ, and the squares of their steps added."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_code_sums", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__code_sums(void)
{
    return PyModuleDef_Init(&module);
}
