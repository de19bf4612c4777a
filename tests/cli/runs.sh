# runs.sh - the registry of somebody who has not trained yet, and wrong words.
. "$(dirname "$0")/lib.bash"

try 0 runs
err_is "forja runs: there are no runs yet; forja train makes one"
out_is ""
try 0 runs list --json
out_is "[]"
try 1 runs show 3
err_has 'there is no run "3"'
try 2 runs show
err_is "forja runs: wants nothing, list, or show and the id or name of a run"
try 2 runs list 3
try 2 runs lisp
try 2 runs --limit -1
err_has '--limit wants a whole number from 0 to 1000000, not "-1"'
# A registry that is none: said, not crashed.
mkdir -p "$XDG_DATA_HOME/forja"
rm -f "$XDG_DATA_HOME"/forja/registry.db*
echo "this is not a data base, however long it is looked at" >"$XDG_DATA_HOME/forja/registry.db"
try 1 runs
err_has registry.db
finish
