#!/usr/bin/env bash
# Runs tests/interop/test_*.py against build/forja with the packages of requirements.txt.
#   tests/interop/run.sh [PATH-OF-FORJA]     INTEROP_SEED=N repeats a run, INTEROP_ONLY=test_x picks one
# Leaves 0 when every comparison held, or when the packages cannot be had (one line "SKIP interop").
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
forja=$(realpath -m "${1:-$root/build/forja}")
venv=$root/build/interop-venv
wheels=$root/build/interop-wheels
log=$root/build/interop-pip.log

skip() { echo "SKIP interop: $1"; exit 0; }

[ -x "$forja" ] || { echo "interop: $forja is missing: build it first (make)" >&2; exit 1; }

mkdir -p "$root/build"
want=$(sha256sum "$here/requirements.txt" | cut -d' ' -f1)
if [ "$(cat "$venv/requirements.sha256" 2>/dev/null)" != "$want" ]; then
    python=$(command -v python3) || skip "python3 is missing (apt-get install python3-venv)"
    rm -rf "$venv"
    "$python" -m venv "$venv" >"$log" 2>&1 \
        || { rm -rf "$venv"; skip "python3 -m venv failed (apt-get install python3-venv), see $log"; }
    echo "interop: installing the packages of tests/interop/requirements.txt (once; about 1.5 GB)"
    # The CPU build of torch has an index of its own; elsewhere torch comes with its CUDA libraries.
    pip() { "$venv/bin/pip" install -q --disable-pip-version-check "$@" >>"$log" 2>&1; }
    pip --retries 1 --no-deps --extra-index-url https://download.pytorch.org/whl/cpu \
        "$(grep '^torch==' "$here/requirements.txt")"
    # llama.cpp is compiled here: the library alone.
    llama=$(grep '^llama-cpp-python==' "$here/requirements.txt")
    wheel() { compgen -G "$wheels/llama_cpp_python-${llama#*==}-*.whl" >/dev/null; }
    if ! wheel; then
        echo "interop: building $llama (once; two to three minutes on two cores)"
        "$venv/bin/pip" wheel --disable-pip-version-check --no-deps --no-binary llama-cpp-python -w "$wheels" \
            -C cmake.define.LLAVA_BUILD=OFF -C cmake.define.GGML_OPENMP=OFF -C cmake.define.GGML_LLAMAFILE=OFF \
            -C cmake.define.CMAKE_PROJECT_llama_cpp_INCLUDE="$here/llama.cmake" "$llama" >>"$log" 2>&1
        if ! wheel && grep -q 'Building wheel for llama' "$log"; then
            rm -rf "$venv"
            echo "interop: $llama was not built, see $log" >&2
            exit 1
        fi
    fi
    pip --find-links "$wheels" -r "$here/requirements.txt" \
        || { rm -rf "$venv"; skip "the packages cannot be had: $(grep '^ERROR' "$log" | tail -1)"; }
    echo "$want" >"$venv/requirements.sha256"
fi

seed=${INTEROP_SEED:-$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')}
echo "interop: seed $seed (INTEROP_SEED=$seed repeats this run)"
export FORJA=$forja INTEROP_SEED=$seed FORJA_SHARED=${FORJA_SHARED:-$root/../shared}
export PYTHONPATH=$root/tools/golden PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error PYTHONWARNINGS=ignore
failed=0
for test in "$here"/test_*.py; do
    name=$(basename "$test" .py)
    [ -z "${INTEROP_ONLY:-}" ] || [ "$INTEROP_ONLY" = "$name" ] || continue
    if "$venv/bin/python" "$test"; then echo "ok   $name"; else echo "FAIL $name (seed $seed)"; failed=1; fi
done
exit $failed
