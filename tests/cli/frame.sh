# frame.sh - the frame of every command: list, help, unknown words, option kinds, exit codes.
. "$(dirname "$0")/lib.bash"

try 0
out_has "usage: forja COMMAND"
cp "$OUT" list
try 0 help
out_file list
try 0 --help
out_file list
try 0 --version
out_matches '^forja [0-9]+\.[0-9]+\.[0-9]+$'

try 2 inspct x
err_is 'forja: there is no command "inspct"; did you mean "inspect"?'
try 2 zzzzzz
err_is 'forja: there is no command "zzzzzz"; forja help lists them'
try 2 --frobnicate
err_is 'forja: the first word is a command; forja help lists them'
try 2 help inspct
err_is 'forja help: there is no command "inspct"; did you mean "inspect"?'

try 2 inspect
err_is 'forja inspect: wants FILE|DIR; usage: forja inspect [options] FILE|DIR'
try 2 inspect a b
err_has 'does not know what to do with "b"'
try 2 inspect --tenosrs x
err_is 'forja inspect: there is no option --tenosrs; did you mean --tensors?'
try 2 inspect --no-tensor x
err_has 'did you mean --tensors?'
try 2 inspect --qqqqqq x
err_is 'forja inspect: there is no option --qqqqqq; forja inspect --help lists them'
try 2 inspect -Z x
err_has 'there is no option -Z'
try 2 inspect --json=perhaps x
err_is 'forja inspect: --json wants true or false, not "perhaps"'

# --help wins over everything else on the line, and says the same as help COMMAND.
for command in $(sed -n 's/^  \([a-z]*\) .*/\1/p' list); do
    try 0 "$command" --help
    out_has "usage: forja $command"
    err_is ""
    cp "$OUT" one
    try 0 help "$command"
    out_file one
done

# An escape sequence in a word never reaches the terminal.
try 2 "$(printf 'a\033[31mb')"
if grep -q "$(printf '\033')" "$ERR"; then fail "an escape went through"; fi

# The manual has a section for every command, and the completion scripts are valid where the shell is.
try 0 help --markdown
for command in $(sed -n 's/^  \([a-z]*\) .*/\1/p' list); do out_has "## forja $command"; done
cmp -s "$OUT" "$SOURCE/docs/commands.md" ||
    fail "docs/commands.md is old: forja help --markdown >docs/commands.md"
try 2 completion tcsh
err_is 'forja completion: wants bash, zsh or fish, not "tcsh"'
for shell in bash zsh fish; do
    try 0 completion $shell
    out_has inspect
    out_has tensors
    cp "$OUT" script
    if command -v $shell >/dev/null; then
        if [ $shell = fish ]; then fish --no-execute script; else $shell -n script; fi ||
            fail "$shell does not accept its script"
    fi
done
if command -v bash >/dev/null; then
    LAST="bash completion"
    "$FORJA" completion bash >script
    got=$(bash -c '. ./script; COMP_WORDS=(forja inspect --t); COMP_CWORD=2; _forja; echo "${COMPREPLY[*]}"')
    [ "$got" = "--tensors" ] || fail "completes --t as: $got"
    got=$(bash -c '. ./script; COMP_WORDS=(forja insp); COMP_CWORD=1; _forja; echo "${COMPREPLY[*]}"')
    [ "$got" = "inspect" ] || fail "completes insp as: $got"
fi

# A disk that takes nothing is a failure; a reader that leaves is one without a message.
if [ -w /dev/full ]; then
    LAST="forja help >/dev/full"
    "$FORJA" help >/dev/full 2>"$ERR" && fail "exit code 0"
    err_has "cannot write the output"
fi
finish
