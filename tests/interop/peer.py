"""What the interop tests share: calling forja, the seed, a folder that goes away, comparing."""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
FORJA = os.environ.get("FORJA", os.path.join(ROOT, "build", "forja"))
BUILD = os.path.dirname(FORJA)
SHARED = os.environ.get("FORJA_SHARED", os.path.join(ROOT, "..", "shared"))
SEED = int(os.environ.get("INTEROP_SEED", "1"))
TOLERANCE = 1e-4
failures = []


def shared(rel):
    """A path in the shared data, or None with the reason printed."""
    path = os.path.join(SHARED, rel)
    if os.path.exists(path):
        return path
    print(f"SKIP interop: no {path} (FORJA_SHARED names another place)", flush=True)
    return None


def rng(name):
    """A generator of its own for each purpose, so that one test does not move another."""
    return random.Random(f"{SEED} {name}")


class Folder:
    """with Folder() as f: f("x") is a path inside; removed at the end, kept after a failure."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="forja-interop-")
        return lambda name="": os.path.join(self.path, name) if name else self.path

    def __exit__(self, kind, value, trace):
        if kind or failures:
            print(f"files kept in {self.path}")
        else:
            shutil.rmtree(self.path, ignore_errors=True)


def forja(*args, data=None, home=None, limit=300):
    """stdout of a command that must end with 0; its registry goes to home."""
    env = dict(os.environ)
    if home:
        env.update(XDG_DATA_HOME=home, HOME=home)
    r = subprocess.run([FORJA, *map(str, args)], input=data, capture_output=True, timeout=limit, env=env)
    if r.returncode:
        raise SystemExit(f"forja {' '.join(map(str, args))}: exit code {r.returncode}\n"
                         f"{r.stderr.decode(errors='replace')[-3000:]}")
    return r.stdout


def generate(script, out):
    """Runs a generator of tools/golden with this run's seed."""
    r = subprocess.run([sys.executable, os.path.join(ROOT, "tools", "golden", script), "--seed", str(SEED),
                        "--out", out], capture_output=True, text=True)
    if r.returncode:
        raise SystemExit(f"{script} --seed {SEED}: exit code {r.returncode}\n{r.stderr[-3000:]}")


def check(good, what):
    if not good:
        failures.append(what)
        print("  DIFFERS:", what[:2000], flush=True)
    return good


def near(ours, theirs, what, tolerance=TOLERANCE):
    """Largest absolute difference within tolerance; NaN fails."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if not check(a.shape == b.shape, f"{what}: shape {a.shape}, not {b.shape}"):
        return
    off = float(np.abs(a - b).max()) if a.size else 0.0
    if check(off <= tolerance, f"{what}: off by {off:.3g}, allowed {tolerance:g}"):
        print(f"  {what}: within {off:.2g}", flush=True)


def finish():
    print(json.dumps({"seed": SEED, "failures": len(failures)}))
    sys.exit(1 if failures else 0)
