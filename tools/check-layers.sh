#!/usr/bin/env bash
# check-layers.sh [--self-test | ROOT]: a file includes its own layer and lower ones, never a
# neighbour or a higher one.  A line is one height; layers of one height do not see each other.
set -euo pipefail
cd "$(dirname "$0")/.."
check() { # source folder
    find "$1" -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.def' | sort |
        { xargs grep -nE '^ *# *include *"' /dev/null || true; } | awk -v src="$1/" '
        BEGIN {
            n = split("base;formats text kernels;graph;device ops;models;engine;data;eval;train;lifecycle;serve;cli", row, ";")
            for (i = 1; i <= n; i++) { k = split(row[i], l, " "); for (j = 1; j <= k; j++) height[l[j]] = i }
        }
        {
            file = $0; sub(/:.*/, "", file)
            from = substr(file, length(src) + 1); sub(/\/.*/, "", from)
            to = $0; sub(/^[^"]*"/, "", to); sub(/".*/, "", to); what = to
            if (to !~ /\//) next                    # beside the file itself
            if (to ~ /\.\./) { print file ": \"" what "\": names go from src/, without .."; bad = 1; next }
            sub(/\/.*/, "", to)
            if (!(from in height)) { print file ": " from " is no layer"; bad = 1; next }
            if (!(to in height)) { print file ": \"" what "\" is in no layer"; bad = 1; next }
            if (to != from && height[to] >= height[from]) {
                print file ": " from " may not include \"" what "\""; bad = 1
            }
        }
        END { exit bad }'
}
if [ "${1-}" = --self-test ]; then
    t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
    mkdir -p "$t/base" "$t/text" "$t/ops" "$t/cli"
    echo '#include "base/mem.h"' >"$t/cli/a.c"
    echo '#include "base/mem.h"' >"$t/text/a.c"
    check "$t" || { echo "check-layers: refuses what is right"; exit 1; }
    for planted in 'base/a.c text/tok.h' 'text/b.c formats/gguf.h' 'ops/a.cu device/device.h' 'ops/b.h ../cli/x.h'; do
        set -- $planted
        echo "#include \"$2\"" >"$t/$1"
        if check "$t" >/dev/null; then echo "check-layers: does not see $planted"; exit 1; fi
        rm "$t/$1"
    done
    exit 0
fi
check "${1:-src}"
