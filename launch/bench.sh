#!/usr/bin/env bash
# Measures this machine and shardbag on it, and draws it: launch/bench.sh [--full | --smoke] [FOLDER]. Needs a build in
# build/ (or SHARDBAG=PROGRAM); installs gnuplot-nox where it is missing. Takes 3 to 5 minutes and 7 GB of memory;
# --full takes the sizes of the README's tables (an hour, 21 GB), --smoke only shows that all of it works. FOLDER
# (build/bench without one) gets a page, index.html, with every table and drawing (SVG and PNG), and the tables as text
# and JSON lines.
set -uo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"

size=quick
case "${1-}" in
--full | --smoke)
  size=${1#--}
  shift
  ;;
-*) fail "usage: bench.sh [--full | --smoke] [FOLDER]" ;;
esac
[ $# -le 1 ] || fail "usage: bench.sh [--full | --smoke] [FOLDER]"
folder=${1:-$root/build/bench}
program=${SHARDBAG:-$root/build/shardbag}
[ -x "$program" ] || fail "$program is not there; build it first, or name one by SHARDBAG=PROGRAM"
program=$(readlink -f "$program")
command -v gnuplot >/dev/null || install_packages gnuplot-nox
mkdir -p "$folder" || fail "cannot make $folder"
cd "$folder" || fail "cannot enter $folder"
rm -f ./*.txt ./*.json ./*.tsv ./*.svg ./*.png index.html
scratch=$(mktemp -d -p "$folder")
trap 'rm -rf "$scratch"' EXIT
cores=$(env -u OMP_NUM_THREADS nproc)
wrong=0

# measure NAME RANKS WORD...: one part, into NAME.txt and NAME.json; its command goes to NAME.cmd for the page.
measure() {
  local name=$1 count=$2
  shift 2
  echo "$(date +%T) $name: $*"
  printf 'mpirun -n %d build/shardbag %s\n' "$count" "$*" >"$scratch/$name.cmd"
  if ! ranks "$count" "$program" "$@" --json "$name.json" >"$name.txt" 2>"$scratch/err"; then
    grep '^shardbag' "$scratch/err" >&2
    wrong=$((wrong + 1))
  fi
}

sets() {
  local word
  for word in "$@"; do printf -- '--set\n%s\n' "$word"; done
}

# ---- what is measured ------------------------------------------------------------------------------------------------

memory=(mib=512 "dim=[16,64,128]" lookups=524288 rounds=3)
pool=(rows=200000 rounds=3 "length=[1,10,40]")
train=(rows=200000 rounds=3 "length=[10]" "optimizer=exact_sgd,exact_rowwise_adagrad,exact_adagrad,sparse_adam")
exchange=(rows=200000 steps=10 "length=[1,10]")
step=(bench.steps=20 bench.rounds=3)
checkpoint=(rounds=3 rest=1)
if [ "$size" = full ]; then
  memory=(mib=4096 "dim=[16,32,64,128,256]")
  pool=("mode=sum,mean,max" "storage=full,f16,bf16" "dim=[16,64,128]")
  train=(limit=false "optimizer=exact_sgd,exact_rowwise_adagrad,exact_adagrad")
  exchange=(steps=30)
  step=(bench.steps=50 bench.rounds=5)
  checkpoint=(rows=4194304)
elif [ "$size" = smoke ]; then
  memory=(mib=2 "dim=[16]" lookups=3001 rounds=1)
  pool=(rows=2003 tables=2 batch=50 rounds=1 "length=[1,3]")
  train=(rows=2003 tables=2 batch=50 rounds=1 "length=[3]" "optimizer=exact_sgd,sparse_adam")
  exchange=(rows=2003 batch=50 steps=2 "length=[1,3]")
  step=(bench.steps=2 bench.rounds=1 bench.warmup=1 "data.synthetic.samples=[4096,10,10]")
  checkpoint=(rounds=1 rest=0 rows=2003)
fi
[ "$size" = full ] || pool+=("mode=sum,max")

run_all() {
  local words
  mapfile -t words < <(sets "${memory[@]}" "threads=[1,$cores]")
  measure memory 1 bench memory "${words[@]}"
  mapfile -t words < <(sets "${pool[@]}" threads=1)
  measure pool 1 bench pool "${words[@]}"
  mapfile -t words < <(sets "${pool[@]}" "threads=$cores")
  [ "$cores" = 1 ] || measure pool-threads 1 bench pool "${words[@]}"
  mapfile -t words < <(sets "${train[@]}" threads=1)
  measure train 1 bench pool "${words[@]}"
  mapfile -t words < <(sets "${exchange[@]}")
  measure exchange 2 bench exchange "${words[@]}"
  mapfile -t words < <(sets "${step[@]}")
  measure step 2 bench step "$root/configs/synthetic.yaml" "${words[@]}"
  mapfile -t words < <(sets "${checkpoint[@]}" "folder=$scratch")
  measure checkpoint 2 bench checkpoint "${words[@]}"
}

# ---- drawings --------------------------------------------------------------------------------------------------------

# draw NAME TITLE UNIT: bars of NAME.tsv (a line of titles; then a label and a number for each title), as SVG and PNG.
draw() {
  local name=$1 title=$2 unit=$3 kind columns
  columns=$(awk -F '\t' 'NR == 1 { print NF }' "$name.tsv")
  [ "$(wc -l <"$name.tsv")" -gt 1 ] || return 0
  for kind in svg png; do
    gnuplot 2>"$scratch/gnuplot" <<GNUPLOT || { cat "$scratch/gnuplot" >&2 && wrong=$((wrong + 1)); }
set terminal $kind size 1000,420 font "sans,10"
set output "$name.$kind"
set datafile separator "\t"
set title "$title"
set ylabel "$unit"
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.8 border -1
set boxwidth 0.9
set yrange [0:*]
set grid ytics
set xtics rotate by -35 noenhanced
set key outside noenhanced
plot for [i=2:$columns] "$name.tsv" using i:xtic(1) title columnheader(i)
GNUPLOT
  done
}

rows() { grep -vE '^#|^$' "$1" 2>/dev/null; }

draw_all() {
  rows memory.txt | awk -v n="$cores" 'BEGIN { print "case\tuniform\tZipf" }
    $2 != "-" && $4 == n { key = $1 " D=" $2; if (!(key in seen)) { order[++count] = key; seen[key] = 1 }
      if ($3 == 0) even[key] = $9; else zipf[key] = $9 }
    END { for (i = 1; i <= count; i++) print order[i] "\t" even[order[i]] + 0 "\t" zipf[order[i]] + 0 }' >memory.tsv
  draw memory "Random rows, $cores threads" "GB/s"
  rows memory.txt | awk 'BEGIN { print "case\tGB/s" } $2 == "-" { print $1 ", threads " $4 "\t" $9 }' >blocks.tsv
  draw blocks "Blocks in order" "GB/s"
  local name
  for name in pool pool-threads; do
    rows $name.txt | awk 'BEGIN { print "case\tpercent" } { print $1 " " $2 " D=" $4 " L=" $5 " z=" $6 "\t" $9 }' >$name.tsv
    draw $name "Forward, beside a gather of the same rows" "% of the limit"
  done
  rows train.txt | awk 'BEGIN { print "case\tforward\tbackward\tupdate" }
    { print $3 " L=" $5 " z=" $6 "\t" $7 "\t" $10 "\t" $11 }' >train.tsv
  draw train "A step, one thread" "ms"
  awk '/^# a step, of its slowest/ { times = 1 } times && !/^#/ && NF > 6 { print }' exchange.txt 2>/dev/null |
    awk 'BEGIN { print "case\tids\tforward\tbackward" } { print "L=" $1 " z=" $2 "\t" $7 "\t" $8 "\t" $9 }' >exchange.tsv
  draw exchange "The exchange, 2 ranks" "ms"
  awk '/^# one step after the other/ { plain = 1 } !plain && !/^#/ && NF > 5' step.txt 2>/dev/null |
    awk 'BEGIN { print "phase\tms" } { value = $(NF - 5); $(NF - 5) = $(NF - 4) = $(NF - 3) = $(NF - 2) = $(NF - 1) = $NF = ""
      sub(/ +$/, ""); if ($0 !~ /the whole step/) print $0 "\t" value }' >step.tsv
  draw step "A training step, pipelined, 2 ranks" "ms"
  rows checkpoint.txt | awk 'BEGIN { print "case\tshardbag\tplain" } { print $1 "\t" $4 "\t" $7 }' >checkpoint.tsv
  draw checkpoint "Checkpoints, 2 ranks" "GB/s"
}

# ---- the page --------------------------------------------------------------------------------------------------------

escape() { sed 's/&/\&amp;/g; s/</\&lt;/g; s/>/\&gt;/g'; }

machine() {
  echo "$("$program" --version), $(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo "no commit"), $(date -u +'%F %T') UTC"
  echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $cores cores, $(awk '/MemTotal/ { printf "%.0f", $2 / 2^20 }' /proc/meminfo) GiB, Linux $(uname -r)"
  echo "load before: $load; set: $size"
}

page() {
  local name drawing
  echo '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>shardbag, measured</title><style>'
  echo 'body{font-family:sans-serif;margin:2em}pre{overflow-x:auto;background:#f4f4f4;padding:1em}img{max-width:100%}</style></head><body>'
  echo "<h1>shardbag, measured</h1><pre>$(machine | escape)</pre>"
  for name in memory pool pool-threads train exchange step checkpoint; do
    [ -s "$name.txt" ] || continue
    echo "<h2>$name</h2><pre>$(escape <"$scratch/$name.cmd")</pre>"
    for drawing in $name $([ $name != memory ] || echo blocks); do
      [ ! -s "$drawing.svg" ] || echo "<p><img src=\"$drawing.svg\" alt=\"$drawing\"></p>"
    done
    echo "<pre>$(escape <"$name.txt")</pre>"
  done
  echo '</body></html>'
}

load=$(cut -d' ' -f1-3 /proc/loadavg)
run_all
draw_all
page >index.html
echo "$folder/index.html ($SECONDS s)"
[ "$wrong" = 0 ] || fail "$wrong of the parts failed"
