#!/usr/bin/env bash
# check-format.sh [--self-test | --fix]: clang-format has the last word on every C and CUDA source.
set -euo pipefail
cd "$(dirname "$0")/.."
files() { git ls-files '*.c' '*.h' '*.cu' '*.cuh' | grep -v '^tests/fuzz/corpus/'; }
check() { # file names on stdin; --style goes by the .clang-format here, wherever the file lies
    bad=$({ xargs clang-format --style=file:.clang-format --dry-run -Werror 2>&1 || true; } | { grep -v '^ ' || true; } |
        { grep error: || true; } | cut -d: -f1 | sort -u)
    [ -z "$bad" ] || { printf '%s: not as clang-format would have it (tools/check-format.sh --fix)\n' $bad; return 1; }
}
case ${1-} in
--fix) files | xargs clang-format -i ;;
--self-test)
    t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
    echo 'int f(void) { return 1; }' >"$t/a.c"
    echo "$t/a.c" | check || { echo "check-format: refuses what is right"; exit 1; }
    echo 'int  f( void ){return 1;}' >"$t/b.c"
    if ls "$t"/*.c | check >/dev/null; then echo "check-format: does not see bad form"; exit 1; fi ;;
*) files | check ;;
esac
