/* A recipe from anyone, a last line that begins with "!" as an override: what is read prints, and the
 * print reads back as the same. */
#include "train/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const char *text = (const char *)data;
    char *over = NULL;
    for (size_t i = 0; i + 1 < n && !over; i++)
        if (text[i] == '\n' && text[i + 1] == '!') {
            over = fj_strndup(text + i + 2, n - i - 2);
            n = i;
        }
    const char *list[1] = { over };
    fj_recipe a, b;
    fj_err e = { 0 };
    if (!fj_recipe_parse(&a, text, n, "fuzz.yaml", "/fuzz", list, over ? 1 : 0, &e)) {
        FJ_ASSERT(e.code != FJ_OK && e.msg[0]);
        free(over);
        return 0;
    }
    char *once = fj_recipe_print(&a);
    if (!fj_recipe_parse(&b, once, strlen(once), "again.yaml", "/elsewhere", NULL, 0, &e))
        fj_assert_failed(e.msg, once, 0);
    FJ_ASSERT(!fj_recipe_differs(&a, &b));
    char *twice = fj_recipe_print(&b);
    FJ_ASSERT(!strcmp(once, twice));
    fj_err gate = { 0 };
    FJ_ASSERT(fj_recipe_gate(&a, &gate) || gate.code == FJ_EGATE);
    free(once);
    free(twice);
    free(over);
    fj_recipe_free(&a);
    fj_recipe_free(&b);
    return 0;
}
