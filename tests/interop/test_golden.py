"""Golden values made anew with this run's seed, and the C programs of the golden ring run on them."""
import os
import subprocess

from peer import BUILD, ROOT, SEED, Folder, check, finish, generate, shared


def main():
    with Folder() as f:
        programs, scripts = ["test_rope"], ["tiny.py"]
        if shared("models/stories260K"):
            programs += ["test_logits", "test_lora", "test_full"]
            scripts += ["stories.py", "train.py"]
        if shared("models/templates"):
            programs.append("test_templates")
            scripts.append("templates.py")
        for script in scripts:
            generate(script, f())
        for name in programs:
            path = os.path.join(BUILD, name)
            if not check(os.path.exists(path), f"{path} is not built"):
                continue
            r = subprocess.run([path], cwd=ROOT, env=dict(os.environ, FORJA_GOLDEN=f()),
                               capture_output=True, text=True, timeout=600)
            if check(r.returncode == 0, f"{name} on seed {SEED}:\n{r.stdout[-2000:]}{r.stderr[-2000:]}"):
                print(f"  {name}: agrees on seed {SEED}")
    finish()


if __name__ == "__main__":
    main()
