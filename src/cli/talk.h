/* talk.h - a model that answers: what run and chat have in common. */
#ifndef FJ_CLI_TALK_H
#define FJ_CLI_TALK_H

#include "cli/opt.h"
#include "cli/term.h"
#include <forja/model.h>

typedef struct fj_talk_opts { /* fields of talk.def */
    const char *adapter, *system, *device;
    const char *chat, *chat_kwargs; /* as in forja/eval.h */
    int64_t max_new_tokens, top_k, seed, context, threads;
    double temperature, top_p, min_p, repetition_penalty;
    bool greedy, f32, mapped;
    bool complete; /* not an option: raw text is continued as it stands (run) */
    fj_list stop;
} fj_talk_opts;
#define FJ_TALK_DEFAULTS                                                                           \
    {                                                                                              \
        .max_new_tokens = 256, .top_k = 40, .seed = -1, .temperature = 0.8, .top_p = 0.95,         \
        .min_p = 0.05, .repetition_penalty = 1                                                     \
    }

typedef struct fj_talk fj_talk;

/* The row of --device, whose field is a const char *. */
#define FJ_DEVICE_ROW(place, default_text)                                                         \
    {                                                                                              \
        .name = "device", .kind = FJ_OPT_STR, .at = (place), .value = "NAME",                      \
        .help = "compute on it: auto, cpu, cuda, or cuda:N for GPU N", .unset = (default_text)     \
    }
#define FJ_DEVICE_AUTO "auto: the first GPU that can be used, else the CPU"
/* fj_dev_open of what --device said (NULL: auto) with FORJA_ISA of the environment. */
fj_dev *fj_open_device(const char *name, int64_t threads, bool f32, fj_err *e);

/* Opens device, model, adapter and session.  o is borrowed and may change between calls of say, but
 * for device, threads, f32 and context. */
fj_talk *fj_talk_open(const char *model, const fj_talk_opts *o, fj_term *term, fj_err *e);
void fj_talk_close(fj_talk *t); /* NULL is fine */

/* NULL: none.  The old one stays on failure.  The conversation begins again: its keys and values were
 * computed with the other weights. */
bool fj_talk_adapter(fj_talk *t, const char *path, fj_err *e);
void fj_talk_reset(fj_talk *t);

typedef struct fj_answer {
    int64_t prompt_tokens, tokens; /* prompt: of the whole conversation; of the answer */
    double prompt_s, answer_s;
    const char *why; /* "eos", "stop", "length", "context", "stopped" */
    fj_str text;     /* of the answer; the caller frees it */
} fj_answer;
/* Adds a user's turn (or raw text) and generates.  Text is handed to put as it becomes certain, on
 * this thread.  A stopped answer is no error: why says it. */
bool fj_talk_say(fj_talk *t, const char *text, void (*put)(void *ctx, const char *s, size_t n),
                 void *ctx, fj_answer *a, fj_err *e);

#endif
