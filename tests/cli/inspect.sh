# inspect.sh - what is said about good files, and one sentence for bad ones.
. "$(dirname "$0")/lib.bash"

try 1 inspect missing.gguf
err_has "missing.gguf: No such file or directory"
err_lines 1
: >empty
try 1 inspect empty
err_has "empty: neither a GGUF nor a safetensors file"
: >empty.gguf
try 1 inspect empty.gguf
err_lines 1
mkdir folder
try 1 inspect folder
err_has "folder: a folder without config.json"
printf 'GGUF\003\000\000\000' >short.gguf
try 1 inspect short.gguf
err_has "short.gguf"
printf '\020\000\000\000\000\000\000\000{"a":1' >short.safetensors
try 1 inspect short.safetensors
err_has "short.safetensors"
mkdir half
echo '{"model_type": ' >half/config.json
try 1 inspect half
err_has "config.json"

golden=$SOURCE/tests/golden/tiny-sharded
try 0 inspect "$golden"
out_has "Hugging Face folder"
out_has "LlamaForCausalLM"
out_has "in 3 files"
out_lacks "model.embed_tokens.weight"
try 0 inspect --tensors "$golden"
out_matches '^model.embed_tokens.weight +F16 +64 x 32 +4096$'
try 0 inspect --json "$golden"
out_has '"hidden_size": 32'
out_lacks '"tensors": ['
try 0 inspect --json --tensors "$golden/model-00001-of-00003.safetensors"
out_has '"kind": "safetensors"'
out_has '"tensors": ['
# Cut in the middle of its data: named, and nothing is said on stdout.
head -c 3000 "$golden/model-00001-of-00003.safetensors" >cut.safetensors
try 1 inspect cut.safetensors
err_has "cut.safetensors"
out_is ""

# A split model is one model, whichever of its files is named; a missing one is named.
cp "$SOURCE"/tests/golden/splits/size-*.gguf .
try 0 inspect --tensors size-00002-of-00004.gguf
out_has "in 4 files"
out_matches '^t0 +F32 +1 x 16 +64$'
out_matches '^q +Q8_0 +2 x 64 +136$'
try 0 inspect --json size-00001-of-00004.gguf
out_has '"size-00004-of-00004.gguf"'
rm size-00003-of-00004.gguf
try 1 inspect size-00001-of-00004.gguf
err_has "size-00003-of-00004.gguf is missing"

shared models/stories260K/stories260K.gguf
try 0 inspect "$SHARED_PATH"
out_matches '^kind +GGUF model$'
out_matches '^architecture +llama$'
out_matches '^  block_count +5$'
out_matches '^weights: 32 bits each$'
try 0 inspect -tm "$SHARED_PATH"
out_matches '^token_embd.weight +F32 +512 x 64 +131072$'
out_matches '^  tokenizer.ggml.tokens +512 of string: '
head -c 100000 "$SHARED_PATH" >cut.gguf
try 1 inspect cut.gguf
err_has "cut.gguf"
err_lines 1
shared models/adapters/gemma3-270m-r4
try 0 inspect "$SHARED_PATH"
out_matches '^kind +PEFT adapter$'
out_matches '^base +google/gemma-3-270m-it$'
out_matches '^  r +4$'
finish
