#!/usr/bin/env bash
# make-base.sh [key=value ...]: makes models/forja-base.gguf from nothing but the programs here.
#   text (forja-worldgen) -> vocabulary and random weights (forja-newmodel) -> training -> Q8_0 GGUF
# ROWS (90000) and SEED (1) may be set; key=value goes to `forja train` after recipes/base.yaml.
# What an earlier call made is kept: remove build/base to begin again; `resume` is forja train's --resume.
set -euo pipefail
cd "$(dirname "$0")/.."
rows=${ROWS:-90000} seed=${SEED:-1} dir=build/base
for program in forja forja-worldgen forja-newmodel; do
    [ -x build/$program ] || { echo "make-base: build/$program is not built: run make" >&2; exit 1; }
done
mkdir -p $dir models
if [ "$(cat $dir/made 2>/dev/null)" != "$rows $seed" ]; then
    rm -rf $dir/made $dir/init $dir/run
    build/forja-worldgen --out $dir --rows "$rows" --seed "$seed"
    build/forja-newmodel --text $dir/train.txt --vocab 4096 --hidden 256 --layers 6 --heads 8 \
        --kv-heads 4 --ffn 704 --context 512 --seed "$seed" --out $dir/init
    echo "$rows $seed" >$dir/made
fi
if [ "${1-}" = resume ]; then
    shift
    set -- --resume "$@"
fi
build/forja train recipes/base.yaml "$@"
bytes=$(stat -c %s models/forja-base.gguf)
[ "$bytes" -le 8388608 ] || { echo "make-base: models/forja-base.gguf has $bytes bytes; at most 8388608" >&2; exit 1; }
echo "models/forja-base.gguf: $bytes bytes"
