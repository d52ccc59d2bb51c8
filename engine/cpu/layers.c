/* The operations of a layer between its products: norms, dropout and the residual stream, on (tokens, width). */

#include "kernels.h"
#include "simd.h"

INLINE void normed_as(int half, const float *x, const void *scale, void *plain, void *scaled, float *inverse,
                      int64_t width, float epsilon, int64_t first, int64_t last) {
    for (int64_t token = first; token < last; token++) {
        int64_t row = token * width;
        vec squares = {};
        for (int64_t j = 0; j < width; j += LANES) {
            vec values = read_some(x, row + j, width - j, 0);
            squares += values * values;
        }
        inverse[token] = 1.0f / sqrtf(sum_of(squares) / (float)width + epsilon);
        for (int64_t j = 0; j < width; j += LANES) {
            vec values = read_some(x, row + j, width - j, 0) * inverse[token];
            write_some(plain, row + j, width - j, values, half);
            values = half ? from_half(to_half(values)) : values;
            write_some(scaled, row + j, width - j, values * read_some(scale, j, width - j, half), half);
        }
    }
}

/* x divided by its root mean square, the same times `scale`, and the inverse of the root. */
void normed(const float *x, const void *scale, void *plain, void *scaled, float *inverse, int64_t width, float epsilon,
            int64_t half, int64_t pieces, int64_t parts) {
    EACH_PART {
        int64_t first = FIRST, last = LAST;
        if (half) normed_as(1, x, scale, plain, scaled, inverse, width, epsilon, first, last);
        else normed_as(0, x, scale, plain, scaled, inverse, width, epsilon, first, last);
    }
}

INLINE void normed_backward_as(int half, const void *gradient, const void *plain, const float *inverse,
                               const float *scale, const float *bypass, float *d_x, float *d_scale, int64_t width,
                               int64_t first, int64_t last) {
    for (int64_t token = first; token < last; token++) {
        int64_t row = token * width;
        vec total = {};
        for (int64_t j = 0; j < width; j += LANES) {
            vec along = read_some(gradient, row + j, width - j, half) * read_some(plain, row + j, width - j, half);
            total += along * read_some(scale, j, width - j, 0);
            if (d_scale) write_some(d_scale, j, width - j, read_some(d_scale, j, width - j, 0) + along, 0);
        }
        float shared = sum_of(total) / (float)-width;
        for (int64_t j = 0; j < width; j += LANES) {
            vec by = read_some(gradient, row + j, width - j, half) * read_some(scale, j, width - j, 0);
            vec found = (by + read_some(plain, row + j, width - j, half) * shared) * inverse[token];
            write_some(d_x, row + j, width - j, found + read_some(bypass, row + j, width - j, 0), 0);
        }
    }
}

/* The gradient of x plus `bypass`, which bypasses the layer, and that of the scale, a partial sum per block. */
void normed_backward(const void *gradient, const void *plain, const float *inverse, const float *scale,
                     const float *bypass, float *d_x, float *d_scale, int64_t width, int64_t tokens, int64_t block,
                     int64_t half, int64_t pieces, int64_t parts) {
    EACH_PART {
        int64_t first = FIRST, last = LAST;
        for (int64_t at = first; at < last; at++) {
            float *part = d_scale ? d_scale + at * width : NULL;
            int64_t from = at * block, to = from + block < tokens ? from + block : tokens;
            if (half) normed_backward_as(1, gradient, plain, inverse, scale, bypass, d_x, part, width, from, to);
            else normed_backward_as(0, gradient, plain, inverse, scale, bypass, d_x, part, width, from, to);
        }
    }
}

/* x + `factor` × what dropout keeps of y; here and below, each token begins with a new random word. */
void residual(const float *x, const void *y, float *out, float factor, int64_t dropped, int64_t seed, int64_t word,
              int64_t width, int64_t half, int64_t pieces, int64_t parts) {
    EACH_PART {
        int64_t first = FIRST, last = LAST;
        for (int64_t token = first; token < last; token++)
            for (int64_t j = 0; j < width; j += LANES) {
                int64_t at = token * width + j, count = width - j;
                vec values = read_some(y, at, count, (int)half);
                if (dropped) values = (vec)((ivec)values & dropout_mask(dropped, seed, word + token * ((width + 3) / 4), j));
                write_some(out, at, count, read_some(x, at, count, 0) + values * factor, 0);
            }
    }
}

/* `factor` × what dropout keeps of x. */
void kept(const float *x, void *out, float factor, int64_t dropped, int64_t seed, int64_t word,
          int64_t width, int64_t half, int64_t pieces, int64_t parts) {
    EACH_PART {
        int64_t first = FIRST, last = LAST;
        for (int64_t token = first; token < last; token++)
            for (int64_t j = 0; j < width; j += LANES) {
                int64_t at = token * width + j, count = width - j;
                vec values = read_some(x, at, count, 0) * factor;
                if (dropped) values = (vec)((ivec)values & dropout_mask(dropped, seed, word + token * ((width + 3) / 4), j));
                write_some(out, at, count, values, (int)half);
            }
    }
}

/* What dropout keeps of relu(hidden), in place. */
void relu_dropped(void *hidden, int64_t dropped, int64_t seed, int64_t word, int64_t width, int64_t half,
                  int64_t pieces, int64_t parts) {
    EACH_PART {
        int64_t first = FIRST, last = LAST;
        for (int64_t token = first; token < last; token++)
            for (int64_t j = 0; j < width; j += LANES) {
                int64_t at = token * width + j, count = width - j;
                vec values = read_some(hidden, at, count, (int)half);
                ivec kept = ~(values < 0.0f);
                if (dropped) kept &= dropout_mask(dropped, seed, word + token * ((width + 3) / 4), j);
                write_some(hidden, at, count, (vec)((ivec)values & kept), (int)half);
            }
    }
}
