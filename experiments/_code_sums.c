/* Exact sums over the integer codes of two records in one pass, for experiments/code_sums.py, which says what they are.

   Every sum is a whole number that its type holds, so that neither the order of adding nor the width of a processor's
   registers changes a bit. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* Where the linker can choose at run time, loops are compiled for wide registers as well. */
#if defined(__x86_64__) && defined(__GNUC__) && defined(__linux__)
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

#define KERNELS(CODE, WHOLE, BETWEEN, BLOCKS, SCATTER)                                                                 \
    WIDE static sums_t WHOLE(const CODE *i, const CODE *v, size_t n)                                                   \
    {                                                                                                                  \
        sums_t s = {0, 0, 0, 0, 0, 0, 0};                                                                              \
        CODE lowest_i = (CODE)-1, highest_i = 0, lowest_v = (CODE)-1, highest_v = 0;                                   \
        while (n) {                                                                                                    \
            size_t m = n < PIECE ? n : PIECE;                                                                          \
            uint32_t sum_i = 0, sum_v = 0, low = 0, high = 0;                                                          \
            for (size_t k = 0; k < m; k++) {                                                                           \
                CODE a = i[k], b = v[k];                                                                               \
                uint32_t product = (uint32_t)a * b;                                                                    \
                sum_i += a;                                                                                            \
                sum_v += b;                                                                                            \
                low += product & 0xFFFF;                                                                               \
                high += product >> 16;                                                                                 \
                lowest_i = a < lowest_i ? a : lowest_i;                                                                \
                highest_i = a > highest_i ? a : highest_i;                                                             \
                lowest_v = b < lowest_v ? b : lowest_v;                                                                \
                highest_v = b > highest_v ? b : highest_v;                                                             \
            }                                                                                                          \
            s.sum_i += sum_i;                                                                                          \
            s.sum_v += sum_v;                                                                                          \
            s.sum_vi += low + ((uint64_t)high << 16);                                                                  \
            i += m;                                                                                                    \
            v += m;                                                                                                    \
            n -= m;                                                                                                    \
        }                                                                                                              \
        s.lowest_i = lowest_i;                                                                                         \
        s.highest_i = highest_i;                                                                                       \
        s.lowest_v = lowest_v;                                                                                         \
        s.highest_v = highest_v;                                                                                       \
        return s;                                                                                                      \
    }                                                                                                                  \
                                                                                                                       \
    WIDE static void BETWEEN(const CODE *i, const CODE *v, const int64_t *cuts, size_t stretches, double *out)         \
    {                                                                                                                  \
        for (size_t s = 0; s < stretches; s++) {                                                                       \
            uint64_t sum_i = 0, sum_v = 0, sum_vi = 0;                                                                 \
            for (int64_t at = cuts[s], stop = cuts[s + 1]; at < stop;) {                                               \
                int64_t end = stop - at < PIECE ? stop : at + PIECE;                                                   \
                uint32_t piece_i = 0, piece_v = 0, low = 0, high = 0;                                                  \
                for (; at < end; at++) {                                                                               \
                    uint32_t product = (uint32_t)i[at] * v[at];                                                        \
                    piece_i += i[at];                                                                                  \
                    piece_v += v[at];                                                                                  \
                    low += product & 0xFFFF;                                                                           \
                    high += product >> 16;                                                                             \
                }                                                                                                      \
                sum_i += piece_i;                                                                                      \
                sum_v += piece_v;                                                                                      \
                sum_vi += low + ((uint64_t)high << 16);                                                                \
            }                                                                                                          \
            out[s] = (double)sum_i;                                                                                    \
            out[stretches + s] = (double)sum_v;                                                                        \
            out[2 * stretches + s] = (double)sum_vi;                                                                   \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    WIDE static void BLOCKS(const CODE *codes, size_t size, size_t blocks, double *out)                                \
    {                                                                                                                  \
        for (size_t b = 0; b < blocks; b++) {                                                                          \
            uint64_t sum = 0;                                                                                          \
            for (size_t left = size; left;) {                                                                          \
                size_t m = left < PIECE ? left : PIECE;                                                                \
                uint32_t piece = 0;                                                                                    \
                for (size_t k = 0; k < m; k++)                                                                         \
                    piece += codes[k];                                                                                 \
                sum += piece;                                                                                          \
                codes += m;                                                                                            \
                left -= m;                                                                                             \
            }                                                                                                          \
            out[b] = (double)sum;                                                                                      \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    WIDE static scatter_t SCATTER(const CODE *codes, size_t n)                                                         \
    {                                                                                                                  \
        scatter_t s = {0, 0};                                                                                          \
        CODE first = codes[0], varied = 0;                                                                             \
        for (size_t at = 1; at < n;) {                                                                                 \
            size_t end = n - at < PIECE ? n : at + PIECE;                                                              \
            uint32_t low = 0, high = 0;                                                                                \
            for (; at < end; at++) {                                                                                   \
                CODE a = codes[at - 1], b = codes[at];                                                                 \
                uint32_t step = a > b ? a - b : b - a, square = step * step;                                           \
                varied |= b ^ first;                                                                                   \
                low += square & 0xFFFF;                                                                                \
                high += square >> 16;                                                                                  \
            }                                                                                                          \
            s.squares += low + ((uint64_t)high << 16);                                                                 \
        }                                                                                                              \
        s.varied = varied;                                                                                             \
        return s;                                                                                                      \
    }

KERNELS(uint8_t, whole_8, between_8, blocks_8, scatter_8)
KERNELS(uint16_t, whole_16, between_16, blocks_16, scatter_16)

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
