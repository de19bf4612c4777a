"""The quantisers against those of llama.cpp (ggml_quantize_chunk), on random and real tensors, with and without
importance: root mean square of what is lost, weighed by the importance, never more than theirs; and nanoseconds a
value. Both are read by the package gguf.

The library is that of llama-cpp-python, or the file that FORJA_GGML names (libggml-base.so).
"""
import ctypes
import importlib.util
import os
import subprocess
import sys
import time

import gguf
import numpy as np

from peer import BUILD, SEED, Folder, check, finish, shared

TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4")
PROGRAM = os.path.join(BUILD, "forja-bench-quant")
ROWS, COLS = 48, 1024


def library():
    path = os.environ.get("FORJA_GGML")
    if not path:
        spec = importlib.util.find_spec("llama_cpp")
        folder = os.path.join(os.path.dirname(spec.origin), "lib") if spec else ""
        path = os.path.join(folder, "libggml-base.so")
    try:
        ggml = ctypes.CDLL(path)
        ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    except (OSError, AttributeError) as e:
        print(f"SKIP interop: no quantiser of llama.cpp to compare with ({e}): "
              "pip install llama-cpp-python, or FORJA_GGML=libggml-base.so")
        return None
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
                                         ctypes.c_int64, ctypes.c_void_p]
    return ggml


def program():
    if not os.path.exists(PROGRAM):
        subprocess.run(["cmake", "--build", BUILD, "--target", "forja-bench-quant"], stdout=subprocess.DEVNULL)
    if os.path.exists(PROGRAM):
        return True
    print(f"SKIP interop: no {PROGRAM} (cmake --build build --target forja-bench-quant)")
    return False


def random_tensors(rng):
    """Kinds of distributions; what is constant is a thing of its own."""
    n, u = rng.standard_normal((ROWS, COLS)), rng.random((ROWS, COLS))
    some = {
        "normal": n, "uniform": 2 * u - 1, "long tails": rng.standard_t(1.5, (ROWS, COLS)), "laplace": rng.laplace(size=(ROWS, COLS)),
        "outliers": np.where(u < 0.003, 30 * n, n), "sparse": np.where(u < 0.7, 0, n), "positive": u, "offset": 5 + 0.3 * n,
        "columns of any size": n * np.exp(rng.standard_normal(COLS)), "small": 1e-3 * n, "few values": np.round(3 * n),
        "constant": np.full((ROWS, COLS), rng.standard_normal()),
        "constants": np.repeat(rng.standard_normal((ROWS, COLS // 256)), 256, 1),
    }
    return {k: np.ascontiguousarray(v, np.float32) for k, v in some.items()}


def real_tensors():
    """Matrices of stories260K, as rows of 256 values where theirs are shorter."""
    path = shared("models/stories260K/stories260K.gguf")
    if not path:
        return {}
    out = {}
    for t in gguf.GGUFReader(path).tensors:
        v = np.asarray(t.data, np.float32).reshape(-1)
        if len(t.shape) == 2 and v.size >= 4096:
            out[t.name] = np.ascontiguousarray(v[:v.size // 256 * 256].reshape(-1, 256)[:64])
    return out


def lost(kind, raw, x, w):
    with np.errstate(all="ignore"):
        y = gguf.quants.dequantize(raw.reshape(x.shape[0], -1), kind)
    return float(np.sqrt(np.mean(w * (x.astype(np.float64) - y) ** 2)))


def theirs(ggml, kind, x, w):
    out = np.zeros(x.size // gguf.GGML_QUANT_SIZES[kind][0] * gguf.GGML_QUANT_SIZES[kind][1], np.uint8)
    best = 1e9
    for _ in range(2):
        start = time.perf_counter()
        ggml.ggml_quantize_chunk(kind.value, x.ctypes.data, out.ctypes.data, 0, *x.shape, None if w is None else w.ctypes.data)
        best = min(best, time.perf_counter() - start)
    return out, best / x.size * 1e9


def ours(f, kind, x, w):
    x.tofile(f("x"))
    if w is not None:
        w.tofile(f("w"))
    r = subprocess.run([PROGRAM, kind.name, str(x.shape[1]), f("x"), "-" if w is None else f("w"), f("q")],
                       capture_output=True, text=True)
    if r.returncode:
        raise SystemExit(f"{PROGRAM} {kind.name}: {r.stderr}")
    return np.fromfile(f("q"), np.uint8), float(r.stdout)


def main():
    ggml = library()
    if not ggml or not program():
        return
    rng = np.random.default_rng(SEED)
    tensors = {**random_tensors(rng), **real_tensors()}
    with Folder() as f:
        for name in TYPES:
            kind = gguf.GGMLQuantizationType[name]
            ratios, speed = [], {}
            for what, x in tensors.items():
                importance = rng.gamma(0.5, 1, x.shape[1]).astype(np.float32) + np.float32(1e-3)
                for w in (None, importance):
                    a, t = ours(f, kind, x, w)
                    b, s = theirs(ggml, kind, x, w)
                    weights = 1 if w is None else w.astype(np.float64)
                    p, q = lost(kind, a, x, weights), lost(kind, b, x, weights)
                    ratio = p / q if q else (1 if not p else np.inf)
                    label = what + (", with importance" if w is not None else "")
                    check(ratio <= 1 + 1e-6, f"{name}, {label}: {p:.6g} is lost, by llama.cpp {q:.6g} ({ratio:.4f})")
                    ratios.append((ratio, label))
                    if what == "normal":
                        speed[w is not None] = (ratio, t, s)
            worst = max(ratios)
            print(f"  {name:7s} normal {speed[False][0]:.4f} / {speed[True][0]:.4f} with importance, worst {worst[0]:.4f} "
                  f"({worst[1]}); {speed[False][1]:.1f} / {speed[True][1]:.1f} ns a value, llama.cpp "
                  f"{speed[False][2]:.1f} / {speed[True][2]:.1f}", flush=True)
    finish()


if __name__ == "__main__":
    sys.exit(main())
