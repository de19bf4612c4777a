#!/usr/bin/env bash
# Regenerates every file of tests/golden with its fixed seeds (see README.md beside this file).
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-../../build/interop-venv/bin/python}
"$python" files.py "$@"
"$python" splits.py "$@"
"$python" blocks.py "$@"
"$python" tiny.py "$@"
"$python" archs.py "$@"
"$python" stories.py "$@"
"$python" imatrix.py "$@"
"$python" train.py "$@"
"$python" tokens.py "$@"
"$python" templates.py "$@"
if "$python" -c 'import llama_cpp' 2>/dev/null; then "$python" mixes.py "$@"; else echo "mixes.txt stays: no llama-cpp-python"; fi
PYTHONPATH=../../tests/interop "$python" vocabularies.py "$@"
if "$python" -c 'import bitsandbytes, compressed_tensors' 2>/dev/null; then "$python" hfquant.py "$@"; else echo "hfquant/ stays: no bitsandbytes, compressed-tensors"; fi
