#include "cli/dress.h"

#include "cli/open_tok.h"
#include "models/templates.h"

static fj_tokenizer *bytes_alone(fj_err *e) {
    static const char *const special[] = { "<|endoftext|>", "<|im_start|>", "<|im_end|>" };
    return fj_bpe_train(
        NULL, 0,
        &(fj_bpe_opts){ .vocab = 256 + 3, .n_special = 3, .special = special, .eos = special[0] },
        e);
}

static bool noon(const char *date, double *now, fj_err *e) {
    return fj_chat_day(date, now) ||
           fj_fail(e, FJ_EINVAL, "--date wants a day such as 2026-01-31, not \"%.20s\"", date);
}

static json_t *variables(const char *kwargs, fj_err *e) {
    json_error_t je;
    json_t *o = json_loads(kwargs, JSON_REJECT_DUPLICATES, &je);
    if (json_is_object(o)) return o;
    json_decref(o);
    fj_fail(e, FJ_EINVAL,
            "--template-kwargs wants a JSON object such as {\"enable_thinking\": false}, not %.80s",
            kwargs);
    return NULL;
}

bool fj_dress_open(fj_dress *d, const char *model, const char *how, const char *kwargs,
                   const char *date, fj_err *e) {
    fj_templates own = { 0 };
    fj_chat_opts o = { .how = how, .model = &own };
    json_t *vars = NULL;
    *d = (fj_dress){ .bytes = !model };
    bool ok = (d->tok = model ? fj_open_tokenizer(model, e) : bytes_alone(e)) &&
              (!model || fj_templates_open(&own, model, e)) && (!date || noon(date, &o.now, e)) &&
              (!kwargs || (vars = variables(kwargs, e)));
    o.kwargs = vars;
    ok = ok && (d->chat = fj_chat_open(d->tok, &o, e));
    json_decref(vars);
    fj_templates_free(&own);
    if (!ok) fj_dress_close(d);
    return ok;
}

void fj_dress_close(fj_dress *d) {
    fj_chat_close(d->chat);
    fj_tokenizer_free(d->tok);
    *d = (fj_dress){ 0 };
}
