"""llama.cpp by the low-level functions of llama-cpp-python: logits and greedy text of a GGUF file, adapters, and
its quantiser.

Everything in f32 that can be: keys and values in F32, no flash attention, no repacked weights.  Products with F32
weights are then f32 throughout; with other weights llama.cpp rounds the rows that it multiplies them with, so
exact comparisons are of F32 files.
"""
import contextlib
import ctypes
import os
import sys
import time

import llama_cpp as lc
import numpy as np

F32 = 0  # ggml_type
said = []


@lc.llama_log_callback
def listen(level, text, data):
    """What llama.cpp says is kept for the report of a failure and not printed."""
    said.append(text.decode(errors="replace"))


lc.llama_log_set(listen, ctypes.c_void_p(0))
lc.llama_backend_init()


class Refused(Exception):
    """llama.cpp does not take a file."""


def last_words():
    lines = "".join(said).splitlines()
    told = [line for line in lines if any(w in line for w in ("error", "fail", "invalid", "missing", "unknown"))]
    return " | ".join((told or lines)[-4:])


class Llama:
    """with Llama(path, adapter) as m: m.logits(ids), m.greedy(ids, n), m.ids(text), m.text(ids)"""

    def __init__(self, path, adapter=None, context=512):
        self.path, self.adapter, self.context = path, adapter, context

    def __enter__(self):
        said.clear()
        self.close = contextlib.ExitStack()
        try:
            return self.open()
        except BaseException:
            self.close.close()
            raise

    def open(self):
        p = lc.llama_model_default_params()
        p.use_extra_bufts = False
        p.check_tensors = True
        self.model = lc.llama_model_load_from_file(os.fsencode(self.path), p)
        if not self.model:
            raise Refused(f"{self.path}: {last_words()}")
        self.close.callback(lc.llama_model_free, self.model)
        self.vocab = lc.llama_model_get_vocab(self.model)
        self.n_vocab = lc.llama_vocab_n_tokens(self.vocab)
        c = lc.llama_context_default_params()
        c.n_ctx = c.n_batch = c.n_ubatch = self.context
        c.n_threads = c.n_threads_batch = 1  # small models: a second thread would mostly wait
        c.flash_attn_type = 0
        c.type_k = c.type_v = F32
        c.no_perf = True
        self.ctx = lc.llama_init_from_model(self.model, c)
        if not self.ctx:
            raise Refused(f"{self.path}: no context: {last_words()}")
        self.close.callback(lc.llama_free, self.ctx)
        if self.adapter:
            lora = lc.llama_adapter_lora_init(self.model, os.fsencode(self.adapter))  # the model frees it
            if not lora:
                raise Refused(f"{self.adapter}: {last_words()}")
            one = (lc.llama_adapter_lora_p_ctypes * 1)(lora)
            if lc.llama_set_adapters_lora(self.ctx, one, 1, (ctypes.c_float * 1)(1.0)):
                raise Refused(f"{self.adapter}: not set: {last_words()}")
        return self

    def __exit__(self, *what):
        self.close.close()

    def run(self, ids, first, wanted):
        """The ids at positions first...; logits [wanted, vocab] of the last ones."""
        b = lc.llama_batch_init(len(ids), 0, 1)
        try:
            b.n_tokens = len(ids)
            for i, t in enumerate(ids):
                b.token[i], b.pos[i], b.n_seq_id[i], b.seq_id[i][0] = int(t), first + i, 1, 0
                b.logits[i] = i >= len(ids) - wanted
            if lc.llama_decode(self.ctx, b):
                raise Refused(f"{self.path}: decoding failed: {last_words()}")
            rows = [np.ctypeslib.as_array(lc.llama_get_logits_ith(self.ctx, i), (self.n_vocab,)).copy()
                    for i in range(len(ids) - wanted, len(ids))]
            return np.array(rows, np.float32)
        finally:
            lc.llama_batch_free(b)

    def forget(self):
        lc.llama_memory_clear(lc.llama_get_memory(self.ctx), True)

    def logits(self, ids):
        self.forget()
        return self.run(ids, 0, len(ids))

    def greedy(self, ids, n):
        """n ids at most, up to an end of text; and how far the second token was away, at the nearest."""
        self.forget()
        out, gap, at = [], float("inf"), 0
        step = list(ids)
        for _ in range(n):
            row = self.run(step, at, 1)[0]
            at += len(step)
            second, first = np.sort(row)[-2:]
            gap = min(gap, float(first - second))
            t = int(row.argmax())
            if lc.llama_vocab_is_eog(self.vocab, t):
                break
            out.append(t)
            step = [t]
        return out, gap

    def ids(self, text, special=True):
        raw = text.encode()
        out = (lc.llama_token * (len(raw) + 8))()
        n = lc.llama_tokenize(self.vocab, raw, len(raw), out, len(out), special, True)
        return list(out[:n])

    def text(self, ids):
        buf = ctypes.create_string_buffer(64 * len(ids) + 64)
        n = lc.llama_detokenize(self.vocab, (lc.llama_token * len(ids))(*ids), len(ids), buf, len(buf), False, True)
        return buf.raw[:n].decode(errors="replace")


def quantize(src, dst, ftype, threads=2, imatrix=None, **more):
    """llama.cpp's quantiser; ftype: "Q4_K_M".  imatrix: {tensor: values}.  Returns what it said."""
    said.clear()
    p = lc.llama_model_quantize_default_params()
    p.nthread, p.ftype, p.allow_requantize = threads, FTYPE[ftype], True
    for name, value in more.items():
        setattr(p, name, value)
    if imatrix:
        rows = (lc.llama_model_imatrix_data * (len(imatrix) + 1))()
        for i, (name, v) in enumerate(imatrix.items()):
            rows[i].name, rows[i].size = name.encode(), v.size
            rows[i].data = v.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        p.imatrix = rows
    if lc.llama_model_quantize(os.fsencode(src), os.fsencode(dst), ctypes.byref(p)):
        raise Refused(f"{src} to {ftype}: {last_words()}")
    return "".join(said)


# llama_ftype of llama.h
FTYPE = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_S": 11,
         "Q3_K_M": 12, "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18,
         "IQ2_XXS": 19, "IQ2_XS": 20, "Q2_K_S": 21, "IQ3_XS": 22, "IQ3_XXS": 23, "IQ1_S": 24, "IQ4_NL": 25,
         "IQ3_S": 26, "IQ3_M": 27, "IQ2_S": 28, "IQ2_M": 29, "IQ4_XS": 30, "IQ1_M": 31, "BF16": 32, "TQ1_0": 36,
         "TQ2_0": 37, "MXFP4_MOE": 38}

if __name__ == "__main__":  # llama_peer.py IN OUT TYPE [THREADS]: quantise, and print the seconds (bench/export.sh)
    begin = time.perf_counter()
    quantize(*sys.argv[1:4], threads=int(sys.argv[4]) if len(sys.argv) > 4 else 2)
    print(f"{time.perf_counter() - begin:.2f}")
