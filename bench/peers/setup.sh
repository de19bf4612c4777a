#!/usr/bin/env bash
# setup.sh [FOLDER]: the peers that bench/cpu.sh measures beside forja, into FOLDER (default: build/peers; 2 GB, ten
# minutes).
#
#   PyTorch     with transformers, peft and bitsandbytes, in a virtual environment; versions of tests/interop/requirements.txt
#   oneDNN      Debian's libdnnl-dev, unpacked, not installed
#   llama.cpp   from the sources in the package llama-cpp-python, for this processor, and once more without its AMX kernels
#
# What is there already stays: after a failure or a stop, run it again.  CC and CXX choose the compiler, JOBS how many files are
# compiled side by side.  Needs Debian's g++, cmake, ninja-build, python3-venv and python3-dev (torch.compile compiles).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
dir=${1:-$root/build/peers}
requirements=$root/tests/interop/requirements.txt
version() { grep "^$1==" "$requirements"; }

missing=
command -v "${CXX:-c++}" >/dev/null || missing+=" g++"
command -v cmake >/dev/null || missing+=" cmake"
command -v ninja >/dev/null || missing+=" ninja-build"
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=" python3-venv"
python3 -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || missing+=" python3-dev"
[ -z "$missing" ] || { echo "setup.sh: first apt-get install$missing" >&2; exit 1; }
command -v apt-get >/dev/null && command -v dpkg >/dev/null || { echo "setup.sh: oneDNN comes from Debian: apt-get and dpkg are missing" >&2; exit 1; }

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
# Unpacked or downloaded under another name, and renamed when complete.
new=$dir/new
rm -rf "$new"
mkdir "$new"
trap 'rm -rf "$new"' EXIT

if [ ! -e "$dir/venv/done" ]; then
    python3 -m venv --clear "$dir/venv"
    install() { "$dir/venv/bin/pip" install -q --disable-pip-version-check "$@"; }
    # Without --no-deps first, pip would look for what torch needs among the few packages of the other index, too.
    install --no-deps --extra-index-url https://download.pytorch.org/whl/cpu "$(version torch)"
    install "$(version torch)" "$(version numpy)" "$(version transformers)" "$(version peft)" "$(version bitsandbytes)" "$(version accelerate)"
    touch "$dir/venv/done"
fi
if [ ! -d "$dir/dnnl" ]; then
    (cd "$new" && apt-get download -q libdnnl-dev libdnnl2 ocl-icd-libopencl1 && for d in *.deb; do dpkg -x "$d" dnnl; done)
    mv "$new/dnnl" "$dir/dnnl"
fi
if ! compgen -G "$dir/llama_cpp_python-*/vendor/llama.cpp" >/dev/null; then
    "$dir/venv/bin/pip" download -q --disable-pip-version-check --no-deps --no-binary llama-cpp-python -d "$new" "$(version llama-cpp-python)"
    tar -xzf "$new"/llama_cpp_python-*.tar.gz -C "$new"
    rm "$new"/llama_cpp_python-*.tar.gz
    mv "$new"/llama_cpp_python-* "$dir/"
fi
sources=$(echo "$dir"/llama_cpp_python-*/vendor/llama.cpp)
for build in native held; do
    cmake -G Ninja -S "$here" -B "$dir/$build" -DLLAMA="$sources" -DDNNL="$dir/dnnl" \
        -DHELD="$([ $build = held ] && echo ON || echo OFF)" >"$dir/$build.log" 2>&1 &&
        cmake --build "$dir/$build" ${JOBS:+-j "$JOBS"} --target peer-llama peer-onednn >>"$dir/$build.log" 2>&1 ||
        { tail -20 "$dir/$build.log" >&2; echo "setup.sh: building $build failed; all of it: $dir/$build.log" >&2; exit 1; }
done
echo "peers are in $dir"
