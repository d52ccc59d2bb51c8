/* What of a training step is neither a product with weights nor worth a call of torch for each of its parts: attention,
 * and what stands between the products. Called by kernels.py, which has the meaning of every argument.
 *
 * Values are bf16 where `half`, else fp32, and computed in fp32. What is added up in which order never depends on the
 * number of threads: no result does.
 *
 * Vectors are written by an extension that GCC and Clang share. The file is compiled for processors with AVX-512 and for
 * those with AVX2.
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The digest of this file, by setup.py: a library of another version is not used. */
const char source[] = SOURCE_DIGEST;

/* A vector of LANES floats is one register; ROWS × 4 of them hold the sums of a block of products, and a few are left. */
#ifdef __AVX512F__
#define LANES 16
#define ROWS 6
#else
#define LANES 8
#define ROWS 3
#endif
#define AHEAD 12 /* tokens */
#define BLOCK_ROWS 64 /* whose squares are added up by themselves */
#define SUMS 4 /* of squares, side by side: an addition takes four cycles */
#define INLINE static inline __attribute__((always_inline))

/* A function's `pieces` of work are cut into `parts`, one for each of torch's threads: torch brings the library that they are
 * of, and this file finds it loaded. */
#define EACH_PART                                                           \
    _Pragma("omp parallel for schedule(static, 1) num_threads((int)parts)") \
    for (int64_t number = 0; number < parts; number++)
#define FIRST (pieces * number / parts)
#define LAST (pieces * (number + 1) / parts)

/* Returns what a part that failed returned, of any, or 0. */
#define RETURN_FAILURE_OF(part)                          \
    int failure = 0;                                     \
    EACH_PART {                                          \
        int ended = part;                                \
        if (ended) {                                     \
            _Pragma("omp atomic write") failure = ended; \
        }                                                \
    }                                                    \
    return failure

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));
typedef uint16_t hvec __attribute__((vector_size(2 * LANES)));
typedef float narrow __attribute__((vector_size(2 * LANES)));
typedef double dvec __attribute__((vector_size(4 * LANES))); /* of as many as `narrow` has */
typedef uint64_t wvec __attribute__((vector_size(2 * LANES))); /* as many words as have the bits of LANES elements */

INLINE int64_t rounded(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

INLINE vec loaded(const float *at) {
    vec found;
    memcpy(&found, at, sizeof found);
    return found;
}

INLINE void stored(float *at, vec values) { memcpy(at, &values, sizeof values); }

INLINE vec all(float value) { return value - (vec){}; }

INLINE vec chosen(ivec where, vec yes, vec no) { return (vec)(((ivec)yes & where) | ((ivec)no & ~where)); }

INLINE vec from_half(hvec bits) { return (vec)(__builtin_convertvector(bits, uvec) << 16); }

/* To the nearest bf16, ties to even; what is not a number stays none. */
INLINE hvec to_half(vec values) {
    uvec bits = (uvec)values;
    uvec nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    uvec nan = (uvec)(values != values);
    return __builtin_convertvector((nearest & ~nan) | (nan & 0x7fc0), hvec);
}

/* The first `count` of a vector's values in `half` or fp32, zeros after them. Whole vectors and the others go separate ways:
 * the latter are put together in memory, which costs more than all else here. */
INLINE hvec read_bits(const uint16_t *from, int64_t count) {
    if (count >= LANES) {
        hvec whole;
        memcpy(&whole, from, sizeof whole);
        return whole;
    }
    hvec some = {};
    memcpy(&some, from, (size_t)count * sizeof *from);
    return some;
}

INLINE vec read_some(const void *from, int64_t at, int64_t count, int half) {
    if (half) return from_half(read_bits((const uint16_t *)from + at, count));
    if (count >= LANES) return loaded((const float *)from + at);
    vec some = {};
    memcpy(&some, (const float *)from + at, (size_t)count * sizeof(float));
    return some;
}

/* The same with `fill` after them. */
INLINE vec read_or(const void *from, int64_t at, int64_t count, int half, float fill) {
    vec values = read_some(from, at, count, half);
    for (int64_t i = count; i < LANES; i++) values[i] = fill;
    return values;
}

INLINE void write_some(void *to, int64_t at, int64_t count, vec values, int half) {
    if (half && count >= LANES) {
        hvec whole = to_half(values);
        memcpy((uint16_t *)to + at, &whole, sizeof whole);
    } else if (half) {
        hvec some = to_half(values);
        memcpy((uint16_t *)to + at, &some, (size_t)count * sizeof(uint16_t));
    } else if (count >= LANES) {
        stored((float *)to + at, values);
    } else {
        memcpy((float *)to + at, &values, (size_t)count * sizeof(float));
    }
}

/* exp(x) for x of at most 0, to two units in the last place: 2^n × e^r with r within ±ln 2 / 2, by the polynomial of
 * Cephes' expf; 0 below the least normal number. */
INLINE vec exponential(vec x) {
    const float shift = 12582912.0f; /* 1.5 × 2^23: adding it rounds to a whole number, which stands in the low bits */
    vec whole = x * 1.44269504088896341f + shift;
    ivec n = (ivec)whole - (ivec)all(shift);
    whole -= shift;
    vec r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    vec y = all(1.9875691500e-4f);
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    vec found = (vec)((ivec)y + (n << 23));
    return chosen(x < -87.0f, (vec){}, found);
}

/* Which of LANES elements dropout keeps, `at` elements, a multiple of four, after the first of a word: dropout.py has the
 * same. */
INLINE ivec stays(int64_t dropped, int64_t seed, int64_t word, int64_t at) {
    const uint64_t gamma = 0x9e3779b97f4a7c15u;
    wvec x = (uint64_t)seed + (uint64_t)(word + at / 4 + 1) * gamma - (wvec){};
    for (int i = 1; i < LANES / 4; i++) x[i] += (uint64_t)i * gamma;
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    x ^= x >> 31;
    hvec bits;
    memcpy(&bits, &x, sizeof bits);
    return __builtin_convertvector(bits, ivec) >= (int32_t)dropped;
}

/* Four lanes of a vector: what is left of it is added up, or compared, by halves. */
typedef float quad __attribute__((vector_size(16)));
typedef int32_t iquad __attribute__((vector_size(16)));

INLINE quad part_of(vec values, int number) {
    quad found;
    memcpy(&found, (const char *)&values + number * sizeof found, sizeof found);
    return found;
}

INLINE quad larger(quad a, quad b) {
    iquad where = a > b;
    return (quad)(((iquad)a & where) | ((iquad)b & ~where));
}

INLINE float sum_of(vec values) {
    quad x = part_of(values, 0), y = part_of(values, 1);
#if LANES == 16
    x += part_of(values, 2), y += part_of(values, 3);
#endif
    x += y;
    return (x[0] + x[2]) + (x[1] + x[3]);
}

INLINE float largest_of(vec values) {
    quad x = larger(part_of(values, 0), part_of(values, 1));
#if LANES == 16
    x = larger(x, larger(part_of(values, 2), part_of(values, 3)));
#endif
    float a = x[0] > x[1] ? x[0] : x[1], b = x[2] > x[3] ? x[2] : x[3];
    return a > b ? a : b;
}

/* --- attention, one head of one row at a time

A row of a few dozen tokens is too small for torch's threads, and each of the dozen calls that it takes costs as much as
the work. The softmax that is kept for the backward pass is negative where dropout took a weight away. */

/* As `_Call` in kernels.py. Values are (tokens, heads × width), bf16 where `half`, else fp32; `weights` are in the same
 * kind, (heads, queries, keys) of each row, the rows end to end; so are their random bits, from `word` on, where the keys
 * of each query begin with a word of their own. `bias` and its gradient are (heads, side, side). */
struct call {
    const void *query, *key, *value, *gradient;
    void *out, *d_query, *d_key, *d_value, *weights;
    const float *bias;
    float *d_bias;
    const int64_t *queries, *keys; /* where each row begins, and where the last one ends */
    int64_t rows, heads, width, side, dropped, seed, word, half, causal;
    int64_t query_row, key_row, value_row; /* values from a token's to those of the next */
};

/* Scratch of one thread: a head of a row in fp32, its width and its keys rounded up to whole vectors. */
struct scratch {
    float *q, *k, *v, *g, *turned, *scores, *others, *out;
};

/* products */

/* Which part of a product is known to be zero, or is not looked at, where a query sees no later key. */
enum part {
    WHOLE,
    KEYS_UP_TO_ROW,   /* columns after the row are not wanted */
    STEPS_UP_TO_ROW,  /* terms after the row are zero */
    STEPS_FROM_ROW    /* terms before the row are zero */
};

INLINE void block(int rows, int vectors, int64_t first, int64_t last, const float *a, int64_t a_row, int64_t a_step,
                  const float *b, int64_t b_row, float *c, int64_t c_row) {
    vec sums[ROWS][4];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++) sums[i][j] = (vec){};
    for (int64_t step = first; step < last; step++) {
        vec of[4];
        for (int j = 0; j < vectors; j++) of[j] = loaded(b + step * b_row + j * LANES);
        for (int i = 0; i < rows; i++) {
            vec by = all(a[i * a_row + step * a_step]);
            for (int j = 0; j < vectors; j++) sums[i][j] += by * of[j];
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++) stored(c + i * c_row + j * LANES, sums[i][j]);
}

INLINE void blocks(int rows, int64_t columns, int64_t first, int64_t last, const float *a, int64_t a_row,
                   int64_t a_step, const float *b, int64_t b_row, float *c, int64_t c_row) {
    int64_t at = 0;
    for (; at + 4 * LANES <= columns; at += 4 * LANES)
        block(rows, 4, first, last, a, a_row, a_step, b + at, b_row, c + at, c_row);
    for (; at + 2 * LANES <= columns; at += 2 * LANES)
        block(rows, 2, first, last, a, a_row, a_step, b + at, b_row, c + at, c_row);
    for (; at < columns; at += LANES) block(rows, 1, first, last, a, a_row, a_step, b + at, b_row, c + at, c_row);
}

/* c = a × b, a of `rows` × `steps` by its two strides, b and c of whole vectors of columns. */
INLINE void product(int64_t rows, int64_t columns, int64_t steps, const float *a, int64_t a_row, int64_t a_step,
                    const float *b, int64_t b_row, float *c, int64_t c_row, enum part part) {
    for (int64_t row = 0; row < rows; row += ROWS) {
        int64_t after = row + ROWS < rows ? row + ROWS : rows;
        int64_t wanted = part == KEYS_UP_TO_ROW && rounded(after) < columns ? rounded(after) : columns;
        int64_t first = part == STEPS_FROM_ROW ? row : 0;
        int64_t last = part == STEPS_UP_TO_ROW && after < steps ? after : steps;
        const float *from = a + row * a_row;
        float *to = c + row * c_row;
        if (after - row == ROWS)
            blocks(ROWS, wanted, first, last, from, a_row, a_step, b, b_row, to, c_row);
        else
            for (int64_t i = 0; i < after - row; i++)
                blocks(1, wanted, first, last, from + i * a_row, a_row, a_step, b, b_row, to + i * c_row, c_row);
    }
}

/* a head of a row in and out of scratch */

INLINE void take(const struct call *call, const void *from, int64_t token, int64_t tokens, int64_t stride, int64_t head,
               float *to) {
    int64_t width = call->width, wide = rounded(width), size = call->half ? 2 : 4;
    for (int64_t i = 0; i < tokens; i++)
        for (int64_t j = 0; j < wide; j += LANES) {
            int64_t count = width - j;
            /* The processor does not guess that a head's part of the next tokens comes next. */
            if (i + AHEAD < tokens)
                __builtin_prefetch((const char *)from + ((token + i + AHEAD) * stride + head * width + j) * size);
            stored(to + i * wide + j, read_some(from, (token + i) * stride + head * width + j, count, (int)call->half));
        }
}

INLINE void give(const struct call *call, void *to, int64_t token, int64_t tokens, int64_t head, const float *from) {
    int64_t width = call->width, wide = rounded(width), stride = call->heads * width;
    for (int64_t i = 0; i < tokens; i++)
        for (int64_t j = 0; j < wide; j += LANES) {
            int64_t count = width - j;
            write_some(to, (token + i) * stride + head * width + j, count, loaded(from + i * wide + j), (int)call->half);
        }
}

/* (tokens, wide) to (wide, columns); columns past the tokens are zero. */
INLINE void turn(const float *from, int64_t tokens, int64_t wide, float *to, int64_t columns) {
    for (int64_t j = 0; j < wide; j++) {
        for (int64_t i = 0; i < tokens; i++) to[j * columns + i] = from[i * wide + j];
        for (int64_t i = tokens; i < columns; i++) to[j * columns + i] = 0.0f;
    }
}

/* rows of scores */

/* The softmax of `seen` scores plus bias, in their place; zeros up to the next whole vector. */
INLINE void softmax(float *scores, const float *bias, int64_t seen) {
    int64_t whole = rounded(seen);
    if (bias)
        for (int64_t j = 0; j < seen; j++) scores[j] += bias[j];
    for (int64_t j = seen; j < whole; j++) scores[j] = -INFINITY;
    vec most = all(-INFINITY), total = {};
    for (int64_t j = 0; j < whole; j += LANES) {
        vec x = loaded(scores + j);
        most = chosen(x > most, x, most);
    }
    float top = largest_of(most);
    for (int64_t j = 0; j < whole; j += LANES) {
        vec y = exponential(loaded(scores + j) - top);
        total += y;
        stored(scores + j, y);
    }
    float inverse = 1.0f / sum_of(total);
    for (int64_t j = 0; j < whole; j += LANES) stored(scores + j, loaded(scores + j) * inverse);
}

/* Keeps a row of weights, negative where dropout takes them away, and takes them away. */
INLINE void keep(const struct call *call, float *weights, int64_t seen, int64_t keys, int64_t at, int64_t word) {
    for (int64_t j = 0; j < keys; j += LANES) {
        int64_t count = keys - j;
        vec values = j < seen ? loaded(weights + j) : (vec){};
        ivec away = {};
        if (call->dropped && j < seen) {
            away = ~stays(call->dropped, call->seed, word, j);
            stored(weights + j, (vec)((ivec)values & ~away));
        }
        write_some(call->weights, at + j, count, (vec)((ivec)values | (away & INT32_MIN)), (int)call->half);
    }
}

/* The gradient of a row of scores in place of that of its weights, and what dropout kept in place of what was kept of
 * the softmax. */
INLINE void softmax_backward(float *kept, float *gradient, float *d_bias, int64_t seen) {
    int64_t whole = rounded(seen);
    vec total = {};
    for (int64_t j = 0; j < whole; j += LANES) {
        vec values = loaded(kept + j);
        vec by = (vec)((ivec)loaded(gradient + j) & (values > 0.0f));
        total += by * (vec)((ivec)values & INT32_MAX);
        stored(gradient + j, by);
    }
    float shared = sum_of(total);
    for (int64_t j = 0; j < whole; j += LANES) {
        vec values = loaded(kept + j);
        stored(gradient + j, (vec)((ivec)values & INT32_MAX) * (loaded(gradient + j) - shared));
        stored(kept + j, (vec)((ivec)values & ~(values < 0.0f)));
    }
    if (d_bias)
        for (int64_t j = 0; j < seen; j++) d_bias[j] += gradient[j];
}

/* the two passes */

/* Where a row's tokens are. */
struct place {
    int64_t first, count;
};

INLINE struct place place_of(const int64_t *ends, int64_t row) {
    return (struct place){ends[row], ends[row + 1] - ends[row]};
}

static void give_back(struct scratch *scratch) { free(scratch->q); }

static int make(struct scratch *scratch, const struct call *call) {
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

/* What the queries of some heads see, and the softmax of their rows; -1 where there is no memory for it. */
static int attend_part(const struct call *call, int64_t first_head, int64_t last_head) {
    struct scratch s;
    if (make(&s, call)) return -1;
    int64_t wide = rounded(call->width);
    for (int64_t head = first_head; head < last_head; head++) {
        int64_t weights = 0, word = call->word;
        for (int64_t row = 0; row < call->rows; row++) {
            struct place at = place_of(call->queries, row), from = place_of(call->keys, row);
            int64_t queries = at.count, keys = from.count, columns = rounded(keys);
            int64_t own = head * queries * keys, of_row = (keys + 3) / 4;
            take(call, call->query, at.first, queries, call->query_row, head, s.q);
            take(call, call->key, from.first, keys, call->key_row, head, s.k);
            take(call, call->value, from.first, keys, call->value_row, head, s.v);
            turn(s.k, keys, wide, s.turned, columns);
            product(queries, columns, wide, s.q, wide, 1, s.turned, columns, s.scores, columns,
                    call->causal ? KEYS_UP_TO_ROW : WHOLE);
            for (int64_t i = 0; i < queries; i++) {
                int64_t seen = call->causal ? i + 1 : keys;
                const float *bias = call->bias ? call->bias + (head * call->side + i) * call->side : NULL;
                softmax(s.scores + i * columns, bias, seen);
                keep(call, s.scores + i * columns, seen, keys, weights + own + i * keys, word + (head * queries + i) * of_row);
                /* The next rows of its block are multiplied as far as they see. */
                if (call->causal) {
                    int64_t end = (i / ROWS + 1) * ROWS;
                    for (int64_t j = rounded(seen); j < end && j < columns; j++) s.scores[i * columns + j] = 0.0f;
                }
            }
            product(queries, wide, keys, s.scores, columns, 1, s.v, wide, s.out, wide,
                    call->causal ? STEPS_UP_TO_ROW : WHOLE);
            give(call, call->out, at.first, queries, head, s.out);
            weights += call->heads * queries * keys;
            word += call->heads * queries * of_row;
        }
    }
    give_back(&s);
    return 0;
}

int attend(const struct call *call, int64_t pieces, int64_t parts) {
    RETURN_FAILURE_OF(attend_part(call, FIRST, LAST));
}

/* Gradients of query, key and value of some heads, and of their bias, which is added to; -1 where there is no memory. */
static int attend_backward_part(const struct call *call, int64_t first_head, int64_t last_head) {
    struct scratch s;
    if (make(&s, call)) return -1;
    int64_t wide = rounded(call->width);
    for (int64_t head = first_head; head < last_head; head++) {
        int64_t weights = 0;
        for (int64_t row = 0; row < call->rows; row++) {
            struct place at = place_of(call->queries, row), from = place_of(call->keys, row);
            int64_t queries = at.count, keys = from.count, columns = rounded(keys);
            int64_t own = weights + head * queries * keys;
            take(call, call->query, at.first, queries, call->query_row, head, s.q);
            take(call, call->key, from.first, keys, call->key_row, head, s.k);
            take(call, call->value, from.first, keys, call->value_row, head, s.v);
            take(call, call->gradient, at.first, queries, call->heads * call->width, head, s.g);
            turn(s.v, keys, wide, s.turned, columns);
            product(queries, columns, wide, s.g, wide, 1, s.turned, columns, s.others, columns,
                    call->causal ? KEYS_UP_TO_ROW : WHOLE);
            for (int64_t i = 0; i < queries; i++) {
                int64_t seen = call->causal ? i + 1 : keys;
                float *kept = s.scores + i * columns, *gradient = s.others + i * columns;
                for (int64_t j = 0; j < columns; j += LANES) {
                    int64_t count = keys - j;
                    stored(kept + j, read_some(call->weights, own + i * keys + j, count, (int)call->half));
                }
                float *d_bias = call->d_bias ? call->d_bias + (head * call->side + i) * call->side : NULL;
                softmax_backward(kept, gradient, d_bias, seen);
                for (int64_t j = rounded(seen); j < columns; j++) gradient[j] = 0.0f;
            }
            product(keys, wide, queries, s.scores, 1, columns, s.g, wide, s.out, wide,
                    call->causal ? STEPS_FROM_ROW : WHOLE);
            give(call, call->d_value, from.first, keys, head, s.out);
            product(queries, wide, keys, s.others, columns, 1, s.k, wide, s.out, wide,
                    call->causal ? STEPS_UP_TO_ROW : WHOLE);
            give(call, call->d_query, at.first, queries, head, s.out);
            product(keys, wide, queries, s.others, 1, columns, s.q, wide, s.out, wide,
                    call->causal ? STEPS_FROM_ROW : WHOLE);
            give(call, call->d_key, from.first, keys, head, s.out);
            weights += call->heads * queries * keys;
        }
    }
    give_back(&s);
    return 0;
}

int attend_backward(const struct call *call, int64_t pieces, int64_t parts) {
    RETURN_FAILURE_OF(attend_backward_part(call, FIRST, LAST));
}

/* --- attention of one query of each row, while a reply is written */

/* As `_Step` in kernels.py. Values are bf16 where `half`, else fp32. `given` has a query for each row, and where the keys
 * and values are its `own` those of its token after it, each (heads × width). `keys` and `values` are (rows, room,
 * heads × width), of which a row sees the first of `counts`; `bias` is (heads, side). */
struct step {
    const void *given;
    void *keys, *values, *out;
    const float *bias;
    const int64_t *counts;
    int64_t heads, width, room, side, own, half;
};

/* Tokens are taken in their order, and the heads of each: so the processor guesses what comes next. */
INLINE void seen_by(int half, const struct step *step, int64_t row, float *q, float *out, float *scores) {
    int64_t width = step->width, wide = rounded(width), heads = step->heads, inner = heads * width;
    int64_t count = step->counts[row], first = row * step->room * inner, most = rounded(step->room);
    for (int64_t head = 0; head < heads; head++)
        for (int64_t j = 0; j < width; j += LANES) {
            int64_t at = row * inner * (step->own ? 3 : 1) + head * width + j;
            stored(q + head * wide + j, read_some(step->given, at, width - j, half));
            stored(out + head * wide + j, (vec){});
        }
    for (int64_t i = 0; i < count; i++)
        for (int64_t head = 0; head < heads; head++) {
            vec total = {};
            for (int64_t j = 0; j < width; j += LANES) {
                vec key = read_some(step->keys, first + i * inner + head * width + j, width - j, half);
                total += loaded(q + head * wide + j) * key;
            }
            scores[head * most + i] = sum_of(total);
        }
    for (int64_t head = 0; head < heads; head++)
        softmax(scores + head * most, step->bias ? step->bias + head * step->side : NULL, count);
    for (int64_t i = 0; i < count; i++)
        for (int64_t head = 0; head < heads; head++)
            for (int64_t j = 0; j < width; j += LANES) {
                float *to = out + head * wide + j;
                vec value = read_some(step->values, first + i * inner + head * width + j, width - j, half);
                stored(to, loaded(to) + scores[head * most + i] * value);
            }
    for (int64_t head = 0; head < heads; head++)
        for (int64_t j = 0; j < width; j += LANES)
            write_some(step->out, row * inner + head * width + j, width - j, loaded(out + head * wide + j), half);
}

/* What the query of each of some rows sees, its own key and value, the last that it sees, put among the others before;
 * -1 where there is no memory for it. */
static int attend_step_part(const struct step *step, int64_t first_row, int64_t last_row) {
    int64_t wide = step->heads * rounded(step->width), longest = step->heads * rounded(step->room);
    float *scratch = aligned_alloc(sizeof(vec), (size_t)(2 * wide + longest) * sizeof(float));
    if (!scratch) return -1;
    size_t size = (size_t)(step->heads * step->width * (step->half ? 2 : 4));
    for (int64_t row = first_row; row < last_row; row++) {
        if (step->own) {
            const char *own = (const char *)step->given + (size_t)row * 3 * size;
            size_t at = (size_t)(row * step->room + step->counts[row] - 1) * size;
            memcpy((char *)step->keys + at, own + size, size);
            memcpy((char *)step->values + at, own + 2 * size, size);
        }
        if (step->half) seen_by(1, step, row, scratch, scratch + wide, scratch + 2 * wide);
        else seen_by(0, step, row, scratch, scratch + wide, scratch + 2 * wide);
    }
    free(scratch);
    return 0;
}

int attend_step(const struct step *step, int64_t pieces, int64_t parts) {
    RETURN_FAILURE_OF(attend_step_part(step, FIRST, LAST));
}

/* --- between the products: tokens are (tokens, width) */

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

/* x over its root mean square, the same times `scale`, and the inverse of the root. */
void normed(const float *x, const void *scale, void *plain, void *scaled, float *inverse, int64_t width, float epsilon,
            int64_t half, int64_t pieces, int64_t parts) {
    EACH_PART {
        int64_t first = FIRST, last = LAST;
        if (half) normed_as(1, x, scale, plain, scaled, inverse, width, epsilon, first, last);
        else normed_as(0, x, scale, plain, scaled, inverse, width, epsilon, first, last);
    }
}

INLINE void normed_backward_as(int half, const void *gradient, const void *plain, const float *inverse,
                               const float *scale, const float *beside, float *d_x, float *d_scale, int64_t width,
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
            write_some(d_x, row + j, width - j, found + read_some(beside, row + j, width - j, 0), 0);
        }
    }
}

/* The gradient of x plus what goes `beside` the layer, and that of the scale, a part of it for each block of tokens. */
void normed_backward(const void *gradient, const void *plain, const float *inverse, const float *scale,
                     const float *beside, float *d_x, float *d_scale, int64_t width, int64_t tokens, int64_t block,
                     int64_t half, int64_t pieces, int64_t parts) {
    EACH_PART {
        int64_t first = FIRST, last = LAST;
        for (int64_t at = first; at < last; at++) {
            float *part = d_scale ? d_scale + at * width : NULL;
            int64_t from = at * block, to = from + block < tokens ? from + block : tokens;
            if (half) normed_backward_as(1, gradient, plain, inverse, scale, beside, d_x, part, width, from, to);
            else normed_backward_as(0, gradient, plain, inverse, scale, beside, d_x, part, width, from, to);
        }
    }
}

/* x + `factor` × what dropout keeps of y; tokens begin with a random word of their own, here and below. */
void residual(const float *x, const void *y, float *out, float factor, int64_t dropped, int64_t seed, int64_t word,
              int64_t width, int64_t half, int64_t pieces, int64_t parts) {
    EACH_PART {
        int64_t first = FIRST, last = LAST;
        for (int64_t token = first; token < last; token++)
            for (int64_t j = 0; j < width; j += LANES) {
                int64_t at = token * width + j, count = width - j;
                vec values = read_some(y, at, count, (int)half);
                if (dropped) values = (vec)((ivec)values & stays(dropped, seed, word + token * ((width + 3) / 4), j));
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
                if (dropped) values = (vec)((ivec)values & stays(dropped, seed, word + token * ((width + 3) / 4), j));
                write_some(out, at, count, values, (int)half);
            }
    }
}

/* What dropout keeps of relu(hidden), in its place. */
void relu_dropped(void *hidden, int64_t dropped, int64_t seed, int64_t word, int64_t width, int64_t half,
                  int64_t pieces, int64_t parts) {
    EACH_PART {
        int64_t first = FIRST, last = LAST;
        for (int64_t token = first; token < last; token++)
            for (int64_t j = 0; j < width; j += LANES) {
                int64_t at = token * width + j, count = width - j;
                vec values = read_some(hidden, at, count, (int)half);
                ivec kept = ~(values < 0.0f);
                if (dropped) kept &= stays(dropped, seed, word + token * ((width + 3) / 4), j);
                write_some(hidden, at, count, (vec)((ivec)values & kept), (int)half);
            }
    }
}

/* --- the loss */

INLINE float exponential_of(float x) { return exponential(all(x))[0]; }

/* One token: its loss, and where `scratch` is given the gradient by its logits in their place. The label is left out of
 * the sum: what the others have is the gradient of its logit to all digits, however likely it is. */
INLINE float loss_of(int half, void *logits, int64_t row, int64_t label, int64_t size, float *scratch) {
    vec most = all(-INFINITY), total = {};
    for (int64_t j = 0; j < size; j += LANES) {
        vec x = read_or(logits, row + j, size - j, half, -INFINITY);
        most = chosen(x > most, x, most);
    }
    vec was = read_some(logits, row + label, 1, half);
    float top = largest_of(most), own = was[0] - top;
    write_some(logits, row + label, 1, all(-INFINITY), half);
    for (int64_t j = 0; j < size; j += LANES) {
        vec y = exponential(read_or(logits, row + j, size - j, half, -INFINITY) - top);
        total += y;
        if (scratch) stored(scratch + j, y);
    }
    float others = sum_of(total), sum = others + exponential_of(own);
    if (scratch) {
        float inverse = 1.0f / sum;
        for (int64_t j = 0; j < size; j += LANES)
            write_some(logits, row + j, size - j, loaded(scratch + j) * inverse, half);
        write_some(logits, row + label, 1, all(-others * inverse), half);
    } else {
        write_some(logits, row + label, 1, was, half);
    }
    return own == 0.0f ? log1pf(others) : logf(sum) - own;
}

/* Cross-entropy of some tokens, and its gradient in the place of their logits where it is wanted; -1 where there is no
 * memory, -2 where a label is no logit's number. */
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

INLINE int64_t largest_at(int half, const void *logits, int64_t row, int64_t size) {
    vec most = all(-INFINITY);
    for (int64_t j = 0; j < size; j += LANES) {
        vec x = read_or(logits, row + j, size - j, half, -INFINITY);
        most = chosen(x > most, x, most);
    }
    float top = largest_of(most);
    for (int64_t j = 0; j < size; j += LANES) {
        vec x = read_or(logits, row + j, size - j, half, -INFINITY);
        if (largest_of(x) < top) continue;
        for (int64_t i = 0; i < LANES && j + i < size; i++)
            if (x[i] == top) return j + i;
    }
    return 0;
}

/* The number of the first of the greatest logits of some tokens. */
void largest(const void *logits, int64_t *found, int64_t size, int64_t half, int64_t pieces, int64_t parts) {
    EACH_PART {
        int64_t first = FIRST, last = LAST;
        for (int64_t token = first; token < last; token++)
            found[token] = half ? largest_at(1, logits, token * size, size) : largest_at(0, logits, token * size, size);
    }
}

/* --- gradients and updates */

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

/* As `_Matrix` in kernels.py: a matrix that learns, and its row of Adafactor's numbers. */
struct matrix {
    float *parameter, *row_var, *col_var;
    const float *gradient;
    int64_t rows, columns;
    double weight, least, smallest, rate, decay, most;
};

/* Means of a gradient's squares by row and by column, moved into those of the steps before; returns the parameter's norm. */
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

/* One update of a matrix; 1 where it is left as it was, for its second moment would have to be clamped. */
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

/* Adafactor's update of some matrices; `left` is 1 where one is left as it was. Returns -1 where there is no memory. */
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
