#include "eval/run.h"
#include "eval/score.h"

#include <forja/generate.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>

fj_chat *fj_eval_chat(const fj_model *m, const fj_eval_opts *o, fj_err *e) {
    json_error_t je;
    json_t *kwargs = o->chat_kwargs ? json_loads(o->chat_kwargs, 0, &je) : NULL;
    if (o->chat_kwargs && !json_is_object(kwargs)) {
        fj_fail(
            e, FJ_EINVAL,
            "the variables of the chat template: expected a JSON object such as {\"enable_thinking\": false}, found %.80s",
            o->chat_kwargs);
        json_decref(kwargs);
        return NULL;
    }
    fj_chat *c = fj_chat_open(
        m->tok,
        &(fj_chat_opts){
            .how = o->chat, .model = &m->templates, .kwargs = kwargs, .now = o->chat_now },
        e);
    json_decref(kwargs);
    return c;
}

static bool collect(void *ctx, const char *bytes, size_t n) {
    fj_str_addn(ctx, bytes, n);
    return true;
}

static bool wants_answer(const fj_data_row *r) {
    return r->messages && (r->answer || r->n_contains || r->regex);
}

/* The ids up to the answer: a last assistant message is what we want to hear, not what we say. */
static bool prompt_of(const fj_data_row *r, const fj_chat *chat, const char *system, fj_ids *ids,
                      fj_err *e) {
    json_t *own = fj_row_conversation(r, system, true, NULL);
    fj_conv v = fj_row_conv(own);
    bool ok = fj_chat_render(chat, &v, true, ids, NULL, e);
    json_decref(own);
    return ok;
}

static const char *last_user(const fj_data_row *r) {
    for (int i = r->n_messages; i-- > 0;)
        if (!strcmp(r->messages[i].role, "user")) return r->messages[i].content;
    return "";
}

static bool one_answer(fj_session *s, const fj_data_row *row, const fj_ids *ids,
                       const fj_eval_opts *o, void (*answer)(void *ctx, const fj_eval_answer *a),
                       void *ctx, fj_eval_result *r, fj_err *e) {
    fj_sampling p = FJ_SAMPLING_DEFAULT;
    p.max_new_tokens = o->max_new_tokens;
    fj_str text = { 0 };
    fj_str_add(&text, "");
    bool ok = fj_generate(s, ids->p, (int64_t)ids->n, &p, collect, &text, NULL, NULL, e);
    fj_eval_answer a = { .prompt = last_user(row), .given = text.s, .wanted = row->answer };
    if (ok && row->answer) {
        r->exact.n++;
        r->exact.hit += a.exact = fj_score_exact(text.s, row->answer);
    }
    if (ok && row->n_contains) {
        r->contains.n++;
        r->contains.hit += a.contains = fj_score_contains(text.s, row->contains, row->n_contains);
    }
    if (ok && row->regex) {
        ok = fj_score_regex(text.s, row->regex, &a.regex, e);
        r->regex.n++;
        r->regex.hit += a.regex;
    }
    if (ok && answer) answer(ctx, &a);
    fj_str_free(&text);
    return ok;
}

bool fj_eval_answers(fj_model *m, const fj_lora *lora, const fj_dataset *d, const fj_chat *chat,
                     const fj_eval_opts *o, const fj_log *log,
                     void (*answer)(void *ctx, const fj_eval_answer *a), void *ctx,
                     fj_eval_result *r, fj_err *e) {
    int64_t asked = 0, done = 0, longest = 0;
    fj_ids ids = { 0 };
    char name[512];
    bool ok = true;
    for (size_t i = 0; ok && i < d->n; i++) {
        if (!wants_answer(&d->rows[i]) || (o->max_rows && asked >= o->max_rows)) continue;
        asked++;
        fj_ids_clear(&ids);
        ok = prompt_of(&d->rows[i], chat, o->system, &ids, e) ||
             fj_wrap(e, "%s", fj_row_name(d, &d->rows[i], name, sizeof name));
        longest = FJ_MAX(longest, (int64_t)ids.n);
    }
    int64_t context = FJ_MIN(m->hp.context, longest + o->max_new_tokens);
    fj_session *s = ok && asked ? fj_session_open(m, context, e) : NULL;
    ok = ok && (!asked || s);
    if (s) fj_session_adapter(s, lora);
    double t0 = fj_clock();
    for (size_t i = 0; ok && i < d->n && done < asked; i++) {
        const fj_data_row *row = &d->rows[i];
        if (!wants_answer(row)) continue;
        if (fj_log_stop(log)) {
            ok = fj_fail(e, FJ_ESTOP, "stopped");
            break;
        }
        fj_ids_clear(&ids);
        ok = prompt_of(row, chat, o->system, &ids, e);
        if (ok && (int64_t)ids.n > context) {
            r->too_long++; /* a prompt that fills the context has no answer */
        } else {
            ok = ok && (one_answer(s, row, &ids, o, answer, ctx, r, e) ||
                        fj_wrap(e, "%s", fj_row_name(d, row, name, sizeof name)));
        }
        done++;
        fj_log_progress(log, &(fj_progress){ .what = "answers",
                                             .done = done,
                                             .total = asked,
                                             .unit = "row",
                                             .loss = NAN,
                                             .eta_s = (fj_clock() - t0) * (double)(asked - done) /
                                                      (double)done });
    }
    fj_rate_finish(&r->exact);
    fj_rate_finish(&r->contains);
    fj_rate_finish(&r->regex);
    fj_session_close(s);
    fj_ids_free(&ids);
    return ok;
}

static bool load(fj_model *m, const char *const *paths, int n, const fj_eval_opts *o,
                 const fj_log *log, fj_dataset *d, fj_chat **chat, fj_err *e) {
    if (!(*chat = fj_eval_chat(m, o, e))) return false;
    if (!fj_dataset_load(d, paths, n, &(fj_dataset_opts){ .open_rows = true }, log, e)) {
        fj_chat_close(*chat);
        return false;
    }
    if (o->max_rows && (size_t)o->max_rows < d->n) d->n = (size_t)o->max_rows;
    return true;
}

static fj_samples_opts samples_opts(const fj_model *m, const fj_eval_opts *o, const fj_chat *chat) {
    int64_t max = o->max_length ? FJ_MIN(o->max_length, m->hp.context) : m->hp.context;
    return (fj_samples_opts){ .max_length = (int)max,
                              .truncation = FJ_TRUNC_DROP,
                              .skip_bad_rows = true,
                              .chat = chat,
                              .system_prompt = o->system };
}

/* Rows that only contains or regex judge have nothing to take a loss on. */
static bool any_loss(const fj_dataset *d) {
    for (size_t i = 0; i < d->n; i++) {
        const fj_data_row *r = &d->rows[i];
        if (r->text || r->answer ||
            (r->n_messages && !strcmp(r->messages[r->n_messages - 1].role, "assistant")))
            return true;
    }
    return false;
}

bool fj_eval_files(fj_model *m, const fj_lora *lora, const char *const *paths, int n_paths,
                   const fj_eval_opts *o, const fj_log *log,
                   void (*answer)(void *ctx, const fj_eval_answer *a), void *ctx, fj_eval_result *r,
                   fj_err *e) {
    fj_dataset d = { 0 };
    fj_samples s = { 0 };
    fj_chat *chat;
    *r = (fj_eval_result){ .loss = NAN, .loss_se = NAN, .perplexity = NAN };
    double t0 = fj_clock();
    if (!load(m, paths, n_paths, o, log, &d, &chat, e)) return false;
    fj_samples_opts so = samples_opts(m, o, chat);
    bool ok = true;
    if (any_loss(&d)) {
        fj_scorer sc = { .m = m, .lora = lora };
        ok = fj_samples_build(&s, &d, m->tok, &so, log, e) &&
             fj_eval_loss(&s, NULL, s.n, o->batch ? (int)o->batch : 4, so.max_length, fj_scorer_nll,
                          &sc, "eval", log, r, e);
        r->too_long = s.too_long;
        r->unlearned = s.no_target;
        fj_scorer_free(&sc);
        fj_samples_free(&s);
    }
    if (ok && o->max_new_tokens) ok = fj_eval_answers(m, lora, &d, chat, o, log, answer, ctx, r, e);
    r->seconds = fj_clock() - t0;
    fj_chat_close(chat);
    fj_dataset_free(&d);
    return ok;
}

bool fj_eval_forgetting(fj_model *base, fj_model *tuned, const fj_lora *lora,
                        const char *const *paths, int n_paths, const fj_eval_opts *o,
                        const fj_log *log, fj_forgetting *f, fj_err *e) {
    fj_dataset d = { 0 };
    fj_samples s = { 0 };
    fj_chat *chat;
    if (!load(base, paths, n_paths, o, log, &d, &chat, e)) return false;
    fj_samples_opts so = samples_opts(base, o, chat);
    bool ok = fj_samples_build(&s, &d, base->tok, &so, log, e) &&
              fj_eval_forgetting_on(base, tuned, lora, &s, log, f, e);
    fj_samples_free(&s);
    fj_chat_close(chat);
    fj_dataset_free(&d);
    return ok;
}

static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static void put_rate(json_t *o, const char *name, const fj_rate *r) {
    if (!r->n) return;
    json_object_set_new(o, name,
                        json_pack("{s:f, s:f, s:f, s:I, s:I}", "rate", r->rate, "low", r->low,
                                  "high", r->high, "hit", (json_int_t)r->hit, "n",
                                  (json_int_t)r->n));
}

char *fj_eval_json(const fj_eval_result *r) {
    json_t *o = json_pack("{s:I, s:I, s:I, s:I}", "rows", (json_int_t)r->rows, "tokens",
                          (json_int_t)r->tokens, "too_long", (json_int_t)r->too_long, "unlearned",
                          (json_int_t)r->unlearned);
    json_object_set_new(o, "loss", number(r->loss));
    json_object_set_new(o, "loss_se", number(r->loss_se));
    json_object_set_new(o, "perplexity", number(r->perplexity));
    put_rate(o, "exact", &r->exact);
    put_rate(o, "contains", &r->contains);
    put_rate(o, "regex", &r->regex);
    json_object_set_new(o, "seconds", number(r->seconds));
    char *s = json_dumps(o, JSON_PRESERVE_ORDER);
    json_decref(o);
    return s;
}
