/* Gradient accumulation, sums of squares, and Adafactor's update. */

#include "kernels.h"
#include "simd.h"

#define BLOCK_ROWS 64 /* whose squares are summed separately */
#define SUMS 4 /* of squares, accumulated in parallel: an addition takes four cycles */

/* Adds bf16 values to fp32 ones. */
void add(float *to, const void *from, int64_t pieces, int64_t parts) {
    EACH_PART {
        int64_t first = FIRST, last = LAST;
        for (int64_t i = first; i < last; i += LANES)
            write_some(to, i, last - i, read_some(to, i, last - i, 0) + read_some(from, i, last - i, 1), 0);
    }
}

INLINE double squares_of(const float *x, int64_t count) {
    const int64_t step = LANES / 2;
    dvec sums[SUMS] = {};
    int64_t i = 0;
    for (; i + SUMS * step <= count; i += SUMS * step)
        for (int64_t k = 0; k < SUMS; k++) {
            narrow some;
            memcpy(&some, x + i + k * step, sizeof some);
            dvec exact = __builtin_convertvector(some, dvec);
            sums[k] += exact * exact;
        }
    dvec all_sums = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    double total = 0.0;
    for (int64_t k = 0; k < step; k++) total += all_sums[k];
    for (; i < count; i++) total += (double)x[i] * x[i];
    return total;
}

/* Sums of the squares of each `block` of `size` values, in double. */
void squares(const float *x, double *found, int64_t size, int64_t block, int64_t pieces, int64_t parts) {
    EACH_PART {
        for (int64_t piece = FIRST, last = LAST; piece < last; piece++) {
            int64_t from = piece * block;
            found[piece] = squares_of(x + from, size - from < block ? size - from : block);
        }
    }
}

/* Updates the means by row and by column with those of a gradient's squares; returns the parameter's norm. */
INLINE double moments(const struct matrix *m, float *by_row, float *by_column, float *part) {
    int64_t columns = m->columns;
    double norm = 0.0;
    memset(by_column, 0, (size_t)columns * sizeof(float));
    for (int64_t from = 0; from < m->rows; from += BLOCK_ROWS) {
        int64_t to = from + BLOCK_ROWS < m->rows ? from + BLOCK_ROWS : m->rows;
        memset(part, 0, (size_t)columns * sizeof(float));
        for (int64_t row = from; row < to; row++) {
            vec total = {}, others = {};
            for (int64_t j = 0; j < columns; j += LANES) {
                vec g = read_some(m->gradient, row * columns + j, columns - j, 0);
                vec p = read_some(m->parameter, row * columns + j, columns - j, 0);
                total += g * g;
                others += p * p;
                write_some(part, j, columns - j, read_some(part, j, columns - j, 0) + g * g, 0);
            }
            by_row[row] = sum_of(total);
            norm += sum_of(others);
        }
        for (int64_t j = 0; j < columns; j++) by_column[j] += part[j];
    }
    float weight = (float)m->weight;
    for (int64_t i = 0; i < m->rows; i++)
        by_row[i] = m->row_var[i] + weight * (by_row[i] / (float)columns - m->row_var[i]);
    for (int64_t j = 0; j < columns; j++)
        by_column[j] = m->col_var[j] + weight * (by_column[j] / (float)m->rows - m->col_var[j]);
    return sqrt(norm);
}

INLINE float smallest_of(const float *values, int64_t count) {
    float found = values[0];
    for (int64_t i = 1; i < count; i++) found = values[i] < found ? values[i] : found;
    return found;
}

/* One update of a matrix; 1 if it is left unchanged because its second moment would have to be clamped. */
INLINE int64_t updated(const struct matrix *m, float *by_row, float *by_column, float *part) {
    int64_t rows = m->rows, columns = m->columns;
    double size = sqrt((double)rows * (double)columns), norm = moments(m, by_row, by_column, part), mean = 0.0;
    for (int64_t i = 0; i < rows; i++) mean += by_row[i];
    mean = mean / (double)rows > m->least ? mean / (double)rows : m->least;
    if ((double)smallest_of(by_row, rows) * smallest_of(by_column, columns) / mean < m->least * m->least) return 1;
    memcpy(m->row_var, by_row, (size_t)rows * sizeof(float));
    memcpy(m->col_var, by_column, (size_t)columns * sizeof(float));
    for (int64_t i = 0; i < rows; i++) by_row[i] = 1.0f / sqrtf(by_row[i] / (float)mean);
    for (int64_t j = 0; j < columns; j++) by_column[j] = 1.0f / sqrtf(by_column[j]);
    double squares = 0.0;
    for (int64_t row = 0; row < rows; row++) {
        vec total = {};
        for (int64_t j = 0; j < columns; j += LANES) {
            vec g = read_some(m->gradient, row * columns + j, columns - j, 0) * read_some(by_column, j, columns - j, 0);
            total += g * g;
        }
        squares += (double)by_row[row] * by_row[row] * sum_of(total);
    }
    double clipped = sqrt(squares) / (size * m->most);
    double alpha = (norm / size > m->smallest ? norm / size : m->smallest) * m->rate / (clipped > 1.0 ? clipped : 1.0);
    float decay = (float)m->decay;
    for (int64_t row = 0; row < rows; row++) {
        float by = (float)-alpha * by_row[row];
        for (int64_t j = 0; j < columns; j += LANES) {
            int64_t at = row * columns + j, count = columns - j;
            vec g = read_some(m->gradient, at, count, 0) * by * read_some(by_column, j, count, 0);
            write_some(m->parameter, at, count, read_some(m->parameter, at, count, 0) * decay + g, 0);
        }
    }
    return 0;
}

/* Adafactor's update of some matrices; `left` is 1 if one is left unchanged. Returns -1 if memory runs out. */
static int adafactor_part(const struct matrix *matrices, int64_t *left, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) {
        const struct matrix *m = matrices + i;
        float *scratch = malloc((size_t)(m->rows + 2 * m->columns) * sizeof(float));
        if (!scratch) return -1;
        left[i] = updated(m, scratch, scratch + m->rows, scratch + m->rows + m->columns);
        free(scratch);
    }
    return 0;
}

int adafactor(const struct matrix *matrices, int64_t *left, int64_t pieces, int64_t parts) {
    RETURN_FAILURE_OF(adafactor_part(matrices, left, FIRST, LAST));
}
