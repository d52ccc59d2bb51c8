/* What the library was compiled from, and the memory layout of its structs. */

#include <stddef.h>

#include "kernels.h"

/* The digest of the sources, set by setup.py: a library built from other sources is not used. */
const char source[] = SOURCE_DIGEST;

/* The offset of each member of a struct and, last, the struct's size: compiled.py compares them with its own. */
struct member {
    const char *name;
    int64_t at;
};
#define AT(member) {#member, offsetof(struct TYPE, member)}
#define SIZE {NULL, sizeof(struct TYPE)}

#define TYPE call
const struct member layout_of_call[] = {
    AT(query), AT(key), AT(value), AT(gradient), AT(out), AT(d_query), AT(d_key), AT(d_value),
    AT(weights), AT(bias), AT(d_bias), AT(queries), AT(keys), AT(rows), AT(heads), AT(width), AT(side), AT(dropped),
    AT(seed), AT(word), AT(half), AT(causal), AT(query_row), AT(key_row), AT(value_row), SIZE,
};
#undef TYPE

#define TYPE causal
const struct member layout_of_causal[] = {
    AT(query), AT(key), AT(value), AT(gradient), AT(out), AT(d_query), AT(d_key), AT(d_value), AT(sums), AT(ends),
    AT(rows), AT(heads), AT(groups), AT(width), AT(window), AT(half), AT(query_row), AT(key_row), AT(value_row),
    AT(scale), SIZE,
};
#undef TYPE

#define TYPE step
const struct member layout_of_step[] = {
    AT(given), AT(keys), AT(values), AT(out), AT(bias), AT(counts), AT(heads), AT(width), AT(room),
    AT(side), AT(own), AT(half), SIZE,
};
#undef TYPE

#define TYPE shared_step
const struct member layout_of_shared_step[] = {
    AT(given), AT(keys), AT(values), AT(out), AT(counts), AT(heads), AT(groups), AT(width), AT(room), AT(window),
    AT(half), AT(scale), SIZE,
};
#undef TYPE

#define TYPE matrix
const struct member layout_of_matrix[] = {
    AT(parameter), AT(row_var), AT(col_var), AT(gradient), AT(rows), AT(columns), AT(weight),
    AT(least), AT(smallest), AT(rate), AT(decay), AT(most), SIZE,
};
