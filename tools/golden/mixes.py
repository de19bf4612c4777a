"""Types that llama.cpp's quantiser gives the tensors of models of real shapes, mix by mix.

The quantiser runs dry over files that have headers and no data (they are sparse), and says what it would do.
Needs llama_cpp (the package llama-cpp-python) beside gguf.
"""
import argparse
import ctypes
import itertools
import os
import re
import tempfile

import gguf

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "golden")
MIXES = {"Q2_K_S": 21, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12, "Q3_K_L": 13, "IQ4_XS": 30, "MXFP4_MOE": 38,
         "IQ4_NL": 25, "Q4_0": 2, "Q4_K_S": 14, "Q4_K_M": 15, "Q4_1": 3, "Q5_0": 8, "Q5_K_S": 16, "Q5_K_M": 17,
         "Q5_1": 9, "Q6_K": 18, "Q8_0": 7, "F16": 1, "BF16": 32, "F32": 0}


class Model:
    def __init__(self, arch, layers, width, heads, kv, head_dim, ffn, vocab, tied, experts=0, fused=False,
                 plain=False, keys=()):
        self.arch, self.layers, self.heads, self.kv, self.experts, self.tied = arch, layers, heads, kv, experts, tied
        q, k = heads * head_dim, kv * head_dim
        t = self.tensors = {}  # name -> (rows, cols, matrices)
        t["token_embd.weight"] = (vocab, width, 1)
        if plain:
            t["position_embd.weight"] = (1024, width, 1)
        t["output_norm.weight"] = (1, width, 1)
        if not tied:
            t["output.weight"] = (vocab, width, 1)
        t["blk.%d.attn_norm.weight"] = (1, width, 1)
        if fused or plain:
            t["blk.%d.attn_qkv.weight"] = (q + 2 * k, width, 1)
        else:
            t["blk.%d.attn_q.weight"], t["blk.%d.attn_q.bias"] = (q, width, 1), (1, q, 1)
            t["blk.%d.attn_k.weight"], t["blk.%d.attn_v.weight"] = (k, width, 1), (k, width, 1)
        t["blk.%d.attn_output.weight"] = (width, q, 1)
        if experts:
            t["blk.%d.ffn_gate_inp.weight"] = (experts, width, 1)
            for n in "gate", "up":
                t[f"blk.%d.ffn_{n}_exps.weight"], t[f"blk.%d.ffn_{n}_exps.bias"] = (ffn, width, experts), (experts, ffn, 1)
            t["blk.%d.ffn_down_exps.weight"] = (width, ffn, experts)
        else:
            if not fused and not plain:
                t["blk.%d.ffn_gate.weight"] = (ffn, width, 1)
            t["blk.%d.ffn_up.weight"] = (2 * ffn if fused else ffn, width, 1)
            t["blk.%d.ffn_down.weight"] = (width, ffn, 1)
        self.keys = {"block_count": layers, "context_length": 4096, "embedding_length": width,
                     "feed_forward_length": ffn, "attention.head_count": heads, "attention.head_count_kv": kv,
                     "attention.key_length": head_dim, "attention.value_length": head_dim,
                     "attention.layer_norm_rms_epsilon": 1e-5, "vocab_size": vocab, **dict(keys)}
        if experts:
            self.keys |= {"expert_count": experts, "expert_used_count": 2, "expert_feed_forward_length": ffn}

    def names(self):
        for name, shape in self.tensors.items():
            for layer in range(self.layers) if "%d" in name else [None]:
                yield name, name if layer is None else name % layer, shape


MODELS = {
    "llama-3.2-1b": Model("llama", 16, 2048, 32, 8, 64, 8192, 128256, True),
    "llama-3.1-8b": Model("llama", 32, 4096, 32, 8, 128, 14336, 128256, False),
    "llama-3.1-70b": Model("llama", 80, 8192, 64, 8, 128, 28672, 128256, False),
    "llama-2-7b": Model("llama", 32, 4096, 32, 32, 128, 11008, 32000, False),
    "qwen2.5-0.5b": Model("qwen2", 24, 896, 14, 2, 64, 4864, 151936, True),
    "qwen2.5-72b": Model("qwen2", 80, 8192, 64, 8, 128, 29568, 152064, False),
    "mixtral-8x7b": Model("llama", 32, 4096, 32, 8, 128, 14336, 32000, False, 8),
    "qwen3-30b-a3b": Model("qwen3moe", 48, 2048, 32, 4, 128, 768, 151936, False, 128),
    "gemma-2-2b": Model("gemma2", 26, 2304, 8, 4, 256, 9216, 256000, True, keys={"attention.sliding_window": 4096}),
    "phi-3-mini": Model("phi3", 32, 3072, 32, 32, 96, 8192, 32064, False, fused=True),
    "gpt-oss-20b": Model("gpt-oss", 24, 2880, 64, 8, 64, 2880, 201088, False, 32, keys={"attention.sliding_window": 128}),
    "gpt2": Model("gpt2", 12, 768, 12, 12, 64, 3072, 50257, True, plain=True, keys={"attention.layer_norm_epsilon": 1e-5}),
    "odd-rows": Model("llama", 5, 96, 4, 1, 24, 200, 512, False),
}


def is_matrix(name, shape):
    return shape[0] > 1 and name.endswith(".weight") and "gate_inp" not in name and not name.startswith("position")


def empty_file(path, m):
    """A GGUF of m whose tensors are holes: matrices in F16, the others in F32, as converters write them."""
    w = gguf.GGUFWriter(path, m.arch)
    for key, v in m.keys.items():
        (w.add_float32 if isinstance(v, float) else w.add_uint32)(f"{m.arch}.{key}", v)
    size = 0
    for name, real, (rows, cols, mats) in m.names():
        kind = gguf.GGMLQuantizationType.F16 if is_matrix(name, (rows, cols, mats)) else gguf.GGMLQuantizationType.F32
        shape = (mats, rows, cols) if mats > 1 else (rows, cols) if rows > 1 else (cols,)
        n = mats * rows * cols * (2 if kind == gguf.GGMLQuantizationType.F16 else 4)
        w.add_tensor_info(real, shape, None, n, kind)
        size += (n + 31) // 32 * 32
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    at = (w.fout[0].tell() + 31) // 32 * 32
    w.close()
    os.truncate(path, at + size)


def types(lib, path, file_type, imatrix):
    """tensor -> type, by the log of a dry run."""
    said = []
    log = lib.llama_log_callback(lambda level, text, data: said.append(text.decode("utf-8", "replace")))
    lib.llama_log_set(log, None)
    p = lib.llama_model_quantize_default_params()
    p.ftype, p.nthread, p.dry_run = file_type, 1, True
    one = (ctypes.c_float * 1)(1)
    entries = (lib.llama_model_imatrix_data * 2)((b"blk.0.none.weight", one, 1), (None, None, 0))
    if imatrix:
        p.imatrix = entries
    code = lib.llama_model_quantize(path.encode(), (path + ".out").encode(), ctypes.byref(p))
    text = "".join(said)
    if code:
        raise SystemExit(f"{path}: the quantiser says {code}: {text[-2000:]}")
    line = r"\[ *\d+/ *\d+\] (\S+) +- \[[^\]]*\], type = +(\w+), size = +[\d.]+ MiB(?: -> +[\d.]+ MiB \((\w+)\))?\n"
    return {name: (new or old).upper() for name, old, new in re.findall(line, text)}


def report(m, got, base):
    """Lines "TYPE*LAYERS,TYPE*LAYERS,... TENSOR TENSOR ..." of the tensors whose types are not those of base."""
    lines = {}
    for name in m.tensors:
        row = [got[real] for n, real, _ in m.names() if n == name]
        if base and row == [base[real] for n, real, _ in m.names() if n == name]:
            continue
        runs = ",".join(f"{t}*{len(list(g))}" for t, g in itertools.groupby(row))
        lines.setdefault(runs, []).append(name)
    return [f"{runs} {' '.join(names)}" for runs, names in lines.items()]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", default=OUT)
    ap.add_argument("--seed", type=int, default=0, help="of no use here: nothing is drawn")
    args = ap.parse_args()
    import llama_cpp as lib
    lines = []
    for title, m in MODELS.items():
        lines += [f"model {title} {m.arch} {m.layers} {m.heads} {m.kv} {m.experts} {int(m.tied)}"]
        lines += [f"tensor {name} {r} {c} {x}" for name, (r, c, x) in m.tensors.items()]
        with tempfile.TemporaryDirectory() as dir:
            path = os.path.join(dir, "m.gguf")
            empty_file(path, m)
            for mix, number in MIXES.items():
                plain = types(lib, path, number, False)
                lines += [f"mix {mix} {number}", *report(m, plain, None)]
                with_data = report(m, types(lib, path, number, True), plain)
                if with_data:
                    lines += [f"imatrix {mix} {number}", *with_data]
    os.makedirs(args.out, exist_ok=True)
    with open(os.path.join(args.out, "mixes.txt"), "w") as f:
        f.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
