/* recipe_keys.h - inside train/: the table of recipe keys, for reading (recipe.c) and writing
 * (recipe_print.c). */
#ifndef FJ_TRAIN_RECIPE_KEYS_H
#define FJ_TRAIN_RECIPE_KEYS_H

#include "train/recipe.h"

typedef enum fj_key_type {
    FJ_KEY_STR,
    FJ_KEY_PATH,
    FJ_KEY_PATHS,
    FJ_KEY_STRS,
    FJ_KEY_INTS,
    FJ_KEY_TABLE, /* names with numbers */
    FJ_KEY_INT,
    FJ_KEY_FLOAT,
    FJ_KEY_BOOL,
    FJ_KEY_CHOICE,
    FJ_KEY_SIZE /* bytes in an int64_t */
} fj_key_type;

enum {
    FJ_KEY_FREE = 1, /* changes no number (device: by rounding): may differ when a run is resumed */
    FJ_KEY_JSON = 2, /* STR: a table in YAML is kept as JSON text */
};

typedef struct fj_key {
    const char *name;
    fj_key_type type;
    size_t offset; /* in fj_recipe */
    double low, high;
    const char *def; /* in YAML; NULL: unset, or worked out from other keys */
    const char *const *choices;
    unsigned flags;
    const char *aka; /* names that people know from elsewhere, for "did you mean" */
    const char *help;
} fj_key;

extern const fj_key fj_recipe_keys[];
extern const int fj_recipe_n_keys;

/* The key that `name` was meant to be, or NULL: a name from elsewhere, or the least number of changed
 * letters (Levenshtein) when that is at most a third of the name. */
const char *fj_key_near(const char *name);
/* "a whole number from 1 to 4096" */
void fj_key_wants(const fj_key *k, char *buf, size_t n);

#endif
