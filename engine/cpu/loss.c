/* Cross-entropy, and its gradient by the logits. */

#include "kernels.h"
#include "simd.h"

INLINE float exponential_of(float x) { return exponential(broadcast(x))[0]; }

/* One token: its loss and, if `scratch` is given, the gradient by its logits, which replaces them. The label is left
 * out of the sum: the sum of the others gives the gradient of the label's logit to all digits, however likely it is. */
INLINE float loss_of(int half, void *logits, int64_t row, int64_t label, int64_t size, float *scratch) {
    vec most = broadcast(-INFINITY), total = {};
    for (int64_t j = 0; j < size; j += LANES) {
        vec x = read_or(logits, row + j, size - j, half, -INFINITY);
        most = blend(x > most, x, most);
    }
    vec was = read_some(logits, row + label, 1, half);
    float top = largest_of(most), own = was[0] - top;
    write_some(logits, row + label, 1, broadcast(-INFINITY), half);
    for (int64_t j = 0; j < size; j += LANES) {
        vec y = exponential(read_or(logits, row + j, size - j, half, -INFINITY) - top);
        total += y;
        if (scratch) store(scratch + j, y);
    }
    float others = sum_of(total), sum = others + exponential_of(own);
    if (scratch) {
        float inverse = 1.0f / sum;
        for (int64_t j = 0; j < size; j += LANES)
            write_some(logits, row + j, size - j, load(scratch + j) * inverse, half);
        write_some(logits, row + label, 1, broadcast(-others * inverse), half);
    } else {
        write_some(logits, row + label, 1, was, half);
    }
    return own == 0.0f ? log1pf(others) : logf(sum) - own;
}

/* Cross-entropy of some tokens and, if requested, its gradient, which replaces their logits; -1 if memory runs out,
 * -2 if a label is not the number of a logit. */
static int losses_part(void *logits, const int64_t *labels, float *found, int64_t size, int64_t gradient,
                       int64_t half, int64_t first, int64_t last) {
    float *scratch = gradient ? aligned_alloc(sizeof(vec), (size_t)rounded(size) * sizeof(float)) : NULL;
    if (gradient && !scratch) return -1;
    int failed = 0;
    for (int64_t token = first; token < last && !failed; token++) {
        int64_t label = labels[token];
        if (label < 0 || label >= size) failed = -2;
        else if (half) found[token] = loss_of(1, logits, token * size, label, size, scratch);
        else found[token] = loss_of(0, logits, token * size, label, size, scratch);
    }
    free(scratch);
    return failed;
}

int losses(void *logits, const int64_t *labels, float *found, int64_t size, int64_t gradient, int64_t half,
           int64_t pieces, int64_t parts) {
    RETURN_FAILURE_OF(losses_part(logits, labels, found, size, gradient, half, FIRST, LAST));
}
