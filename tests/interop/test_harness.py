"""The comparisons must be able to fail: planted differences are seen, equal things are not."""
import sys

import numpy as np

import peer


def seen(compare):
    before = len(peer.failures)
    compare()
    found = len(peer.failures) > before
    del peer.failures[before:]
    return found


def main():
    a = np.ones((2, 3))
    planted = {
        "a value": lambda: peer.near(a, a + 2e-4, "planted"), "a NaN": lambda: peer.near(a * np.nan, a, "planted"),
        "a shape": lambda: peer.near(a, a.T, "planted"), "a check": lambda: peer.check(False, "planted"),
    }
    missed = [what for what, compare in planted.items() if not seen(compare)]
    wrong = [1 for compare in (lambda: peer.near(a, a + 1e-6, "equal"), lambda: peer.check(True, "equal")) if seen(compare)]
    try:
        peer.forja("no-such-command")
        missed.append("an exit code")
    except SystemExit:
        pass
    print("  planted differences are seen" if not missed and not wrong else f"not seen: {missed}, seen wrongly: {len(wrong)}")
    sys.exit(1 if missed or wrong else 0)


if __name__ == "__main__":
    main()
