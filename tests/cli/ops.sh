# ops.sh - every line of ops.def is shown, and each op runs on the CPU.
. "$(dirname "$0")/lib.bash"

try 0 ops
out_matches '^rmsnorm +yes +yes +f64 '
out_matches '^rmsnorm_dx +- +yes +f64 '
want=$(grep -cE '^FJ_OP(_BWD|_AUX)?\(' "$SOURCE/src/ops/ops.def")
got=$(($(wc -l <"$OUT") - 1))
[ "$got" -eq "$want" ] || fail "$got ops, ops.def has $want"
try 0 ops --json
[ "$(grep -c '"cpu": true' "$OUT")" -eq "$want" ] || fail "not every op runs on the CPU"
try 2 ops add
err_has 'does not know what to do with "add"'
finish
