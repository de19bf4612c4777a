#!/usr/bin/env bash
# check-tidy.sh [--self-test | FILE...]: clang-tidy over the library and the program (.clang-tidy says
# what it looks for).  A file that was clean and has not changed since, headers included, is not looked
# at again (build/tidy/).  Instruction-set kernels are left out: intrinsics drown the analyzer.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1-}" = --self-test ]; then
    t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
    cp .clang-tidy "$t/"
    echo 'int f(int n) { int *p = 0; if (n > 3) return *p; return 0; }' >"$t/a.c"
    if clang-tidy --quiet "$t/a.c" -- -std=c11 >/dev/null 2>&1; then echo "check-tidy: does not see a null pointer used"; exit 1; fi
    echo 'int f(int n) { return n + 1; }' >"$t/a.c"
    clang-tidy --quiet "$t/a.c" -- -std=c11 >/dev/null 2>&1 || { echo "check-tidy: refuses what is right"; exit 1; }
    exit 0
fi
db=build
[ -e $db/compile_commands.json ] || { echo "no $db/compile_commands.json: build first (make)"; exit 1; }
mkdir -p build/tidy
headers=$(cat .clang-tidy $(git ls-files 'include/*.h' 'src/*.h' 'src/*.def') | cksum | tr ' ' -)
one() {
    mark=build/tidy/$(cat "$1" | cksum | tr ' ' -)-$headers-${1//\//_}
    [ -e "$mark" ] && return 0
    # ops and the scalar reference stand in the database twice: float is enough here
    if out=$(timeout 120 clang-tidy --quiet -p $db "$1" 2>/dev/null); then touch "$mark"
    else printf '%s\n' "$out" | grep -vE '^$' | head -40; echo "$1: clang-tidy is not content"; return 1; fi
}
export -f one; export db headers
[ $# -gt 0 ] || set -- $(git ls-files 'src/*.c' | grep -v '^src/kernels/x86/\|^src/kernels/arm/')
printf '%s\n' "$@" | xargs -P "${JOBS:-$(nproc)}" -I{} bash -c 'one {}' || exit 1
