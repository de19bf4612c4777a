#!/usr/bin/env bash
# setup.sh [FOLDER]: the peers that bench/cpu.sh measures beside forja, into FOLDER (default: build/peers; 2 GB, ten minutes).
#
#   llama.cpp   from the sources in the package llama-cpp-python, for this processor, and once more without its AMX kernels
#   oneDNN      Debian's libdnnl-dev, unpacked, not installed
#   PyTorch     with transformers, peft and bitsandbytes, in a virtual environment; versions of tests/interop/requirements.txt
#
# What is there already stays.  CC and CXX choose the compiler.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
dir=${1:-$root/build/peers}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
requirements=$root/tests/interop/requirements.txt
version() { grep "^$1==" "$requirements"; }

if [ ! -d "$dir/dnnl" ]; then
    (cd "$dir" && apt-get download libdnnl-dev libdnnl2 ocl-icd-libopencl1 && for d in *.deb; do dpkg -x "$d" dnnl.new; done)
    mv "$dir/dnnl.new" "$dir/dnnl"
fi
if ! compgen -G "$dir/llama_cpp_python-*/vendor/llama.cpp" >/dev/null; then
    python3 -m pip download -q --disable-pip-version-check --no-deps --no-build-isolation --no-binary llama-cpp-python \
        -d "$dir" "$(version llama-cpp-python)"
    tar -xzf "$dir"/llama_cpp_python-*.tar.gz -C "$dir"
fi
sources=$(echo "$dir"/llama_cpp_python-*/vendor/llama.cpp)
for build in native held; do
    cmake -G Ninja -S "$here" -B "$dir/$build" -DLLAMA="$sources" -DDNNL="$dir/dnnl" \
        -DHELD="$([ $build = held ] && echo ON || echo OFF)" >"$dir/$build.log" 2>&1
    cmake --build "$dir/$build" --target peer-llama peer-onednn >>"$dir/$build.log" 2>&1 || { tail -20 "$dir/$build.log" >&2; exit 1; }
done
if [ ! -e "$dir/venv/done" ]; then
    python3 -m venv "$dir/venv"
    pip() { "$dir/venv/bin/pip" install -q --disable-pip-version-check "$@"; }
    pip --no-deps --extra-index-url https://download.pytorch.org/whl/cpu "$(version torch)"
    pip "$(version torch)" "$(version numpy)" "$(version transformers)" "$(version peft)" "$(version bitsandbytes)" "$(version accelerate)"
    touch "$dir/venv/done"
fi
echo "peers are in $dir"
