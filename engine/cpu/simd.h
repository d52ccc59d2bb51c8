/* Vectors of floats, in an extension that GCC and Clang share: the same code serves AVX-512, AVX2 and NEON.
 *
 * Values are bf16 if `half`, else fp32, and are computed in fp32. The order of a summation never depends on the number
 * of threads, so no result does. */

#ifndef SIMD_H
#define SIMD_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A vector of LANES floats is one register; ROWS × 4 of them hold the sums of a block of products, and a few are left. */
#ifdef __AVX512F__
#define LANES 16
#define ROWS 6
#else
#define LANES 8
#define ROWS 3
#endif
#define INLINE static inline __attribute__((always_inline))

/* A function's `pieces` of work are divided into `parts`, one for each of torch's threads: torch loads the OpenMP
 * library that they belong to, and this file uses the loaded one. */
#define EACH_PART                                                           \
    _Pragma("omp parallel for schedule(static, 1) num_threads((int)parts)") \
    for (int64_t number = 0; number < parts; number++)
#define FIRST (pieces * number / parts)
#define LAST (pieces * (number + 1) / parts)

/* Returns the result of a part that failed, if any did, or 0. */
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
typedef double dvec __attribute__((vector_size(4 * LANES))); /* of as many elements as `narrow` */
typedef uint64_t wvec __attribute__((vector_size(2 * LANES))); /* as many words as hold the bits of LANES elements */

INLINE int64_t rounded(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

INLINE vec load(const float *at) {
    vec found;
    memcpy(&found, at, sizeof found);
    return found;
}

INLINE void store(float *at, vec values) { memcpy(at, &values, sizeof values); }

INLINE vec broadcast(float value) { return value - (vec){}; }

INLINE vec blend(ivec where, vec yes, vec no) { return (vec)(((ivec)yes & where) | ((ivec)no & ~where)); }

INLINE vec from_half(hvec bits) { return (vec)(__builtin_convertvector(bits, uvec) << 16); }

/* To the nearest bf16, ties to even; NaN stays NaN. */
INLINE hvec to_half(vec values) {
    uvec bits = (uvec)values;
    uvec nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    uvec nan = (uvec)(values != values);
    return __builtin_convertvector((nearest & ~nan) | (nan & 0x7fc0), hvec);
}

/* The first `count` of a vector's values in `half` or fp32, zeros after them. Whole vectors are read directly; partial
 * ones are assembled in memory, which costs more than everything else here. */
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
    if (count >= LANES) return load((const float *)from + at);
    vec some = {};
    memcpy(&some, (const float *)from + at, (size_t)count * sizeof(float));
    return some;
}

/* The same, with `fill` after them. */
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
        store((float *)to + at, values);
    } else {
        memcpy((float *)to + at, &values, (size_t)count * sizeof(float));
    }
}

/* exp(x) for x of at most 0, to two units in the last place: 2^n × e^r with r within ±ln 2 / 2, by the polynomial of
 * Cephes' expf; 0 below the least normal number. */
INLINE vec exponential(vec x) {
    const float shift = 12582912.0f; /* 1.5 × 2^23: adding it rounds to a whole number, which is then in the low bits */
    vec whole = x * 1.44269504088896341f + shift;
    ivec n = (ivec)whole - (ivec)broadcast(shift);
    whole -= shift;
    vec r = x - whole * 0.693359375f + whole * 2.12194440e-4f;
    vec y = broadcast(1.9875691500e-4f);
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    vec found = (vec)((ivec)y + (n << 23));
    return blend(x < -87.0f, (vec){}, found);
}

/* Which of LANES elements dropout keeps, starting `at` elements, a multiple of four, after the first of a word;
 * dropout.py computes the same. */
INLINE ivec dropout_mask(int64_t dropped, int64_t seed, int64_t word, int64_t at) {
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

/* Four lanes of a vector, the unit in which sums and maxima are reduced by halves. */
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

/* The exponentials of `seen` scores less their maximum, in place; zeros up to the next whole vector. Returns their sum. */
INLINE float exponentials(float *scores, int64_t seen, float *maximum) {
    int64_t whole = rounded(seen);
    for (int64_t j = seen; j < whole; j++) scores[j] = -INFINITY;
    vec most = broadcast(-INFINITY), total = {};
    for (int64_t j = 0; j < whole; j += LANES) {
        vec x = load(scores + j);
        most = blend(x > most, x, most);
    }
    float top = *maximum = largest_of(most);
    for (int64_t j = 0; j < whole; j += LANES) {
        vec y = exponential(load(scores + j) - top);
        total += y;
        store(scores + j, y);
    }
    return sum_of(total);
}

/* The softmax of `seen` scores plus bias, in place; zeros up to the next whole vector. */
INLINE void softmax(float *scores, const float *bias, int64_t seen) {
    if (bias)
        for (int64_t j = 0; j < seen; j++) scores[j] += bias[j];
    float maximum, inverse = 1.0f / exponentials(scores, seen, &maximum);
    for (int64_t j = 0; j < rounded(seen); j += LANES) store(scores + j, load(scores + j) * inverse);
}

#endif
