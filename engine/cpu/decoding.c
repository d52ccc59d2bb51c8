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

/* Queries of one token that share keys: attention over the last `window` of its row's first `counts`, or over all. */
INLINE void seen_in_row(int half, const struct shared_step *step, int64_t row, int64_t group, float *scores, float *out) {
    int64_t width = step->width, wide = rounded(width), shared = step->heads / step->groups, room = rounded(step->room);
    int64_t count = step->counts[row], past = step->window && count > step->window ? count - step->window : 0;
    int64_t cache = (row * step->groups + group) * step->room * width, seen = count - past;
    int64_t query = row * step->query_row + group * shared * width, to = (row * step->heads + group * shared) * width;
    float scale = (float)step->scale;
    for (int64_t i = 0; i < seen; i++)
        for (int64_t head = 0; head < shared; head++) {
            vec total = {};
            for (int64_t j = 0; j < width; j += LANES)
                total += read_some(step->query, query + head * width + j, width - j, half) *
                         read_some(step->keys, cache + (past + i) * width + j, width - j, half);
            scores[head * room + i] = sum_of(total) * scale;
        }
    for (int64_t head = 0; head < shared; head++) softmax(scores + head * room, NULL, seen);
    memset(out, 0, (size_t)(shared * wide) * sizeof(float));
    for (int64_t i = 0; i < seen; i++)
        for (int64_t j = 0; j < width; j += LANES) {
            vec value = read_some(step->values, cache + (past + i) * width + j, width - j, half);
            for (int64_t head = 0; head < shared; head++) {
                float *at = out + head * wide + j;
                store(at, load(at) + scores[head * room + i] * value);
            }
        }
    for (int64_t head = 0; head < shared; head++)
        for (int64_t j = 0; j < width; j += LANES)
            write_some(step->out, to + head * width + j, width - j, load(out + head * wide + j), half);
}

static int shared_step_part(const struct shared_step *step, int64_t first, int64_t last) {
    int64_t shared = step->heads / step->groups, of_scores = shared * rounded(step->room);
    float *scratch = aligned_alloc(sizeof(vec), (size_t)(of_scores + shared * rounded(step->width)) * sizeof(float));
    if (!scratch) return -1;
    for (int64_t piece = first; piece < last; piece++) {
        int64_t row = piece / step->groups, group = piece % step->groups;
        if (step->half) seen_in_row(1, step, row, group, scratch, scratch + of_scores);
        else seen_in_row(0, step, row, group, scratch, scratch + of_scores);
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
