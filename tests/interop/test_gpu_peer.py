"""gpu_peer.py and `forja bench` measure the same thing: parameters, tokens and FLOPs of each row agree."""
import json
import os
import subprocess
import sys

import peer


def theirs(*more):
    r = subprocess.run([sys.executable, "-W", "ignore", os.path.join(peer.HERE, "gpu_peer.py"), "--device", "cpu",
                        "--shape", "tiny", "--batch", "2", "--length", "24", "--warmups", "1", "--steps", "1", *more],
                       capture_output=True, timeout=300)
    if r.returncode:
        raise SystemExit(f"gpu_peer.py {' '.join(more)}: {r.stderr.decode(errors='replace')[-2000:]}")
    return json.loads(r.stdout)


def ours(*more):
    return json.loads(peer.forja("bench", "--device", "cpu", "--shape", "tiny", "--json", "--repeat", "1", "--threads", "1",
                                 "--batch", "2", "--length", "24", "--prefill", "40", *more))


def compare(mine, other, what):
    peer.check(mine["parameters"] == other["parameters"], f"{what}: {mine['parameters']}, {other['parameters']} parameters")
    rows = {r["what"]: r for r in mine["results"]}
    for r in other["results"]:
        same = rows[r["what"]]
        peer.check(r["tokens"] == same["tokens"], f"{r['what']}: {same['tokens']}, {r['tokens']} tokens")
        peer.check(abs(r["flops"] - same["flops"]) <= 1e-9 * same["flops"], f"{r['what']}: {same['flops']}, {r['flops']} FLOPs")
        peer.check(r["tokens_per_s"] > 0 and r["seconds"] > 0, f"{r['what']}: no time")
    print(f"  {what}: {', '.join(r['what'] for r in other['results'])}")


def main():
    compare(ours("--only", "all"), theirs("--prefill", "40"), "adapter")
    compare(ours("--only", "step", "--full"), theirs("--full", "--checkpoint", "on"), "every weight")
    sys.exit(1 if peer.failures else 0)


if __name__ == "__main__":
    main()
