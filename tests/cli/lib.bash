# lib.bash - for tests/cli/*.sh: run the program, look at exit code, stdout and stderr.
#
#     . "$(dirname "$0")/lib.bash"
#     try 2 inspect --nope             exit code 2 expected; output lands in $OUT and $ERR (files)
#     err_is "forja inspect: ..."      the whole of stderr
#     out_has "text"                   some line of stdout contains it; out_is: the whole of stdout
#     shared models/stories260K        sets $SHARED_PATH, or leaves the test as skipped (77)
#     finish                           last line: fails when any check failed
#
# The current folder is private to the test and goes away after it.  FORJA is the program.
set -u
: "${FORJA:?path of the program}"
HERE=$(cd "$(dirname "$0")" && pwd)
SOURCE=$(cd "$HERE/../.." && pwd)
OUT=$PWD/.stdout
ERR=$PWD/.stderr
FAILED=0
export XDG_DATA_HOME=$PWD/.data XDG_STATE_HOME=$PWD/.state
unset NO_COLOR

fail() {
    echo "FAILED: $LAST: $1" >&2
    sed 's/^/  stdout: /' "$OUT" | head -20 >&2
    sed 's/^/  stderr: /' "$ERR" | head -20 >&2
    FAILED=1
}

# try CODE words...: stdin comes from $IN (a file) when set
try() {
    local want=$1 got
    shift
    LAST="forja $*"
    "$FORJA" "$@" <"${IN:-/dev/null}" >"$OUT" 2>"$ERR"
    got=$?
    [ "$got" -eq "$want" ] || fail "exit code $got, expected $want"
}

out_has() { grep -qF -- "$1" "$OUT" || fail "stdout lacks: $1"; }
out_lacks() { ! grep -qF -- "$1" "$OUT" || fail "stdout has: $1"; }
out_is() { [ "$(cat "$OUT")" = "$1" ] || fail "stdout is not: $1"; }
out_matches() { grep -qE -- "$1" "$OUT" || fail "stdout matches nothing of: $1"; }
err_lacks() { ! grep -qF -- "$1" "$ERR" || fail "stderr has: $1"; }
err_has() { grep -qF -- "$1" "$ERR" || fail "stderr lacks: $1"; }
err_is() { [ "$(cat "$ERR")" = "$1" ] || fail "stderr is not: $1"; }
err_lines() { [ "$(wc -l <"$ERR")" -eq "$1" ] || fail "stderr has not $1 lines"; }
out_file() { diff -u "$1" "$OUT" >&2 || fail "stdout differs from $1"; }

shared() {
    local root=${FORJA_SHARED:-$SOURCE/../shared}
    SHARED_PATH=$root/$1
    [ -e "$SHARED_PATH" ] && return
    echo "skipped: $SHARED_PATH is not there" >&2
    [ "$FAILED" -eq 0 ] || exit 1
    exit 77
}

finish() { exit "$FAILED"; }
