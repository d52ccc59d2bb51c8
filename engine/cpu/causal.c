/* Causal attention over rows laid end to end, and its backward pass: a row's tokens attend to those before them, all or
 * the last `window`, and several heads of queries share one of keys.
 *
 * Of the softmax only the logarithm of its sum is kept for the backward pass, which computes the rest again: a long row
 * would keep the square of its length. A piece of work is the queries of one row that share keys, a block at a time. */

#include "kernels.h"
#include "products.h"
#include "simd.h"

#define BLOCK 48 /* queries, a multiple of ROWS */
#define AHEAD 12 /* tokens */

/* Scratch memory of one thread in fp32, with the width and the keys rounded up to whole vectors. */
struct scratch {
    float *k, *v, *k_turned, *v_turned, *d_k, *d_v, *q, *g, *out, *scores, *others;
};

INLINE void load_head_as(int half, const void *from, int64_t token, int64_t tokens, int64_t stride, int64_t at,
                         int64_t width, float factor, float *to) {
    int64_t wide = rounded(width), size = half ? 2 : 4;
    for (int64_t i = 0; i < tokens; i++)
        for (int64_t j = 0; j < wide; j += LANES) {
            /* The processor does not predict that a head's part of the next tokens is read next. */
            if (i + AHEAD < tokens) __builtin_prefetch((const char *)from + ((token + i + AHEAD) * stride + at + j) * size);
            store(to + i * wide + j, read_some(from, (token + i) * stride + at + j, width - j, half) * factor);
        }
}

static void load_head(const struct causal *call, const void *from, int64_t token, int64_t tokens, int64_t stride,
                      int64_t at, float factor, float *to) {
    if (call->half) load_head_as(1, from, token, tokens, stride, at, call->width, factor, to);
    else load_head_as(0, from, token, tokens, stride, at, call->width, factor, to);
}

static void store_head(const struct causal *call, void *to, int64_t token, int64_t tokens, int64_t stride, int64_t at,
                       const float *from) {
    int64_t width = call->width, wide = rounded(width);
    for (int64_t i = 0; i < tokens; i++)
        for (int64_t j = 0; j < wide; j += LANES) {
            vec values = load(from + i * wide + j);
            if (call->half) write_some(to, (token + i) * stride + at + j, width - j, values, 1);
            else write_some(to, (token + i) * stride + at + j, width - j, values, 0);
        }
}

/* (tokens, wide) to (wide, columns); columns past the tokens are zero. */
INLINE void turn(const float *from, int64_t tokens, int64_t wide, float *to, int64_t columns) {
    for (int64_t j = 0; j < wide; j++) {
        for (int64_t i = 0; i < tokens; i++) to[j * columns + i] = from[i * wide + j];
        for (int64_t i = tokens; i < columns; i++) to[j * columns + i] = 0.0f;
    }
}

static void release(struct scratch *scratch) { free(scratch->k); }

static int allocate(struct scratch *s, const struct causal *call) {
    int64_t longest = 0, wide = rounded(call->width);
    for (int64_t row = 0; row < call->rows; row++) {
        int64_t count = call->ends[row + 1] - call->ends[row];
        longest = count > longest ? count : longest;
    }
    int64_t keys = rounded(longest), of_keys = keys * wide, of_block = BLOCK * wide, of_scores = BLOCK * keys;
    size_t all = (size_t)(6 * of_keys + 3 * of_block + 2 * of_scores) * sizeof(float);
    float *at = aligned_alloc(sizeof(vec), all);
    if (!at) return -1;
    float **of_row[] = {&s->k, &s->v, &s->k_turned, &s->v_turned, &s->d_k, &s->d_v};
    float **others[] = {&s->q, &s->g, &s->out};
    for (int i = 0; i < 6; i++, at += of_keys) *of_row[i] = at;
    for (int i = 0; i < 3; i++, at += of_block) *others[i] = at;
    s->scores = at;
    s->others = at + of_scores;
    return 0;
}

/* Some queries of a row, and the keys that they see: all up to the last of them, or fewer. */
struct span {
    int64_t query, queries, key, keys, columns, shift;
};

INLINE struct span span_of(const struct causal *call, int64_t query, int64_t count) {
    int64_t queries = query + BLOCK < count ? BLOCK : count - query;
    int64_t first = call->window && query + 1 > call->window ? query + 1 - call->window : 0;
    int64_t key = first / LANES * LANES, keys = query + queries - key;
    return (struct span){query, queries, key, keys, rounded(keys), query - key};
}

/* The number of keys from the span's first that query i of a span sees, and how many of those are before its window. */
INLINE int64_t seen_by(const struct span *span, int64_t i) { return span->shift + i + 1; }

INLINE int64_t before(const struct causal *call, const struct span *span, int64_t i) {
    int64_t past = seen_by(span, i) - call->window;
    return call->window && past > 0 ? past : 0;
}

/* Replaces a query's scores from `first` to `seen` by their softmax, and the others by zeros; returns the logarithm of
 * the sum. */
INLINE float softmax_from(float *scores, int64_t first, int64_t seen, int64_t columns) {
    for (int64_t j = 0; j < first; j++) scores[j] = -INFINITY;
    float maximum, sum = exponentials(scores, seen, &maximum), inverse = 1.0f / sum;
    for (int64_t j = 0; j < rounded(seen); j += LANES) store(scores + j, load(scores + j) * inverse);
    for (int64_t j = rounded(seen); j < columns; j += LANES) store(scores + j, (vec){});
    return maximum + logf(sum);
}

/* The keys and values of a row. */
static void load_row(const struct causal *call, struct scratch *s, int64_t token, int64_t count, int64_t group,
                     int backward) {
    int64_t width = call->width, wide = rounded(width), columns = rounded(count);
    load_head(call, call->key, token, count, call->key_row, group * width, 1.0f, s->k);
    load_head(call, call->value, token, count, call->value_row, group * width, 1.0f, s->v);
    turn(s->k, count, wide, s->k_turned, columns);
    if (!backward) return;
    turn(s->v, count, wide, s->v_turned, columns);
    memset(s->d_k, 0, (size_t)(columns * wide) * sizeof(float));
    memset(s->d_v, 0, (size_t)(columns * wide) * sizeof(float));
}

static void attend_piece(const struct causal *call, struct scratch *s, int64_t piece) {
    int64_t row = piece % call->rows, group = piece / call->rows, shared = call->heads / call->groups;
    int64_t token = call->ends[row], count = call->ends[row + 1] - token;
    int64_t width = call->width, wide = rounded(width), side = rounded(count);
    load_row(call, s, token, count, group, 0);
    for (int64_t head = group * shared; head < (group + 1) * shared; head++)
        for (int64_t query = 0; query < count; query += BLOCK) {
            struct span at = span_of(call, query, count);
            load_head(call, call->query, token + query, at.queries, call->query_row, head * width, (float)call->scale, s->q);
            product_of(0, at.queries, at.columns, wide, s->q, wide, 1, s->k_turned + at.key, side, s->scores, at.columns,
                       KEYS_UP_TO_ROW, at.shift);
            for (int64_t i = 0; i < at.queries; i++) {
                float *scores = s->scores + i * at.columns;
                float sum = softmax_from(scores, before(call, &at, i), seen_by(&at, i), at.columns);
                call->sums[(token + query + i) * call->heads + head] = sum;
            }
            product_of(0, at.queries, wide, at.keys, s->scores, at.columns, 1, s->v + at.key * wide, wide, s->out, wide,
                       STEPS_UP_TO_ROW, at.shift);
            store_head(call, call->out, token + query, at.queries, call->heads * width, head * width, s->out);
        }
}

static int causal_part(const struct causal *call, int64_t first, int64_t last) {
    struct scratch s;
    if (allocate(&s, call)) return -1;
    for (int64_t piece = first; piece < last; piece++)
        attend_piece(call, &s, piece);
    release(&s);
    return 0;
}

int causal(const struct causal *call, int64_t pieces, int64_t parts) {
    RETURN_FAILURE_OF(causal_part(call, FIRST, LAST));
}

/* Replaces the scores of a query by their softmax, and the gradient of that by that of the scores. */
INLINE void softmax_backward(const struct causal *call, float *scores, float *gradient, int64_t first, int64_t seen,
                             int64_t columns, float sum, float shared) {
    int64_t whole = rounded(seen);
    for (int64_t j = 0; j < first; j++) scores[j] = -INFINITY;
    for (int64_t j = seen; j < whole; j++) scores[j] = -INFINITY;
    for (int64_t j = 0; j < whole; j += LANES) {
        vec past = load(scores + j) - sum; /* above 0 by rounding, if at all */
        vec weight = exponential(blend(past > 0.0f, (vec){}, past));
        vec none = (vec){};
        store(scores + j, weight);
        store(gradient + j, blend(weight > 0.0f, weight * (load(gradient + j) - shared) * (float)call->scale, none));
    }
    for (int64_t j = whole; j < columns; j += LANES) {
        store(scores + j, (vec){});
        store(gradient + j, (vec){});
    }
}

static void backward_piece(const struct causal *call, struct scratch *s, int64_t piece) {
    int64_t row = piece % call->rows, group = piece / call->rows, shared = call->heads / call->groups;
    int64_t token = call->ends[row], count = call->ends[row + 1] - token;
    int64_t width = call->width, wide = rounded(width), side = rounded(count), out_row = call->heads * width;
    load_row(call, s, token, count, group, 1);
    for (int64_t head = group * shared; head < (group + 1) * shared; head++)
        for (int64_t query = 0; query < count; query += BLOCK) {
            struct span at = span_of(call, query, count);
            int64_t from = token + query, place = head * width;
            load_head(call, call->query, from, at.queries, call->query_row, place, 1.0f, s->q);
            load_head(call, call->gradient, from, at.queries, out_row, place, 1.0f, s->g);
            load_head(call, call->out, from, at.queries, out_row, place, 1.0f, s->out);
            product_of(0, at.queries, at.columns, wide, s->q, wide, 1, s->k_turned + at.key, side, s->scores, at.columns,
                       KEYS_UP_TO_ROW, at.shift);
            product_of(0, at.queries, at.columns, wide, s->g, wide, 1, s->v_turned + at.key, side, s->others, at.columns,
                       KEYS_UP_TO_ROW, at.shift);
            for (int64_t i = 0; i < at.queries; i++) {
                vec along = {};
                for (int64_t j = 0; j < wide; j += LANES)
                    along += load(s->g + i * wide + j) * load(s->out + i * wide + j);
                float *scores = s->scores + i * at.columns, *others = s->others + i * at.columns;
                int64_t seen = seen_by(&at, i);
                for (int64_t j = 0; j < rounded(seen); j += LANES) store(scores + j, load(scores + j) * (float)call->scale);
                float sum = call->sums[(from + i) * call->heads + head];
                softmax_backward(call, scores, others, before(call, &at, i), seen, at.columns, sum, sum_of(along));
            }
            float *d_k = s->d_k + at.key * wide, *d_v = s->d_v + at.key * wide;
            product_of(1, at.keys, wide, at.queries, s->scores, 1, at.columns, s->g, wide, d_v, wide, STEPS_FROM_ROW, at.shift);
            product_of(1, at.keys, wide, at.queries, s->others, 1, at.columns, s->q, wide, d_k, wide, STEPS_FROM_ROW, at.shift);
            product_of(0, at.queries, wide, at.keys, s->others, at.columns, 1, s->k + at.key * wide, wide, s->out, wide,
                       STEPS_UP_TO_ROW, at.shift);
            store_head(call, call->d_query, from, at.queries, call->query_row, place, s->out);
        }
    store_head(call, call->d_key, token, count, call->key_row, group * width, s->d_k);
    store_head(call, call->d_value, token, count, call->value_row, group * width, s->d_v);
}

static int causal_backward_part(const struct causal *call, int64_t first, int64_t last) {
    struct scratch s;
    if (allocate(&s, call)) return -1;
    for (int64_t piece = first; piece < last; piece++)
        backward_piece(call, &s, piece);
    release(&s);
    return 0;
}

int causal_backward(const struct causal *call, int64_t pieces, int64_t parts) {
    RETURN_FAILURE_OF(causal_backward_part(call, FIRST, LAST));
}
