# shellcheck shell=bash
# What the scripts here share; to be sourced. A script calls begin, runs programs by launch or alone, counts what must
# hold by check, and ends with finish.

# shellcheck source=launch/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../launch/common.sh"

passed=0 failed=0 code=0
part= # of bench: see there

# begin BUILD_FOLDER: sets $program, the command that is tested, and $work, a folder that ends with the script.
begin() {
  program=$(cd "$1" && pwd)/shardbag
  [ -x "$program" ] || fail "$program is not there; build it first"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
}

# launch RANKS COMMAND...: leaves the exit code in $code, the output in $work/out and $work/err, and err without
# mpirun's banner in $work/said.
launch() {
  ranks "$@" >"$work/out" 2>"$work/err"
  code=$?
  unbanner
}

# alone COMMAND...: the same without mpirun.
alone() {
  "$@" >"$work/out" 2>"$work/err" </dev/null
  code=$?
  cp "$work/err" "$work/said"
}

# bench RANKS WORD...: `shardbag bench $part`, one rank without mpirun.
bench() {
  local run=(launch "$1")
  [ "$1" != 1 ] || run=(alone)
  shift
  "${run[@]}" "$program" bench "$part" "$@"
}

unbanner() {
  sed -e '/^-----*$/,/^-----*$/d' -e '/^\[[^ ]*:[0-9]*\]/d' -e '/^$/d' "$work/err" >"$work/said"
}

# check NAME COMMAND...: counts a command that must succeed.
check() {
  local name=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "FAIL  $name: exit $code"
    [ ! -e "$work/out" ] || sed 's/^/      out | /' "$work/out" | tail -n 8
    [ ! -e "$work/err" ] || sed 's/^/      err | /' "$work/err" | tail -n 8
  fi
}

# ended CODE WORDS...: the exit code, and one line on stderr that has every one of the words (none: nothing there).
ended() {
  local want=$1 word
  shift
  [ "$code" = "$want" ] || return 1
  [ "$(wc -l <"$work/said")" = "$(($# > 0))" ] || return 1
  for word in "$@"; do grep -qF -- "$word" "$work/said" || return 1; done
}

# printed PATTERN, warned PATTERN: a line of the output; a warning.
printed() { grep -qE -- "$1" "$work/out"; }
warned() { grep -qE -- "^warning: .*$1" "$work/said"; }

# wait_for COMMAND...: until it succeeds, 20 s at most.
wait_for() {
  local end=$((SECONDS + 20))
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.02
  done
}

# marked FOLDER COMMAND...: a rank's command that leaves its process id in FOLDER/pid<rank> and gets FOLDER as run.dir.
# shellcheck disable=SC2016,SC2034  # the ranks' shell; for the scripts
marked=(sh -c 'mkdir -p "$1"; echo $$ >"$1/pid$OMPI_COMM_WORLD_RANK"; dir=$1; shift; exec "$@" --set "run.dir=$dir"' -)

# finish: the last line, and whether all is well.
finish() {
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ]
}
