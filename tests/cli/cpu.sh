# cpu.sh - processors that lack what the kernels like: qemu plays one without AVX (Nehalem) and one with AVX2 but
# nothing of AVX-512.  An instruction that the one played does not have ends the program there (SIGILL), wherever
# it comes from.
. "$(dirname "$0")/lib.bash"
QEMU=$(command -v qemu-x86_64-static || command -v qemu-x86_64) || {
    echo "skipped: there is no qemu-x86_64 (Debian: qemu-user-static)" >&2
    exit 77
}
[ "$(uname -m)" = x86_64 ] || { echo "skipped: this is no x86-64" >&2; exit 77; }
if grep -qE '__(a|t)san_init' "$FORJA"; then
    echo "skipped: sanitizers want the address space that qemu takes" >&2
    exit 77
fi
NATIVE=$FORJA MODEL=$SOURCE/models/forja-base.gguf ASK="The most famous place"
FORJA=./forja

# on CPU: what follows runs on it
on() {
    printf '#!/bin/sh\nexec "%s" -cpu %s "%s" "$@"\n' "$QEMU" "$1" "$NATIVE" >forja
    chmod +x forja
}
# expect ISA: the text that this set of instructions makes here, or the plain one where it is not here
expect() {
    FORJA_ISA=$1 "$NATIVE" run "$MODEL" "$ASK" --greedy -n 24 >want 2>/dev/null ||
        FORJA_ISA=scalar "$NATIVE" run "$MODEL" "$ASK" --greedy -n 24 >want
    [ -s want ] || fail "there is no text to compare with"
}

on Nehalem
try 0 --version
try 0 inspect "$MODEL"
try 0 run "$MODEL" "$ASK" --greedy -n 24
expect scalar
out_file want
FORJA_ISA=avx2 try 1 run "$MODEL" "$ASK"
err_has "this CPU does not have avx2: its best is scalar"
on max,-avx512f
try 0 run "$MODEL" "$ASK" --greedy -n 24
expect avx2
out_file want
FORJA_ISA=avx512f try 1 run "$MODEL" "$ASK"
err_has "this CPU does not have avx512f: its best is avx2"

# Every kernel in its plain form, where the test of them has been built.
kcheck=$(dirname "$NATIVE")/test_kern
if [ -x "$kcheck" ]; then
    LAST="test_kern on a Nehalem"
    "$QEMU" -cpu Nehalem "$kcheck" >"$OUT" 2>"$ERR" || fail "a kernel is wrong"
    out_has "this CPU has no avx2"
fi
finish
