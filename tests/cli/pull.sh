# pull.sh - a model from a server that plays the Hub: output, messages, cache, commands that read it, Ctrl-C, the token.
. "$(dirname "$0")/lib.bash"
HUB=$(dirname "$FORJA")/forja-testhub
unset HF_TOKEN HF_TOKEN_PATH HF_HOME HF_HUB_OFFLINE FORJA_CACHE http_proxy all_proxy ALL_PROXY
export XDG_CACHE_HOME=$PWD/.cache no_proxy=127.0.0.1
HUB_PID=
trap '[ -z "$HUB_PID" ] || kill "$HUB_PID"' EXIT

# serve words...: a server for ./repo as owner/name; its address in HF_ENDPOINT, its requests in hub.log
serve() {
    [ -z "$HUB_PID" ] || kill "$HUB_PID"
    : >hub.log # what the last one said is not its address
    "$HUB" owner/name "${REPO:-repo}" "$@" >hub.log 2>&1 &
    HUB_PID=$!
    for _ in $(seq 100); do
        HF_ENDPOINT=$(head -1 hub.log)
        [ -z "$HF_ENDPOINT" ] || break
        sleep 0.05
    done
    export HF_ENDPOINT
}

mkdir repo gguf
echo '{"model": 1}' >repo/config.json
head -c 400000 /dev/urandom >repo/model.safetensors
echo '{}' >repo/tokenizer.json
echo '# readme' >repo/README.md
head -c 2000 /dev/urandom >gguf/m-Q4_0.gguf
head -c 3000 /dev/urandom >gguf/m-Q8_0.gguf

serve
try 0 pull owner/name --dry-run
out_matches '^model.safetensors +391 KiB +to fetch$'
out_lacks README
out_matches '^391 KiB in all, 391 KiB to fetch; commit [0-9a-f]{40}$'
[ ! -e .cache ] || fail "--dry-run has written"
try 0 pull owner/name
commit=$(grep -o 'resolve/[0-9a-f]*' hub.log | head -1 | cut -d/ -f2)
dir=$PWD/.cache/forja/hub/owner/name/$commit
out_is "$dir"
err_is ""
for f in config.json model.safetensors tokenizer.json; do cmp "repo/$f" "$dir/$f" || fail "$f differs"; done
[ ! -e "$dir/README.md" ] || fail "README.md was fetched"
try 0 pull owner/name --json
out_has "\"path\": \"$dir\""
out_has "\"sha256\": \"$(sha256sum <repo/model.safetensors | cut -d' ' -f1)\""
out_has '"missing_bytes": 0'
try 0 pull owner/name:README.md
out_is "$dir/README.md"
try 0 pull owner/name --include '*.json' --exclude 'tok*' --to there
out_is there
[ "$(ls -A there)" = config.json ] || fail "not just config.json in there"
before=$(wc -l <hub.log)
try 0 pull owner/name --offline
out_is "$dir"
try 1 pull owner/other --offline
err_has 'has nothing of owner/other at revision main'
[ "$(wc -l <hub.log)" -eq "$before" ] || fail "--offline has used the network"

# What a command calls MODEL: the cache knows it by its name.
try 1 run owner/name hello
err_has "$dir/model.safetensors is not a safetensors file"
try 1 run owner/none hello
err_has 'there is no model at owner/none'

# Broken connections, wrong bytes, and Ctrl-C.
rm -rf .cache
serve model.safetensors=cut:1000,503:0,wrong
try 0 pull owner/name
err_has 'model.safetensors: the server answers 503; trying again in 0 s'
err_has 'what came has a wrong hash'
cmp repo/model.safetensors "$dir/model.safetensors" || fail "differs"
grep -q 'cdn GET .*range=1000' hub.log || fail "did not go on at byte 1000"
rm -rf .cache
serve model.safetensors=cut:150000,slow
"$FORJA" pull owner/name >"$OUT" 2>"$ERR" &
pid=$!
LAST="forja pull, stopped"
for _ in $(seq 200); do
    [ "$(grep -c 'cdn GET' hub.log)" -lt 2 ] || break
    sleep 0.05
done
kill -TERM "$pid"
wait "$pid"
[ $? -eq 1 ] || fail "exit code of a stopped pull"
err_has 'stopped; what came is kept'
[ ! -e "$dir/model.safetensors" ] || fail "half a file under its name"
try 0 pull owner/name
cmp repo/model.safetensors "$dir/model.safetensors" || fail "differs"
tail -1 hub.log | grep -q 'range=15000[0-9]$' || fail "did not go on"

# The token: only to the endpoint, never to the screen.
rm -rf .cache
serve token=hf_verysecret
try 1 pull owner/name
err_has 'owner/name is gated: accept its conditions at http://127.0.0.1'
err_lines 1
echo hf_verysecret >tokenfile
export HF_TOKEN_PATH=$PWD/tokenfile
try 0 pull owner/name --json
grep 'cdn GET' hub.log | grep -q token && fail "the token went to another port"
grep 'hub GET' hub.log | grep -q token || fail "no token at the endpoint"
out_lacks verysecret
err_lacks verysecret
! grep -rq verysecret .cache || fail "the token is in the cache"
export HF_TOKEN=hf_wrong
try 1 pull owner/name --revision v9
err_has 'has no revision "v9"'
unset HF_TOKEN HF_TOKEN_PATH

# GGUF: which one?
REPO=gguf serve
try 1 pull owner/name
err_is "forja pull: owner/name has 2 GGUF models: say which, as in owner/name:NAME; there are Q4_0 (0.0000 GB), Q8_0 (0.0000 GB)"
try 0 pull owner/name:q8_0
out_has /m-Q8_0.gguf
cmp gguf/m-Q8_0.gguf "$(cat "$OUT")" || fail "differs"

# A model that runs, fetched in pieces, by its path and by its name.
mkdir base
cp "$SOURCE/models/forja-base.gguf" base/base-F16.gguf
REPO=base serve base-F16.gguf=cut:1000000,cut:2000000
try 0 pull owner/name
path=$(cat "$OUT")
cmp base/base-F16.gguf "$path" || fail "differs"
try 0 run "$SOURCE/models/forja-base.gguf" "Who are you?" --greedy -n 12
mv "$OUT" want
try 0 run "$path" "Who are you?" --greedy -n 12
out_file want
kill "$HUB_PID"
HUB_PID=
for name in owner/name owner/name:F16 owner/name:base-F16.gguf; do
    try 0 run "$name" "Who are you?" --greedy -n 12
    out_file want
done
try 0 tokenize owner/name hello

try 1 pull owner
err_has 'is no model of the Hub'
try 1 pull owner/name --revision ../x
err_has 'is no revision'
HF_ENDPOINT=file:///etc try 1 pull owner/name
err_has 'HF_ENDPOINT is not an address'
HF_ENDPOINT=http://127.0.0.1:1 try 1 pull owner/x
err_has 'cannot fetch the list of files of owner/x from 127.0.0.1:1'
touch file
FORJA_CACHE=file try 1 pull owner/name:q8_0
err_has file
try 2 pull owner/name --jobs 0
finish
