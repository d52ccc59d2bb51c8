/* Functions for generating replies: attention of one query per row, and the most likely token. */

#include "kernels.h"
#include "simd.h"

/* Goes through the tokens in order, and through the heads of each, so that the processor can predict its reads. */
INLINE void seen_by(int half, const struct step *step, int64_t row, float *q, float *out, float *scores) {
    int64_t width = step->width, wide = rounded(width), heads = step->heads, inner = heads * width;
    int64_t count = step->counts[row], first = row * step->room * inner, most = rounded(step->room);
    for (int64_t head = 0; head < heads; head++)
        for (int64_t j = 0; j < width; j += LANES) {
            int64_t at = row * inner * (step->own ? 3 : 1) + head * width + j;
            store(q + head * wide + j, read_some(step->given, at, width - j, half));
            store(out + head * wide + j, (vec){});
        }
    for (int64_t i = 0; i < count; i++)
        for (int64_t head = 0; head < heads; head++) {
            vec total = {};
            for (int64_t j = 0; j < width; j += LANES) {
                vec key = read_some(step->keys, first + i * inner + head * width + j, width - j, half);
                total += load(q + head * wide + j) * key;
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
                store(to, load(to) + scores[head * most + i] * value);
            }
    for (int64_t head = 0; head < heads; head++)
        for (int64_t j = 0; j < width; j += LANES)
            write_some(step->out, row * inner + head * width + j, width - j, load(out + head * wide + j), half);
}

/* Attention of the query of each of some rows; its own key and value, the last that it sees, are stored with the others
 * first; -1 if memory runs out. */
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

/* Queries of one token that share keys, at most SHARING of them at once, so that each key and value is read for all. */

#define SHARING 4
#define ACROSS (LANES / 4) /* vectors of values whose sums fit in registers */

INLINE void scores_of(int half, int64_t heads, const void *keys, int64_t from, int64_t seen, int64_t width, const float *q,
                      int64_t wide, float *scores, int64_t room) {
    int64_t whole = width / LANES * LANES;
    for (int64_t i = 0; i < seen; i++, from += width) {
        vec totals[SHARING] = {};
        for (int64_t j = 0; j < whole; j += LANES) {
            vec key = read_some(keys, from + j, LANES, half);
            for (int64_t head = 0; head < heads; head++) totals[head] += load(q + head * wide + j) * key;
        }
        if (whole < width) {
            vec key = read_some(keys, from + whole, width - whole, half);
            for (int64_t head = 0; head < heads; head++) totals[head] += load(q + head * wide + whole) * key;
        }
        for (int64_t head = 0; head < heads; head++) scores[head * room + i] = sum_of(totals[head]);
    }
}

/* `across` vectors of the sums of values, each times its score, of which the last has `count` values. */
INLINE void summed(int half, int64_t heads, int64_t across, int64_t count, const void *values, int64_t from, int64_t seen,
                   int64_t width, const float *scores, int64_t room, void *out, int64_t to) {
    vec totals[SHARING][ACROSS] = {};
    for (int64_t i = 0; i < seen; i++, from += width)
        for (int64_t j = 0; j < across; j++) {
            vec value = read_some(values, from + j * LANES, count, half);
            for (int64_t head = 0; head < heads; head++) totals[head][j] += scores[head * room + i] * value;
        }
    for (int64_t head = 0; head < heads; head++)
        for (int64_t j = 0; j < across; j++) write_some(out, to + head * width + j * LANES, count, totals[head][j], half);
}

/* Attention over the last `window` of a row's first `counts` tokens, or over all, of `heads` from head `first` of the row. */
INLINE void seen_by_some(int half, int64_t heads, const struct shared_step *step, int64_t row, int64_t first, float *scores) {
    int64_t width = step->width, wide = rounded(width), room = rounded(step->room);
    int64_t count = step->counts[row], past = step->window && count > step->window ? count - step->window : 0;
    int64_t group = first / (step->heads / step->groups), seen = count - past;
    int64_t from = ((row * step->groups + group) * step->room + past) * width, to = (row * step->heads + first) * width;
    float *q = scores + SHARING * room, scale = (float)step->scale;
    for (int64_t head = 0; head < heads; head++)
        for (int64_t j = 0; j < width; j += LANES) {
            int64_t at = (row * (step->heads + 2 * step->groups) + first + head) * width + j;
            store(q + head * wide + j, read_some(step->given, at, width - j, half) * scale);
        }
    scores_of(half, heads, step->keys, from, seen, width, q, wide, scores, room);
    for (int64_t head = 0; head < heads; head++) softmax(scores + head * room, NULL, seen);
    int64_t j = 0;
    for (; j + ACROSS * LANES <= width; j += ACROSS * LANES)
        summed(half, heads, ACROSS, LANES, step->values, from + j, seen, width, scores, room, step->out, to + j);
    for (; j + LANES <= width; j += LANES)
        summed(half, heads, 1, LANES, step->values, from + j, seen, width, scores, room, step->out, to + j);
    if (j < width)
        summed(half, heads, 1, width - j, step->values, from + j, seen, width, scores, room, step->out, to + j);
}

INLINE void seen_in_group(int half, const struct shared_step *step, int64_t row, int64_t group, float *scratch) {
    int64_t shared = step->heads / step->groups, first = group * shared, end = first + shared;
    for (; first + 4 <= end; first += 4) seen_by_some(half, 4, step, row, first, scratch);
    if (end - first == 3) seen_by_some(half, 3, step, row, first, scratch);
    if (end - first == 2) seen_by_some(half, 2, step, row, first, scratch);
    if (end - first == 1) seen_by_some(half, 1, step, row, first, scratch);
}

static int shared_step_part(const struct shared_step *step, int64_t first, int64_t last) {
    size_t floats = (size_t)(SHARING * (rounded(step->room) + rounded(step->width)));
    float *scratch = aligned_alloc(sizeof(vec), floats * sizeof(float));
    if (!scratch) return -1;
    size_t size = (size_t)(step->width * (step->half ? 2 : 4));
    for (int64_t piece = first; piece < last; piece++) {
        int64_t row = piece / step->groups, group = piece % step->groups;
        int64_t own = row * (step->heads + 2 * step->groups) + step->heads + group;
        size_t at = (size_t)(piece * step->room + step->counts[row] - 1) * size;
        memcpy((char *)step->keys + at, (const char *)step->given + (size_t)own * size, size);
        memcpy((char *)step->values + at, (const char *)step->given + (size_t)(own + step->groups) * size, size);
        if (step->half) seen_in_group(1, step, row, group, scratch);
        else seen_in_group(0, step, row, group, scratch);
    }
    free(scratch);
    return 0;
}

/* Attention of the query of each of some rows. */
int shared_step(const struct shared_step *step, int64_t pieces, int64_t parts) {
    RETURN_FAILURE_OF(shared_step_part(step, FIRST, LAST));
}

INLINE int64_t largest_at(int half, const void *logits, int64_t row, int64_t size) {
    vec most = broadcast(-INFINITY);
    for (int64_t j = 0; j < size; j += LANES) {
        vec x = read_or(logits, row + j, size - j, half, -INFINITY);
        most = blend(x > most, x, most);
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

/* The index of the first of the greatest logits of each of some tokens. */
void largest(const void *logits, int64_t *found, int64_t size, int64_t half, int64_t pieces, int64_t parts) {
    EACH_PART {
        int64_t first = FIRST, last = LAST;
        for (int64_t token = first; token < last; token++)
            found[token] = half ? largest_at(1, logits, token * size, size) : largest_at(0, logits, token * size, size);
    }
}
