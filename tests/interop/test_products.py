"""Products of rows with quantised weights: how far from f64, beside ggml's kernels on the same blocks and rows.

Blocks are made by ggml's quantisers, so that both have the same; f64 has the values of the blocks (package gguf) and the
rows as they are.  What differs from it is the rounding of rows to 8 bits and the order of sums.  Ratios of root mean
squares over all outputs of a kind of rows; above 1 forja would be worse.

The libraries are those of llama-cpp-python, or in the folder that FORJA_GGML_LIBS names (libggml-base.so,
libggml-cpu.so).
"""
import ctypes
import importlib.util
import os
import subprocess
import sys

import gguf
import numpy as np

from peer import BUILD, SEED, Folder, check, finish

TYPES = ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4")
PROGRAM = os.path.join(BUILD, "forja-bench-products")
OUT, ROWS, COLS = 256, 64, 1024
# Both have the same rows and blocks: what is left to chance is where sums of f32 are rounded, and halves of rows.
NOISE = 0.003


class Params(ctypes.Structure):
    _fields_ = [("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


class Ggml:
    """mul_mat of ggml's CPU backend, as llama.cpp calls it."""

    def __init__(self, folder):
        self.base = ctypes.CDLL(os.path.join(folder, "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
        self.cpu = ctypes.CDLL(os.path.join(folder, "libggml-cpu.so"))
        p, i64 = ctypes.c_void_p, ctypes.c_int64
        for lib, name, result, args in (
                (self.base, "ggml_init", p, [Params]), (self.base, "ggml_free", None, [p]),
                (self.base, "ggml_new_tensor_2d", p, [p, ctypes.c_int, i64, i64]),
                (self.base, "ggml_mul_mat", p, [p, p, p]), (self.base, "ggml_get_data", p, [p]),
                (self.base, "ggml_new_graph", p, [p]), (self.base, "ggml_build_forward_expand", None, [p, p]),
                (self.base, "ggml_quantize_chunk", ctypes.c_size_t, [ctypes.c_int, p, p, i64, i64, i64, p]),
                (self.cpu, "ggml_cpu_init", None, []),
                (self.cpu, "ggml_graph_compute_with_ctx", ctypes.c_int, [p, p, ctypes.c_int])):
            f = getattr(lib, name)
            f.restype, f.argtypes = result, args
        self.cpu.ggml_cpu_init()

    def quantize(self, kind, w):
        block, size = gguf.GGML_QUANT_SIZES[kind]
        out = np.zeros(w.size // block * size, np.uint8)
        self.base.ggml_quantize_chunk(kind.value, w.ctypes.data, out.ctypes.data, 0, *w.shape, None)
        return out

    def product(self, kind, raw, x):
        """x [m, k] times the rows of raw: [m, n]"""
        b, n = self.base, raw.size // (x.shape[1] // gguf.GGML_QUANT_SIZES[kind][0] * gguf.GGML_QUANT_SIZES[kind][1])
        ctx = b.ggml_init(Params(raw.nbytes + 4 * x.nbytes + 16 * n * len(x) + (64 << 20), None, False))
        try:
            w = b.ggml_new_tensor_2d(ctx, kind.value, x.shape[1], n)
            r = b.ggml_new_tensor_2d(ctx, 0, x.shape[1], len(x))
            ctypes.memmove(b.ggml_get_data(w), raw.ctypes.data, raw.nbytes)
            ctypes.memmove(b.ggml_get_data(r), x.ctypes.data, x.nbytes)
            y = b.ggml_mul_mat(ctx, w, r)
            g = b.ggml_new_graph(ctx)
            b.ggml_build_forward_expand(g, y)
            if self.cpu.ggml_graph_compute_with_ctx(ctx, g, 1):
                raise SystemExit("ggml_graph_compute_with_ctx failed")
            return np.ctypeslib.as_array(ctypes.cast(b.ggml_get_data(y), ctypes.POINTER(ctypes.c_float)),
                                         (len(x), n)).copy()
        finally:
            b.ggml_free(ctx)


def libraries():
    folder = os.environ.get("FORJA_GGML_LIBS")
    if not folder:
        spec = importlib.util.find_spec("llama_cpp")
        folder = os.path.join(os.path.dirname(spec.origin), "lib") if spec else ""
    try:
        return Ggml(folder)
    except (OSError, AttributeError) as e:
        print(f"SKIP interop: no kernels of llama.cpp to compare with ({e}): "
              "pip install llama-cpp-python, or FORJA_GGML_LIBS=FOLDER")
        return None


def program():
    if not os.path.exists(PROGRAM):
        subprocess.run(["cmake", "--build", BUILD, "--target", "forja-bench-products"], stdout=subprocess.DEVNULL)
    if os.path.exists(PROGRAM):
        return True
    print(f"SKIP interop: no {PROGRAM} (cmake --build build --target forja-bench-products)")
    return False


def rows(rng):
    """Kinds of rows that matrices meet."""
    n = rng.standard_normal((ROWS, COLS))
    loud = np.where(rng.random(COLS) < 0.004, 40, 1)  # columns that are large in every row
    gate, up = rng.standard_normal((2, ROWS, COLS))
    some = {
        "normal": n, "heavy tails": rng.standard_t(3, (ROWS, COLS)), "outliers": n * loud,
        "SwiGLU": gate / (1 + np.exp(-gate)) * up * np.exp(0.5 * rng.standard_normal(COLS)),
        "sparse": np.where(rng.random((ROWS, COLS)) < 0.8, 0, n), "offset": n + 3,
    }
    return {k: np.ascontiguousarray(v, np.float32) for k, v in some.items()}


def ours(f, name, raw, x):
    raw.tofile(f("w"))
    x.tofile(f("x"))
    r = subprocess.run([PROGRAM, name, str(x.shape[1]), f("w"), f("x"), f("y")], capture_output=True, text=True)
    if r.returncode:
        raise SystemExit(f"{PROGRAM} {name}: {r.stderr}")
    return np.fromfile(f("y"), np.float32).reshape(len(x), -1)


def rms(y, exact):
    return float(np.sqrt(np.mean((y.astype(np.float64) - exact) ** 2)))


def main():
    ggml = libraries()
    if not ggml or not program():
        return
    rng = np.random.default_rng(SEED)
    kinds = rows(rng)
    w = np.ascontiguousarray(rng.standard_normal((OUT, COLS)) * 0.02 * np.exp(0.3 * rng.standard_normal((OUT, 1))), np.float32)
    print(f"  root mean square from f64, of forja and of ggml, and the ratio ({OUT} x {COLS} weights, {ROWS} rows)")
    print("          " + "".join(f"{k:>25s}" for k in kinds))
    with Folder() as f:
        for name in TYPES:
            kind = gguf.GGMLQuantizationType[name]
            raw = ggml.quantize(kind, w)
            values = gguf.quants.dequantize(raw.reshape(OUT, -1), kind).astype(np.float64)
            cells = []
            for what, x in kinds.items():
                exact = x.astype(np.float64) @ values.T
                a, b = rms(ours(f, name, raw, x), exact), rms(ggml.product(kind, raw, x), exact)
                check(a <= b * (1 + NOISE), f"{name}, {what}: {a:.4g} from f64, ggml {b:.4g} ({a / b:.4f})")
                cells.append(f"{a:10.3g}{b:9.3g} {a / b:.3f}")
            print(f"  {name:7s} " + " ".join(cells), flush=True)
        # A row that is rounded more coarsely has to show: the test can fail.
        raw, x = ggml.quantize(gguf.GGMLQuantizationType.Q8_0, w), kinds["outliers"]
        exact = x.astype(np.float64) @ gguf.quants.dequantize(raw.reshape(OUT, -1), gguf.GGMLQuantizationType.Q8_0).T
        step = np.abs(x.reshape(ROWS, -1, 256)).max(2, keepdims=True) / 127
        coarse = (np.round(x.reshape(ROWS, -1, 256) / step) * step).reshape(x.shape).astype(np.float32)
        a, b = (rms(ggml.product(gguf.GGMLQuantizationType.Q8_0, raw, v), exact) for v in (coarse, x))
        check(a > b * (1 + NOISE), f"rows rounded once per 256 values are not told from rows rounded per 32: {a:.4g}, {b:.4g}")
    finish()


if __name__ == "__main__":
    sys.exit(main())
