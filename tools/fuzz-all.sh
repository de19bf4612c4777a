#!/usr/bin/env bash
# fuzz-all.sh SECONDS [TARGET...]: libFuzzer on every target of tests/fuzz (or the named ones), as many at a time
# as there are processors, SECONDS each. Prints what each has run and the sum; leaves 1 when one found something (the
# input is in build/fuzz/, and joins tests/fuzz/corpus/TARGET once it is mended).  MAX_LEN=N: no longer inputs.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:?usage: tools/fuzz-all.sh SECONDS [TARGET...]}
shift
[ $# -gt 0 ] || set -- $(sed -E 's/.*fuzz_(.*)\.c/\1/' <<<"$(ls tests/fuzz/fuzz_*.c)")
tools/setup.sh check
cmake --preset fuzz >/dev/null
targets=()
for t in "$@"; do targets+=("fuzz_$t"); done
cmake --build build/fuzz --target "${targets[@]}" >build/fuzz/build.log || { tail -20 build/fuzz/build.log; exit 1; }
one() {
    local t=$1 log=build/fuzz/$1.log
    mkdir -p "build/fuzz/corpus/$t"
    "build/fuzz/fuzz_$t" -max_total_time="$seconds" -timeout=30 -rss_limit_mb=4096 ${MAX_LEN:+-max_len=$MAX_LEN} \
        -artifact_prefix="build/fuzz/$t-" "build/fuzz/corpus/$t" "tests/fuzz/corpus/$t" >"$log" 2>&1 && return 0
    echo "fuzz $t: found something, see $log"
    return 1
}
export -f one
export seconds
found=0
printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} bash -c 'one {}' || found=1
total=0
for t in "$@"; do
    n=$(sed -nE 's/^Done ([0-9]+) runs.*/\1/p' "build/fuzz/$t.log")
    printf '%-16s %12d\n' "$t" "${n:-0}"
    total=$((total + ${n:-0}))
done
printf '%-16s %12d\n' total "$total"
exit $found
