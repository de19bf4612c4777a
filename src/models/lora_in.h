/* lora_in.h - between lora.c and lora_new.c. */
#ifndef FJ_MODELS_LORA_IN_H
#define FJ_MODELS_LORA_IN_H

#include "models/model.h"

/* Its path without ".weight": "model.layers.3.self_attn.q_proj". */
char *fj_lora_path(const fj_weight *w, fj_arena *a);

/* An adapter without pairs; pairs, in the order of weights; then the names that the files give them. */
fj_lora *fj_lora_empty(fj_model *m, int r, double alpha, double dropout, bool rslora);
void fj_lora_add_pair(fj_lora *l, int w, int64_t r, double scale);
void fj_lora_name_targets(fj_lora *l);

#endif
