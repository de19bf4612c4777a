# chat.sh - a conversation from a pipe, every command of it, and a person's terminal.
. "$(dirname "$0")/lib.bash"

try 2 chat
err_has "wants MODEL"
try 1 chat missing
err_is "forja chat: there is no model at missing"

shared models/stories260K/hf
M=$SHARED_PATH
printf 'Once upon a time\n' >in
IN=in try 0 chat "$M" --greedy -n 12
first=$(cat "$OUT")
[ -n "$first" ] || fail "no answer"
err_is ""

# The same turn after /reset is the same answer; without it the turn before is context.
printf 'Once upon a time\n/reset\nOnce upon a time\n' >in
IN=in try 0 chat "$M" --greedy -n 12
out_is "$first
$first"
err_is "forja chat: the conversation begins again"

printf '/help\n/set\n/set top_k 3\n/set stop Lily\n/set stop off\n/adapter\n' >in
IN=in try 0 chat "$M"
err_has "/adapter [PATH|off]"
err_has "temperature"
err_has "adapter: off"
out_is ""

# What goes wrong is said, the conversation goes on, and the exit code tells.
printf '/rest\n/set temprature 1\n/set top-p 7\n/set threads 1\n/adapter nowhere\n/save\nOnce upon a time\n' >in
IN=in try 1 chat "$M" --greedy -n 12
err_has 'there is no /rest; did you mean /reset?'
err_has 'there is no setting "temprature"; did you mean "temperature"?'
err_has 'top-p wants a number from 0 to 1, not "7"'
err_has 'threads cannot be changed here'
err_has 'nowhere'
err_has '/save wants a file'
out_is "$first"

printf '/system Be kind.\nOnce upon a time\n/save talk.jsonl\n/quit\nnever said\n' >in
IN=in try 0 chat "$M" --greedy -n 5
err_has "3 messages are in talk.jsonl"
grep -qF '{"role":"system","content":"Be kind."},{"role":"user","content":"Once upon a time"}' talk.jsonl ||
    fail "talk.jsonl holds: $(cat talk.jsonl)"

# A person: the prompt is on the terminal, the line lands in the history.
if command -v script >/dev/null; then
    LAST="forja chat in a terminal"
    # After the pause the terminal is in the editor's hands; a line before it would be echoed twice.
    (sleep 1; printf 'Once upon a time\n'; sleep 1; printf '/quit\n'; sleep 1) |
        TERM=xterm script -qec "'$FORJA' chat '$M' --greedy -n 12" /dev/null >"$OUT" 2>"$ERR"
    out_has "> "
    out_has "${first%%$'\n'*}"
    grep -qF 'Once' "$XDG_STATE_HOME/forja/chat_history" || fail "the line is not in the history"
fi
finish
