/* Rotary positions, and the gated feed-forward's product, on (tokens, width). */

#include "kernels.h"
#include "simd.h"

/* Turns each pair (j, j + half a head) of the first `turned` values of every head by its token's angle, in place; the
 * other way if `back`. `angles` are the cosines and then the sines of a token's pairs. */
INLINE void rotate_as(int half, void *values, const float *angles, int64_t heads, int64_t width, int64_t turned,
                      int64_t stride, int64_t back, int64_t first, int64_t last) {
    int64_t pairs = turned / 2;
    for (int64_t token = first; token < last; token++)
        for (int64_t head = 0; head < heads; head++) {
            int64_t at = token * stride + head * width;
            const float *angle = angles + token * turned;
            for (int64_t j = 0; j < pairs; j += LANES) {
                int64_t count = pairs - j;
                vec x = read_some(values, at + j, count, half), y = read_some(values, at + pairs + j, count, half);
                vec cosine = read_some(angle, j, count, 0), sine = read_some(angle, pairs + j, count, 0);
                if (back) sine = -sine;
                write_some(values, at + j, count, x * cosine - y * sine, half);
                write_some(values, at + pairs + j, count, y * cosine + x * sine, half);
            }
        }
}

void rotate(void *values, const float *angles, int64_t heads, int64_t width, int64_t turned, int64_t stride,
            int64_t back, int64_t half, int64_t pieces, int64_t parts) {
    EACH_PART {
        if (half) rotate_as(1, values, angles, heads, width, turned, stride, back, FIRST, LAST);
        else rotate_as(0, values, angles, heads, width, turned, stride, back, FIRST, LAST);
    }
}

/* 1 / (1 + e^-x) */
INLINE vec logistic(vec x) {
    vec away = blend(x < 0.0f, x, -x), small = exponential(away); /* e^-|x| */
    return blend(x < 0.0f, small, broadcast(1.0f)) / (small + 1.0f);
}

INLINE void swiglu_as(int half, const void *both, void *out, int64_t width, int64_t first, int64_t last) {
    for (int64_t token = first; token < last; token++)
        for (int64_t j = 0; j < width; j += LANES) {
            int64_t at = token * 2 * width + j, count = width - j;
            vec gate = read_some(both, at, count, half), up = read_some(both, at + width, count, half);
            write_some(out, token * width + j, count, gate * logistic(gate) * up, half);
        }
}

/* silu(gate) × up; `both` is (tokens, 2 × width), the gate first. */
void swiglu(const void *both, void *out, int64_t width, int64_t half, int64_t pieces, int64_t parts) {
    EACH_PART {
        if (half) swiglu_as(1, both, out, width, FIRST, LAST);
        else swiglu_as(0, both, out, width, FIRST, LAST);
    }
}

INLINE void swiglu_backward_as(int half, void *both, void *gradient, int64_t width, int64_t first, int64_t last) {
    for (int64_t token = first; token < last; token++)
        for (int64_t j = 0; j < width; j += LANES) {
            int64_t at = token * 2 * width + j, of = token * width + j, count = width - j;
            vec gate = read_some(both, at, count, half), up = read_some(both, at + width, count, half);
            vec by = read_some(gradient, of, count, half), share = logistic(gate), silu = gate * share;
            write_some(both, at, count, by * up * (share + silu - silu * share), half);
            write_some(both, at + width, count, by * silu, half);
            write_some(gradient, of, count, silu * up, half);
        }
}

/* Replaces gate and up by their gradients, and the product's gradient by the product. */
void swiglu_backward(void *both, void *gradient, int64_t width, int64_t half, int64_t pieces, int64_t parts) {
    EACH_PART {
        if (half) swiglu_backward_as(1, both, gradient, width, FIRST, LAST);
        else swiglu_backward_as(0, both, gradient, width, FIRST, LAST);
    }
}
