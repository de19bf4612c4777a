/* verify_show.c - a verification as JSON and as lines for a terminal. */
#include "lifecycle/verify.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

/* ---- JSON ----------------------------------------------------------------------------------------- */
static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static void put_int(json_t *o, const char *key, int64_t x) {
    json_object_set_new(o, key, json_integer((json_int_t)x));
}

/* Paths are bytes, and sentences are cut at a byte; JSON is UTF-8. */
static json_t *string(const char *s) {
    if (!s || !*s) return json_null();
    json_t *j = json_string(s);
    if (j) return j;
    char *ascii = fj_strdup(s);
    for (char *p = ascii; *p; p++)
        if (*p & 0x80) *p = '?';
    j = json_string(ascii);
    free(ascii);
    return j;
}

static json_t *side(const fj_verify_about *a) {
    json_t *o = json_object();
    json_object_set_new(o, "model", string(a->model));
    json_object_set_new(o, "model_sha256", string(a->model_hash));
    json_object_set_new(o, "adapter", string(a->adapter));
    json_object_set_new(o, "adapter_sha256", string(a->adapter_hash));
    json_object_set_new(o, "chat", string(a->chat));
    json_object_set_new(o, "formats", string(a->formats));
    put_int(o, "vocabulary", a->vocab);
    return o;
}

static json_t *numbers(const fj_verify_numbers *n) {
    json_t *o = json_object();
    put_int(o, "positions", n->positions);
    put_int(o, "learned", n->learned);
    json_object_set_new(o, "kl_mean", number(n->kl_mean));
    json_object_set_new(o, "kl_max", number(n->kl_max));
    put_int(o, "kl_max_row", n->worst_row);
    put_int(o, "kl_max_position", n->worst_at);
    json_object_set_new(o, "logp_mean", number(n->logp_mean));
    json_object_set_new(o, "logp_max", number(n->logp_max));
    put_int(o, "agree", n->agree);
    json_object_set_new(o, "agreement", number((double)n->agree / (double)n->positions));
    if (n->base_positions) {
        put_int(o, "base_positions", n->base_positions);
        json_object_set_new(o, "kl_base_mean", number(n->base_kl));
        json_object_set_new(o, "kl_base_trained_mean", number(n->near_kl));
    }
    json_object_set_new(o, "perplexity_trained", number(n->trained_perplexity));
    json_object_set_new(o, "perplexity_exported", number(n->exported_perplexity));
    return o;
}

json_t *fj_verified_json(const fj_verified *v) {
    json_t *o = json_object();
    json_object_set_new(o, "passed", json_boolean(v->passed));
    json_object_set_new(o, "lost", json_string(fj_lost_names[v->lost]));
    json_object_set_new(o, "why", string(v->why));
    json_object_set_new(o, "kind", string(v->kind));
    json_object_set_new(o, "max_kl", number(v->max_kl));
    json_object_set_new(o, "trained", side(&v->trained));
    json_object_set_new(o, "exported", side(&v->exported));
    json_object_set_new(o, "data", string(v->data));
    json_object_set_new(o, "data_sha256", string(v->data_hash));
    json_object_set_new(o, "own_texts", json_boolean(v->own_texts));
    put_int(o, "rows", v->rows);
    put_int(o, "refused", v->refused);
    put_int(o, "texts", v->texts);
    put_int(o, "text_equal", v->text_equal);
    put_int(o, "ids_equal", v->ids_equal);
    put_int(o, "tokens", v->tokens);
    put_int(o, "tokens_other", v->tokens_other);
    json_object_set_new(o, "text_differs", string(v->text_differs));
    json_object_set_new(o, "ids_differ", string(v->ids_differ));
    json_object_set_new(o, "numbers", v->compared ? numbers(&v->n) : json_null());
    if (v->has_merged) {
        json_object_set_new(o, "merged", side(&v->merged));
        json_object_set_new(o, "merged_numbers", numbers(&v->m));
    }
    json_object_set_new(o, "seconds", number(v->seconds));
    return o;
}

/* ---- lines ---------------------------------------------------------------------------------------- */
static void line(fj_str *s, const char *name, const char *fmt, ...) FJ_PRINTF(3, 4);
static void line(fj_str *s, const char *name, const char *fmt, ...) {
    char value[1400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(value, sizeof value, fmt, ap);
    va_end(ap);
    fj_str_addf(s, "%-18s ", name);
    for (char *p = value; *p; p++) fj_str_addc(s, (unsigned char)*p < 32 || *p == 127 ? '?' : *p);
    fj_str_addc(s, '\n');
}

static void put_side(fj_str *s, const char *name, const fj_verify_about *a) {
    line(s, name, "%s%s%s  (%s)", a->model, a->adapter ? " with " : "",
         a->adapter ? a->adapter : "", a->formats);
}

static void put_numbers(fj_str *s, const fj_verified *v) {
    const fj_verify_numbers *n = &v->n;
    double all = (double)n->positions, ratio = n->exported_perplexity / n->trained_perplexity;
    line(s, "positions", "%lld, %lld of them learned", (long long)n->positions,
         (long long)n->learned);
    line(s, "KL", "mean %.3g nats (limit %.3g%s%s), largest %.3g in row %lld at %lld", n->kl_mean,
         v->max_kl, v->kind ? ", " : "", v->kind ? v->kind : "", n->kl_max, (long long)n->worst_row,
         (long long)n->worst_at);
    if (n->base_positions)
        line(s, "adapter",
             "mean KL from the base without it %.3g nats, from the trained model %.3g", n->base_kl,
             n->near_kl);
    line(s, "|log p difference|", "mean %.3g nats, largest %.3g", n->logp_mean, n->logp_max);
    line(s, "same first choice", "%lld of %lld (%.2f %%)", (long long)n->agree,
         (long long)n->positions, 100 * (double)n->agree / all);
    if (n->learned)
        line(s, "perplexity", "%.5g trained, %.5g exported (%+.3f %%)", n->trained_perplexity,
             n->exported_perplexity, 100 * (ratio - 1));
    if (v->has_merged)
        line(s, "before quantising", "mean KL %.3g, largest %.3g, same first choice %.2f %%",
             v->m.kl_mean, v->m.kl_max, 100 * (double)v->m.agree / (double)v->m.positions);
}

void fj_verified_text(const fj_verified *v, fj_str *s) {
    put_side(s, "trained", &v->trained);
    put_side(s, "exported", &v->exported);
    line(s, "rows", "%lld of %s", (long long)v->rows, v->data);
    if (v->texts)
        line(s, "rendered text", "%lld of %lld conversations equal (trained: %s; exported: %s)",
             (long long)v->text_equal, (long long)v->texts, v->trained.chat, v->exported.chat);
    if (v->refused)
        line(s, "refused", "%lld conversations, by the trained model's template",
             (long long)v->refused);
    line(s, "token ids", "%lld of %lld rows equal", (long long)v->ids_equal, (long long)v->rows);
    line(s, "vocabulary", "%lld of %lld tokens equal", (long long)(v->tokens - v->tokens_other),
         (long long)v->tokens);
    if (v->compared) put_numbers(s, v);
    if (*v->text_differs) line(s, "first other text", "%s", v->text_differs);
    if (*v->ids_differ) line(s, "first other ids", "%s", v->ids_differ);
    if (v->passed) line(s, "verdict", "passed in %.1f s", v->seconds);
    else line(s, "verdict", "lost by: %s. %s", fj_lost_names[v->lost], v->why);
}
