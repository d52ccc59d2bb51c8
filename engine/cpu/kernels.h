/* The library's functions; compiled.py, which calls it, describes every argument and repeats the structs.
 *
 * The `pieces` of a function's work are divided into `parts`, one for each of torch's threads. Functions that return an
 * int return 0, or -1 if memory runs out. */

#ifndef KERNELS_H
#define KERNELS_H

#include <stdint.h>

/* Attention over rows laid end to end. Values are (tokens, heads × width), bf16 if `half`, else fp32; `weights` have
 * the same type, (heads, queries, keys) of each row, the rows end to end. Their random bits are laid out in the same way
 * from `word` on, with a new word for the keys of each query. `bias` and its gradient are (heads, side, side). */
struct call {
    const void *query, *key, *value, *gradient;
    void *out, *d_query, *d_key, *d_value, *weights;
    const float *bias;
    float *d_bias;
    const int64_t *queries, *keys; /* offset at which each row begins, and at which the last one ends */
    int64_t rows, heads, width, side, dropped, seed, word, half, causal;
    int64_t query_row, key_row, value_row; /* stride from a token's values to those of the next */
};

int attend(const struct call *call, int64_t pieces, int64_t parts);
int attend_backward(const struct call *call, int64_t pieces, int64_t parts);

/* Causal attention over rows laid end to end. A token's queries are (heads × width), its keys and values (groups ×
 * width), at a stride each from one token to the next; `gradient` and `out` are (tokens, heads × width). `sums` are the
 * logarithms of the softmax's sums, (tokens, heads). A query sees its own key and those before it, `window` in all,
 * or as many as there are if that is 0. Gradients lie as what they are gradients of. */
struct causal {
    const void *query, *key, *value, *gradient;
    void *out, *d_query, *d_key, *d_value;
    float *sums;
    const int64_t *ends; /* offset at which each row begins, and at which the last one ends */
    int64_t rows, heads, groups, width, window, half, query_row, key_row, value_row;
    double scale; /* of the scores */
};

int causal(const struct causal *call, int64_t pieces, int64_t parts);
int causal_backward(const struct causal *call, int64_t pieces, int64_t parts);

void rotate(void *values, const float *angles, int64_t heads, int64_t width, int64_t turned, int64_t stride,
            int64_t back, int64_t half, int64_t pieces, int64_t parts);
void swiglu(const void *both, void *out, int64_t width, int64_t half, int64_t pieces, int64_t parts);
void swiglu_backward(void *both, void *gradient, int64_t width, int64_t half, int64_t pieces, int64_t parts);

/* Attention of one query of each row, while a reply is generated. Values are bf16 if `half`, else fp32. `given` has a
 * query for each row, followed, if the keys and values are its `own`, by those of its token, each (heads × width).
 * `keys` and `values` are (rows, room, heads × width), of which a row sees the first `counts`; `bias` is
 * (heads, side). */
struct step {
    const void *given;
    void *keys, *values, *out;
    const float *bias;
    const int64_t *counts;
    int64_t heads, width, room, side, own, half;
};

/* The same where `heads` of queries share `groups` of keys: a row's query, key and value lie side by side in `given`,
 * and the last two are first stored as the last of its `counts`; `keys` and `values` are (rows, groups, room, width), and
 * `out` is (rows, heads × width). */
struct shared_step {
    const void *given;
    void *keys, *values, *out;
    const int64_t *counts;
    int64_t heads, groups, width, room, window, half;
    double scale; /* of the scores */
};

int shared_step(const struct shared_step *step, int64_t pieces, int64_t parts);
int attend_step(const struct step *step, int64_t pieces, int64_t parts);
void largest(const void *logits, int64_t *found, int64_t size, int64_t half, int64_t pieces, int64_t parts);

void normed(const float *x, const void *scale, void *plain, void *scaled, float *inverse, int64_t width,
            float epsilon, int64_t half, int64_t pieces, int64_t parts);
void normed_backward(const void *gradient, const void *plain, const float *inverse, const float *scale,
                     const float *bypass, float *d_x, float *d_scale, int64_t width, int64_t tokens, int64_t block,
                     int64_t half, int64_t pieces, int64_t parts);
void residual(const float *x, const void *y, float *out, float factor, int64_t dropped, int64_t seed, int64_t word,
              int64_t width, int64_t half, int64_t pieces, int64_t parts);
void kept(const float *x, void *out, float factor, int64_t dropped, int64_t seed, int64_t word, int64_t width,
          int64_t half, int64_t pieces, int64_t parts);
void relu_dropped(void *hidden, int64_t dropped, int64_t seed, int64_t word, int64_t width, int64_t half,
                  int64_t pieces, int64_t parts);

/* -2 if a label is not the number of a logit. */
int losses(void *logits, const int64_t *labels, float *found, int64_t size, int64_t gradient, int64_t half,
           int64_t pieces, int64_t parts);

/* A trained matrix, and its scalars for Adafactor. */
struct matrix {
    float *parameter, *row_var, *col_var;
    const float *gradient;
    int64_t rows, columns;
    double weight, least, smallest, rate, decay, most;
};

void add(float *to, const void *from, int64_t pieces, int64_t parts);
void squares(const float *x, double *found, int64_t size, int64_t block, int64_t pieces, int64_t parts);
int adafactor(const struct matrix *matrices, int64_t *left, int64_t pieces, int64_t parts);

#endif
