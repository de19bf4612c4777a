"""Quantised folders made with this run's seed by bitsandbytes, compressed-tensors and transformers' own layouts:
their values bit for bit (the C program of the golden ring), and the logits of `forja eval`."""
import importlib.util
import os
import subprocess

from safetensors.numpy import load_file

from peer import BUILD, ROOT, SEED, Folder, check, finish, forja, generate, near


def main():
    for package in ("bitsandbytes", "compressed_tensors"):
        if importlib.util.find_spec(package) is None:
            print(f"SKIP interop: no package {package}", flush=True)
            return
    with Folder() as f:
        generate("hfquant.py", f())
        program = os.path.join(BUILD, "test_hfquant_values")
        if check(os.path.exists(program), f"{program} is not built"):
            r = subprocess.run([program], cwd=ROOT, env=dict(os.environ, FORJA_GOLDEN=f()), capture_output=True,
                               text=True, timeout=600)
            if check(r.returncode == 0, f"test_hfquant_values on seed {SEED}:\n{r.stdout[-2000:]}{r.stderr[-2000:]}"):
                print(f"  test_hfquant_values: agrees on seed {SEED}")
        cases = sorted(name[:-len(".safetensors")] for name in os.listdir(f("hfquant")) if name.endswith(".safetensors"))
        check(len(cases) >= 18, f"only {cases}")
        for name in cases:
            golden = load_file(f(f"hfquant/{name}.safetensors"))
            forja("eval", f(f"hfquant/{name}"), "--f32", "--dump-logits", f("logits"), "--tokens",
                  " ".join(map(str, golden["ids"])), home=f())
            near(load_file(f("logits"))["logits.0"], golden["logits"], name)
    finish()


if __name__ == "__main__":
    main()
