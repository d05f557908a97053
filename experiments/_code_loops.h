/* The loops of _code_sums.c for codes of one width, which includes this with CODE, their type, and NAMED(loop). */

/* Sums, lowest and highest codes of n pairs. */
WIDE static sums_t NAMED(whole)(const CODE *i, const CODE *v, size_t n)
{
    sums_t s = {0, 0, 0, 0, 0, 0, 0};
    CODE lowest_i = (CODE)-1, highest_i = 0, lowest_v = (CODE)-1, highest_v = 0;
    while (n) {
        size_t m = n < PIECE ? n : PIECE;
        uint32_t sum_i = 0, sum_v = 0, low = 0, high = 0;
        for (size_t k = 0; k < m; k++) {
            CODE a = i[k], b = v[k];
            uint32_t product = (uint32_t)a * b;
            sum_i += a;
            sum_v += b;
            low += product & 0xFFFF;
            high += product >> 16;
            lowest_i = a < lowest_i ? a : lowest_i;
            highest_i = a > highest_i ? a : highest_i;
            lowest_v = b < lowest_v ? b : lowest_v;
            highest_v = b > highest_v ? b : highest_v;
        }
        s.sum_i += sum_i;
        s.sum_v += sum_v;
        s.sum_vi += low + ((uint64_t)high << 16);
        i += m;
        v += m;
        n -= m;
    }
    s.lowest_i = lowest_i;
    s.highest_i = highest_i;
    s.lowest_v = lowest_v;
    s.highest_v = highest_v;
    return s;
}

/* Sums of i, v and i v between each two cuts, as doubles: first all of i, then all of v, then all of i v. */
WIDE static void NAMED(between)(const CODE *i, const CODE *v, const int64_t *cuts, size_t stretches, double *out)
{
    for (size_t s = 0; s < stretches; s++) {
        uint64_t sum_i = 0, sum_v = 0, sum_vi = 0;
        for (int64_t at = cuts[s], stop = cuts[s + 1]; at < stop;) {
            int64_t end = stop - at < PIECE ? stop : at + PIECE;
            uint32_t piece_i = 0, piece_v = 0, low = 0, high = 0;
            for (; at < end; at++) {
                uint32_t product = (uint32_t)i[at] * v[at];
                piece_i += i[at];
                piece_v += v[at];
                low += product & 0xFFFF;
                high += product >> 16;
            }
            sum_i += piece_i;
            sum_v += piece_v;
            sum_vi += low + ((uint64_t)high << 16);
        }
        out[s] = (double)sum_i;
        out[stretches + s] = (double)sum_v;
        out[2 * stretches + s] = (double)sum_vi;
    }
}

/* Sums of neighbouring blocks of `size` codes. */
WIDE static void NAMED(blocks)(const CODE *codes, size_t size, size_t blocks, double *out)
{
    for (size_t b = 0; b < blocks; b++) {
        uint64_t sum = 0;
        for (size_t left = size; left;) {
            size_t m = left < PIECE ? left : PIECE;
            uint32_t piece = 0;
            for (size_t k = 0; k < m; k++)
                piece += codes[k];
            sum += piece;
            codes += m;
            left -= m;
        }
        out[b] = (double)sum;
    }
}

/* The bits in which any of n codes differ, n at least 1, and the squares of the steps between them added. */
WIDE static scatter_t NAMED(scatter)(const CODE *codes, size_t n)
{
    scatter_t s = {0, 0};
    CODE first = codes[0], varied = 0;
    for (size_t at = 1; at < n;) {
        size_t end = n - at < PIECE ? n : at + PIECE;
        uint32_t low = 0, high = 0;
        for (; at < end; at++) {
            CODE a = codes[at - 1], b = codes[at];
            uint32_t step = a > b ? a - b : b - a, square = step * step;
            varied |= b ^ first;
            low += square & 0xFFFF;
            high += square >> 16;
        }
        s.squares += low + ((uint64_t)high << 16);
    }
    s.varied = varied;
    return s;
}
