/* Products of matrices in fp32 that are small enough for the processor's cache. */

#ifndef PRODUCTS_H
#define PRODUCTS_H

#include "simd.h"

/* Which part of a product is known to be zero, or is not needed, if no query sees a later key. */
enum part {
    WHOLE,
    KEYS_UP_TO_ROW,   /* columns after the row are not needed */
    STEPS_UP_TO_ROW,  /* terms after the row are zero */
    STEPS_FROM_ROW    /* terms before the row are zero */
};

INLINE void block(int rows, int vectors, int add, int64_t first, int64_t last, const float *a, int64_t a_row, int64_t a_step,
                  const float *b, int64_t b_row, float *c, int64_t c_row) {
    vec sums[ROWS][4];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++) sums[i][j] = add ? load(c + i * c_row + j * LANES) : (vec){};
    for (int64_t step = first; step < last; step++) {
        vec of[4];
        for (int j = 0; j < vectors; j++) of[j] = load(b + step * b_row + j * LANES);
        for (int i = 0; i < rows; i++) {
            vec by = broadcast(a[i * a_row + step * a_step]);
            for (int j = 0; j < vectors; j++) sums[i][j] += by * of[j];
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++) store(c + i * c_row + j * LANES, sums[i][j]);
}

INLINE void blocks(int rows, int add, int64_t columns, int64_t first, int64_t last, const float *a, int64_t a_row,
                   int64_t a_step, const float *b, int64_t b_row, float *c, int64_t c_row) {
    int64_t at = 0;
    for (; at + 4 * LANES <= columns; at += 4 * LANES)
        block(rows, 4, add, first, last, a, a_row, a_step, b + at, b_row, c + at, c_row);
    for (; at + 2 * LANES <= columns; at += 2 * LANES)
        block(rows, 2, add, first, last, a, a_row, a_step, b + at, b_row, c + at, c_row);
    for (; at < columns; at += LANES)
        block(rows, 1, add, first, last, a, a_row, a_step, b + at, b_row, c + at, c_row);
}

/* c = a × b, or c += a × b, a of `rows` × `steps` by its two strides, b and c of whole vectors of columns. The first
 * query sees `shift` keys before its own. Inlined, each call would be another copy of all blocks. */
__attribute__((noinline, unused)) static void product_of(int add, int64_t rows, int64_t columns, int64_t steps, const float *a, int64_t a_row,
                       int64_t a_step, const float *b, int64_t b_row, float *c, int64_t c_row, enum part part,
                       int64_t shift) {
    for (int64_t row = 0; row < rows; row += ROWS) {
        int64_t after = row + ROWS < rows ? row + ROWS : rows;
        int64_t wanted = part == KEYS_UP_TO_ROW && rounded(after + shift) < columns ? rounded(after + shift) : columns;
        int64_t first = part == STEPS_FROM_ROW && row > shift ? row - shift : 0;
        int64_t last = part == STEPS_UP_TO_ROW && after + shift < steps ? after + shift : steps;
        const float *from = a + row * a_row;
        float *to = c + row * c_row;
        if (after - row == ROWS)
            blocks(ROWS, add, wanted, first, last, from, a_row, a_step, b, b_row, to, c_row);
        else
            for (int64_t i = 0; i < after - row; i++)
                blocks(1, add, wanted, first, last, from + i * a_row, a_row, a_step, b, b_row, to + i * c_row, c_row);
    }
}

/* c = a × b of a whole row of a batch, whose first query sees its own key alone. */
INLINE void product(int64_t rows, int64_t columns, int64_t steps, const float *a, int64_t a_row, int64_t a_step,
                    const float *b, int64_t b_row, float *c, int64_t c_row, enum part part) {
    product_of(0, rows, columns, steps, a, a_row, a_step, b, b_row, c, c_row, part, 0);
}

#endif
