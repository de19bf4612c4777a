#include "cli/talk.h"
#include "base/cpus.h"
#include "base/fs.h"
#include "base/rng.h"
#include "eval/run.h"
#include <forja/generate.h>
#include <time.h>

struct fj_talk {
    fj_term *term;
    const fj_talk_opts *o;
    fj_dev *dev;
    fj_model *model;
    fj_lora *lora;
    fj_session *session;
    fj_chat *chat;
    json_t *turns; /* user, assistant, user, ... */
};

fj_dev *fj_open_device(const char *name, int64_t threads, bool f32, fj_err *e) {
    const char *isa = getenv("FORJA_ISA");
    return fj_dev_open(&(fj_dev_opts){ .threads = fj_cpus_at_most(threads),
                                       .isa = isa && *isa ? isa : NULL,
                                       .f32 = f32,
                                       .device = name ? name : "auto" },
                       e);
}

static bool open_session(fj_talk *t, fj_err *e) {
    enum { MOST = 8192 }; /* unless asked: the cache of a long context is taken at once */
    fj_model_info info;
    fj_model_about(t->model, &info);
    int64_t context = t->o->context;
    if (context > info.context)
        return fj_fail(e, FJ_EINVAL, "--context %lld is more than the %lld tokens of the model",
                       (long long)context, (long long)info.context);
    if (!context) context = FJ_MIN(info.context, MOST);
    t->session = fj_session_open(t->model, context, e);
    return t->session != NULL;
}

fj_talk *fj_talk_open(const char *model, const fj_talk_opts *o, fj_term *term, fj_err *e) {
    fj_talk *t = fj_zalloc(sizeof *t);
    t->term = term;
    t->o = o;
    t->turns = json_array();
    bool ok = (t->dev = fj_open_device(o->device, o->threads, o->f32, e)) &&
              (t->model = fj_model_open(t->dev, model, &(fj_model_opts){ .mapped = o->mapped },
                                        &term->log, e));
    if (ok) {
        fj_eval_opts how = { .chat = o->chat, .chat_kwargs = o->chat_kwargs };
        ok = (t->chat = fj_eval_chat(t->model, &how, e)) && open_session(t, e) &&
             (!o->adapter || fj_talk_adapter(t, o->adapter, e));
    }
    if (ok) return t;
    fj_talk_close(t);
    return NULL;
}

void fj_talk_close(fj_talk *t) {
    if (!t) return;
    json_decref(t->turns);
    fj_chat_close(t->chat);
    fj_session_close(t->session);
    fj_lora_close(t->lora);
    fj_model_close(t->model);
    fj_dev_close(t->dev);
    free(t);
}

void fj_talk_reset(fj_talk *t) {
    json_array_clear(t->turns);
    fj_session_reset(t->session);
}

bool fj_talk_adapter(fj_talk *t, const char *path, fj_err *e) {
    fj_lora *l = path ? fj_lora_open(t->model, path, e) : NULL;
    if (path && !l) return false;
    fj_session_adapter(t->session, l);
    fj_lora_close(t->lora);
    t->lora = l;
    fj_talk_reset(t);
    return true;
}

/* ---- one turn ----------------------------------------------------------------------------------- */

static void push(fj_talk *t, const char *role, const char *text, size_t n) {
    json_array_append_new(t->turns, fj_chat_message(role, text, n));
}

static bool render(fj_talk *t, const char *text, fj_ids *ids, fj_err *e) {
    const fj_tokenizer *tok = fj_model_tokenizer(t->model);
    const char *system = t->o->system;
    if (t->o->complete &&
        fj_chat_kind_of(t->chat) == FJ_CHAT_RAW) { /* text to go on with, as it stands */
        fj_str s = { 0 };
        if (system) fj_str_addf(&s, "%s\n", system);
        fj_str_addn(&s, text, strlen(text));
        bool ok = fj_tokenize(tok, s.s, s.n, FJ_TOK_BOS, ids, e);
        fj_str_free(&s);
        return ok;
    }
    json_t *all = json_array();
    if (system) json_array_append_new(all, fj_chat_message("system", system, strlen(system)));
    json_array_extend(all, t->turns);
    bool ok = fj_chat_render(t->chat, &(fj_conv){ .messages = all }, true, ids, NULL, e);
    json_decref(all);
    return ok;
}

typedef struct sink {
    void (*put)(void *ctx, const char *s, size_t n);
    void *ctx;
    fj_str *text;
} sink;

static bool on_text(void *ctx, const char *bytes, size_t n) {
    sink *s = ctx;
    fj_str_addn(s->text, bytes, n);
    s->put(s->ctx, bytes, n);
    return !fj_term_stopped() && !ferror(stdout);
}

static uint64_t fresh_seed(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return fj_rng_at((uint64_t)now.tv_nsec, (uint64_t)now.tv_sec);
}

static fj_sampling sampling(const fj_talk_opts *o) {
    return (fj_sampling){ .temperature = o->greedy ? 0 : o->temperature,
                          .top_k = (int)o->top_k,
                          .top_p = o->top_p,
                          .min_p = o->min_p,
                          .repetition_penalty = o->repetition_penalty,
                          .seed = o->seed < 0 ? fresh_seed() : (uint64_t)o->seed,
                          .max_new_tokens = o->max_new_tokens,
                          .stop = o->stop.v,
                          .n_stop = (int)o->stop.n };
}

bool fj_talk_say(fj_talk *t, const char *text, void (*put)(void *ctx, const char *s, size_t n),
                 void *ctx, fj_answer *a, fj_err *e) {
    fj_ids ids = { 0 };
    fj_generated g = { 0 };
    fj_sampling p = sampling(t->o);
    sink s = { put, ctx, &a->text };
    fj_str_addn(&a->text, "", 0);
    push(t, "user", text, strlen(text));
    bool ok = render(t, text, &ids, e) &&
              fj_generate(t->session, ids.p, (int64_t)ids.n, &p, on_text, &s, NULL, &g, e);
    fj_ids_free(&ids);
    if (!ok) {
        json_array_remove(t->turns, json_array_size(t->turns) - 1);
        return false;
    }
    push(t, "assistant", a->text.s, a->text.n);
    a->prompt_tokens = g.prompt;
    a->tokens = g.made;
    a->prompt_s = g.prefill_s;
    a->answer_s = g.decode_s;
    a->why = g.finish == FJ_FINISH_ASKED ? "stopped" : fj_finish_name(g.finish);
    return true;
}
