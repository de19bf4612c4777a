"""The types of every mix are those of the llama.cpp that is installed: it is asked again for the table that
tests/unit/test_mix.c compares with, on files with headers of real models and no data.
"""
import os

from peer import ROOT, Folder, check, finish, generate


def main():
    try:
        import llama_cpp  # noqa: F401
    except ImportError as e:
        print(f"SKIP test_mix: no llama.cpp ({e})")
        return
    with Folder() as f:
        generate("mixes.py", f())
        with open(f("mixes.txt")) as a, open(os.path.join(ROOT, "tests", "golden", "mixes.txt")) as b:
            now, then = a.read().splitlines(), b.read().splitlines()
        check(len(now) > 1000, f"only {len(now)} lines")
        moved = [f"line {i + 1}: {x}, not {y}" for i, (x, y) in enumerate(zip(now, then)) if x != y]
        check(not moved and len(now) == len(then),
              f"llama.cpp quantises otherwise ({len(moved)} lines, {len(now)} and {len(then)}): {moved[:3]}")
    finish()


if __name__ == "__main__":
    main()
