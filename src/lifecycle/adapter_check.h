/* adapter_check.h - an adapter that would be exported as nothing, or onto other weights than its own, is
 * refused.  What fj_lora_open refuses before: a module that the model does not have (an adapter that matches
 * nothing is one), matrices of another shape, another architecture, no matrices at all.  One thread at a time
 * for each device. */
#ifndef FJ_LIFECYCLE_ADAPTER_CHECK_H
#define FJ_LIFECYCLE_ADAPTER_CHECK_H

#include "models/model.h"

/* Refuses (FJ_EINVAL) an adapter that changes nothing: in every rank of every pair A, B or the scale is zero,
 * as it is before its first step; and one with a value that is not finite, by its matrix.  name: for
 * messages. */
bool fj_adapter_has_effect(const fj_lora *l, const char *name, fj_err *e);

/* SHA-256 of the base that the adapter at path (a folder, or a GGUF file) was trained on: base_sha256 of the
 * manifest.json of its run, which is in its folder or one or two above.  false: there is none; hex is "". */
bool fj_adapter_base_hash(const char *path, char hex[65]);
/* The same of base_stamp, fj_model_stamp of the base when the run began. */
bool fj_adapter_base_stamp(const char *path, char hex[65]);

/* Refuses (FJ_EINVAL) a base that is not the one that the adapter at path was trained on, by that hash.
 * base_hash: fj_model_hash of l's model where it is known; NULL: found here, if there is something to compare
 * it with.  Where no run says the hash, a base_model_name_or_path whose last part is another name is said
 * in the log: names are free, so that is no error. */
bool fj_adapter_has_base(const fj_lora *l, const char *path, const char *base_hash,
                         const fj_log *log, fj_err *e);

#endif
