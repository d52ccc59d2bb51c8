/* Attention over rows laid end to end, one head of one row at a time, and its backward pass.
 *
 * A row of a few dozen tokens is too small for torch's threads, and each of the dozen calls that it takes costs as much
 * as the work. The softmax kept for the backward pass is negative where dropout removed a weight. */

#include "kernels.h"
#include "products.h"
#include "simd.h"

#define AHEAD 12 /* tokens */

/* Scratch memory of one thread: a head of a row in fp32, with its width and its keys rounded up to whole vectors. */
struct scratch {
    float *q, *k, *v, *g, *turned, *scores, *others, *out;
};

/* copying a head of a row to and from scratch */

INLINE void load_head(const struct call *call, const void *from, int64_t token, int64_t tokens, int64_t stride, int64_t head,
               float *to) {
    int64_t width = call->width, wide = rounded(width), size = call->half ? 2 : 4;
    for (int64_t i = 0; i < tokens; i++)
        for (int64_t j = 0; j < wide; j += LANES) {
            int64_t count = width - j;
            /* The processor does not predict that a head's part of the next tokens is read next. */
            if (i + AHEAD < tokens)
                __builtin_prefetch((const char *)from + ((token + i + AHEAD) * stride + head * width + j) * size);
            store(to + i * wide + j, read_some(from, (token + i) * stride + head * width + j, count, (int)call->half));
        }
}

INLINE void store_head(const struct call *call, void *to, int64_t token, int64_t tokens, int64_t head, const float *from) {
    int64_t width = call->width, wide = rounded(width), stride = call->heads * width;
    for (int64_t i = 0; i < tokens; i++)
        for (int64_t j = 0; j < wide; j += LANES) {
            int64_t count = width - j;
            write_some(to, (token + i) * stride + head * width + j, count, load(from + i * wide + j), (int)call->half);
        }
}

/* (tokens, wide) to (wide, columns); columns past the tokens are zero. */
INLINE void transpose(const float *from, int64_t tokens, int64_t wide, float *to, int64_t columns) {
    for (int64_t j = 0; j < wide; j++) {
        for (int64_t i = 0; i < tokens; i++) to[j * columns + i] = from[i * wide + j];
        for (int64_t i = tokens; i < columns; i++) to[j * columns + i] = 0.0f;
    }
}

/* rows of scores */

/* Stores a row of weights, negative where dropout removes them, then removes those from the row. */
INLINE void keep_weights(const struct call *call, float *weights, int64_t seen, int64_t keys, int64_t at, int64_t word) {
    for (int64_t j = 0; j < keys; j += LANES) {
        int64_t count = keys - j;
        vec values = j < seen ? load(weights + j) : (vec){};
        ivec away = {};
        if (call->dropped && j < seen) {
            away = ~dropout_mask(call->dropped, call->seed, word, j);
            store(weights + j, (vec)((ivec)values & ~away));
        }
        write_some(call->weights, at + j, count, (vec)((ivec)values | (away & INT32_MIN)), (int)call->half);
    }
}

/* Replaces the gradient of a row of weights by that of its scores, and the kept softmax by what dropout left of it. */
INLINE void softmax_backward(float *kept, float *gradient, float *d_bias, int64_t seen) {
    int64_t whole = rounded(seen);
    vec total = {};
    for (int64_t j = 0; j < whole; j += LANES) {
        vec values = load(kept + j);
        vec by = (vec)((ivec)load(gradient + j) & (values > 0.0f));
        total += by * (vec)((ivec)values & INT32_MAX);
        store(gradient + j, by);
    }
    float shared = sum_of(total);
    for (int64_t j = 0; j < whole; j += LANES) {
        vec values = load(kept + j);
        store(gradient + j, (vec)((ivec)values & INT32_MAX) * (load(gradient + j) - shared));
        store(kept + j, (vec)((ivec)values & ~(values < 0.0f)));
    }
    if (d_bias)
        for (int64_t j = 0; j < seen; j++) d_bias[j] += gradient[j];
}

/* the two passes */

/* The offset of a row's tokens, and their number. */
struct place {
    int64_t first, count;
};

INLINE struct place place_of(const int64_t *ends, int64_t row) {
    return (struct place){ends[row], ends[row + 1] - ends[row]};
}

static void release(struct scratch *scratch) { free(scratch->q); }

static int allocate(struct scratch *scratch, const struct call *call) {
    int64_t queries = 0, keys = 0, wide = rounded(call->width);
    for (int64_t row = 0; row < call->rows; row++) {
        int64_t some = place_of(call->queries, row).count, others = place_of(call->keys, row).count;
        queries = some > queries ? some : queries;
        keys = others > keys ? others : keys;
    }
    int64_t longest = rounded(queries > keys ? queries : keys), of_values = longest * wide;
    int64_t of_scores = queries * rounded(keys) + LANES;
    float *all_of_it = aligned_alloc(sizeof(vec), (size_t)(6 * of_values + 2 * rounded(of_scores)) * sizeof(float));
    if (!all_of_it) return -1;
    float **parts[] = {&scratch->q, &scratch->k, &scratch->v, &scratch->g, &scratch->turned, &scratch->out};
    for (int i = 0; i < 6; i++) *parts[i] = all_of_it + i * of_values;
    scratch->scores = all_of_it + 6 * of_values;
    scratch->others = scratch->scores + rounded(of_scores);
    return 0;
}

/* The attention output of some heads, and the softmax of their rows; -1 if memory runs out. */
static int attend_part(const struct call *call, int64_t first_head, int64_t last_head) {
    struct scratch s;
    if (allocate(&s, call)) return -1;
    int64_t wide = rounded(call->width);
    for (int64_t head = first_head; head < last_head; head++) {
        int64_t weights = 0, word = call->word;
        for (int64_t row = 0; row < call->rows; row++) {
            struct place at = place_of(call->queries, row), from = place_of(call->keys, row);
            int64_t queries = at.count, keys = from.count, columns = rounded(keys);
            int64_t own = head * queries * keys, of_row = (keys + 3) / 4;
            load_head(call, call->query, at.first, queries, call->query_row, head, s.q);
            load_head(call, call->key, from.first, keys, call->key_row, head, s.k);
            load_head(call, call->value, from.first, keys, call->value_row, head, s.v);
            transpose(s.k, keys, wide, s.turned, columns);
            product(queries, columns, wide, s.q, wide, 1, s.turned, columns, s.scores, columns,
                    call->causal ? KEYS_UP_TO_ROW : WHOLE);
            for (int64_t i = 0; i < queries; i++) {
                int64_t seen = call->causal ? i + 1 : keys;
                const float *bias = call->bias ? call->bias + (head * call->side + i) * call->side : NULL;
                softmax(s.scores + i * columns, bias, seen);
                keep_weights(call, s.scores + i * columns, seen, keys, weights + own + i * keys, word + (head * queries + i) * of_row);
                /* The product below reads a block of rows up to the last key that any of them sees: zeros up to there. */
                if (call->causal) {
                    int64_t end = (i / ROWS + 1) * ROWS;
                    for (int64_t j = rounded(seen); j < end && j < columns; j++) s.scores[i * columns + j] = 0.0f;
                }
            }
            product(queries, wide, keys, s.scores, columns, 1, s.v, wide, s.out, wide,
                    call->causal ? STEPS_UP_TO_ROW : WHOLE);
            store_head(call, call->out, at.first, queries, head, s.out);
            weights += call->heads * queries * keys;
            word += call->heads * queries * of_row;
        }
    }
    release(&s);
    return 0;
}

int attend(const struct call *call, int64_t pieces, int64_t parts) {
    RETURN_FAILURE_OF(attend_part(call, FIRST, LAST));
}

/* Gradients of query, key and value of some heads, and of their bias, which is added to; -1 if memory runs out. */
static int attend_backward_part(const struct call *call, int64_t first_head, int64_t last_head) {
    struct scratch s;
    if (allocate(&s, call)) return -1;
    int64_t wide = rounded(call->width);
    for (int64_t head = first_head; head < last_head; head++) {
        int64_t weights = 0;
        for (int64_t row = 0; row < call->rows; row++) {
            struct place at = place_of(call->queries, row), from = place_of(call->keys, row);
            int64_t queries = at.count, keys = from.count, columns = rounded(keys);
            int64_t own = weights + head * queries * keys;
            load_head(call, call->query, at.first, queries, call->query_row, head, s.q);
            load_head(call, call->key, from.first, keys, call->key_row, head, s.k);
            load_head(call, call->value, from.first, keys, call->value_row, head, s.v);
            load_head(call, call->gradient, at.first, queries, call->heads * call->width, head, s.g);
            transpose(s.v, keys, wide, s.turned, columns);
            product(queries, columns, wide, s.g, wide, 1, s.turned, columns, s.others, columns,
                    call->causal ? KEYS_UP_TO_ROW : WHOLE);
            for (int64_t i = 0; i < queries; i++) {
                int64_t seen = call->causal ? i + 1 : keys;
                float *kept = s.scores + i * columns, *gradient = s.others + i * columns;
                for (int64_t j = 0; j < columns; j += LANES) {
                    int64_t count = keys - j;
                    store(kept + j, read_some(call->weights, own + i * keys + j, count, (int)call->half));
                }
                float *d_bias = call->d_bias ? call->d_bias + (head * call->side + i) * call->side : NULL;
                softmax_backward(kept, gradient, d_bias, seen);
                for (int64_t j = rounded(seen); j < columns; j++) gradient[j] = 0.0f;
            }
            product(keys, wide, queries, s.scores, 1, columns, s.g, wide, s.out, wide,
                    call->causal ? STEPS_FROM_ROW : WHOLE);
            store_head(call, call->d_value, from.first, keys, head, s.out);
            product(queries, wide, keys, s.others, columns, 1, s.k, wide, s.out, wide,
                    call->causal ? STEPS_UP_TO_ROW : WHOLE);
            store_head(call, call->d_query, at.first, queries, head, s.out);
            product(keys, wide, queries, s.others, 1, columns, s.q, wide, s.out, wide,
                    call->causal ? STEPS_FROM_ROW : WHOLE);
            store_head(call, call->d_key, from.first, keys, head, s.out);
            weights += call->heads * queries * keys;
        }
    }
    release(&s);
    return 0;
}

int attend_backward(const struct call *call, int64_t pieces, int64_t parts) {
    RETURN_FAILURE_OF(attend_backward_part(call, FIRST, LAST));
}
