# tokenize.sh - ids, pieces and text; lines; wrong words and broken tokenizers.
. "$(dirname "$0")/lib.bash"

try 1 tokenize missing.json text
err_is "forja tokenize: cannot open missing.json: No such file or directory"
mkdir folder
try 1 tokenize folder text
err_has "folder: no tokenizer in it: looked for tokenizer.json"
echo '{"model": {"type": "BPE"' >tokenizer.json
try 1 tokenize tokenizer.json text
err_has "tokenizer.json"
err_lines 1
printf 'GGUF\003\000\000\000' >short.gguf
try 1 tokenize short.gguf text
err_has "short.gguf"
try 2 tokenize
err_has "wants MODEL [TEXT]"
try 2 tokenize --ids --count x y
err_has "one of --ids, --count, --json and --decode"

shared models/stories260K/hf
M=$SHARED_PATH
try 0 tokenize "$M" "Once upon a time"
out_is '      1  "<s>"  special
    403  " Once"
    407  " upon"
    261  " a"
    378  " time"'
try 0 tokenize --ids "$M" "Once upon"
out_is "1 403 407"
try 0 tokenize --ids --no-bos "$M" "Once upon"
out_is "403 407"
try 0 tokenize --count "$M" "Once upon"
out_is 3
try 0 tokenize --json "$M" "Once"
out_has '"count": 2'
out_has '"▁Once"'
try 0 tokenize --ids --no-bos --special "$M" "<s>"
out_has 1
try 0 tokenize --decode "$M" "1, 403 407"
out_is "Once upon"
try 0 tokenize --decode --special "$M" "1 403"
out_has "<s>"
try 1 tokenize --decode "$M" "1 512"
err_is "forja tokenize: id 512 is not in the vocabulary: 0 to 511"
try 1 tokenize --decode "$M" "1 one"
err_has 'found "one"'
try 1 tokenize --decode "$M" "99999999999999999999"
err_has "is not in the vocabulary"

printf 'Once upon\n\nOnce' >in
IN=in try 0 tokenize --lines --no-bos "$M"
out_is "403 407

403"
printf '"Once\\nupon"\n""\n' >in
IN=in try 0 tokenize --json-lines --no-bos "$M"
out_has "403 13"
printf '"Once"\nOnce\n' >in
IN=in try 1 tokenize --json-lines --no-bos "$M"
err_is "forja tokenize: line 2: expected a JSON string"
# Bytes that are not UTF-8, and a 0 byte, come back as they were.
printf 'a\377\000b\n' >in
IN=in try 0 tokenize --ids --no-bos "$M"
cp "$OUT" ids
IN=ids try 0 tokenize --decode "$M"
cmp -s in "$OUT" || fail "bytes changed on the way"
# stdin is the same text as the word.
printf 'Once upon' >in
IN=in try 0 tokenize --ids "$M"
out_is "1 403 407"

shared models/stories260K/stories260K.gguf
try 0 tokenize --ids "$SHARED_PATH" "Once upon a time"
out_is "1 403 407 261 378"

# The other files that folders hold, and a file by itself.
G=$SRC/tests/golden/tokenizers
try 0 tokenize --count --no-bos "$G/wordpiece" "the the"
out_is 2
try 0 tokenize --ids "$G/sp-bpe" "the"
cp "$OUT" ids
try 0 tokenize --ids "$G/sp-bpe/tokenizer.model" "the"
cmp -s ids "$OUT" || fail "a folder and its file differ"
printf '"a\\u0000\\n"\n' >in
IN=in try 0 tokenize --json-lines --ids "$G/tiktoken"
cp "$OUT" ids
IN=ids try 0 tokenize --json-lines --decode "$G/tiktoken"
cmp -s in "$OUT" || fail "a JSON string came back as another"
mkdir bert
printf '[UNK]\n[CLS]\n[SEP]\nhi\n##s\n' >bert/vocab.txt
try 0 tokenize --ids --eos bert "HIS hi xyz"
out_is "1 3 4 3 0 2"
printf 'YQ== 0\n' >bert/x.tiktoken
try 1 tokenize bert a
err_has "1 ranks: no known model has so many"
finish
