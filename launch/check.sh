#!/usr/bin/env bash
# From a fresh Debian 12 to a tested build: launch/check.sh [--full]. As root or a user with sudo; no questions, no
# network where all packages are there, safe to run twice. Builds with gcc (build/), clang (build-clang/) and
# sanitizers (build-asan/), runs every test, and ends with `N passed, N failed` over all of them, with a non-zero
# exit if any failed. --full has more seeds, rank counts and builds. Logs: build/check/.
set -uo pipefail
# shellcheck source=launch/common.sh
. "$(dirname "$0")/common.sh"

full=0
case "${1-}" in
"") ;;
--full) full=1 ;;
*) fail "usage: check.sh [--full]" ;;
esac

TIMEFORMAT='%0U %0S'
logs=$root/build/check
results=$logs/results # a line a step: how many passed, how many failed, its name and log

# Open MPI leaves files behind when its job is killed: in folders of ours, they end with us.
scratch=$(mktemp -d)
shared_memory=$(mktemp -d -p /dev/shm 2>/dev/null) || shared_memory=$scratch
trap 'rm -rf "$scratch" "$shared_memory"' EXIT
export SHARDBAG_SOURCE_DIR=$root # where tests look for files that come with the repository
export OMPI_MCA_mpi_yield_when_idle=1 # a rank that waits leaves its core to the others, whatever their number
export OMPI_MCA_btl_vader_backing_directory=$shared_memory

# step NAME LIMIT_S COMMAND...: runs it with a deadline. It counts by the last `N passed, N failed` that it prints,
# and as one without such a line; an exit code that does not fit the line is one more failure. Temporary files go to
# a folder of its own: two steps run at a time.
step() {
  local name=$1 limit_s=$2 start=$SECONDS code line said good=0 bad=0 log folder user_s system_s
  shift 2
  log=$logs/$(tr -c 'a-z0-9\n' '-' <<<"${name,,}").log
  folder=$(mktemp -d -p "$scratch")
  { time TMPDIR=$folder timeout -k 10 "$limit_s" "$@" >"$log" 2>&1 </dev/null; } 2>"$folder.cpu"
  code=$?
  read -r user_s system_s < <(tail -n 1 "$folder.cpu")
  rm -rf "$folder" "$folder.cpu"
  line=$(sed -nE 's/^([0-9]+ ranks: )?([0-9]+ passed, [0-9]+ failed).*/\2/p' "$log" | tail -n 1)
  if [ -n "$line" ]; then
    good=${line%% *} bad=$(sed -E 's/^[0-9]+ passed, ([0-9]+) failed.*/\1/' <<<"$line")
    if [ $code != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
  elif [ $code = 0 ]; then
    good=1
  else
    bad=1
  fi
  echo "$good $bad $name: $log" >>"$results"
  if [ "$bad" = 0 ]; then
    said=$(printf 'ok    %-62s %4d s  %4d s CPU  %6d passed\n' "$name" $((SECONDS - start)) $((user_s + system_s)) "$good"
      grep -aE '^skipped' "$log" | sort -u | sed 's/^/      /')
  else
    line="exit $code"
    if [ $code = 124 ] || [ $code = 137 ]; then line="over $limit_s s"; fi
    said=$(printf 'FAIL  %-62s %4d s  %4d s CPU  %6d passed, %d failed, %s\n' "$name" $((SECONDS - start)) \
      $((user_s + system_s)) "$good" "$bad" "$line"
      tail -n 30 "$log" | sed 's/^/      | /')
  fi
  printf '%s\n' "$said" # at once
  [ "$bad" = 0 ]
}

# ranks_step NAME LIMIT_S N PROGRAM ARGUMENT...: the same on N ranks. Under AddressSanitizer the suppressions match only
# with slow unwinding, because libmpi keeps no frame pointers.
ranks_step() {
  local name=$1 limit_s=$2 count=$3
  shift 3
  ASAN_OPTIONS=fast_unwind_on_malloc=0 step "$name, $count ranks" "$limit_s" mpirun --oversubscribe --bind-to none -n "$count" "$@"
}

# once NAME LIMIT_S COMMAND...: a step that both lanes come to, for the one that comes first.
once() {
  ! mkdir "$scratch/once $1" 2>/dev/null || step "$@"
}

skipped() {
  printf 'skip  %s\n' "$*"
}

# Builds give way to what runs beside them: ranks on a core that others hold wait for each other all the time.
build_step() {
  # shellcheck disable=SC2016  # the inner shell's own arguments
  step "build $1" 900 nice -n 10 bash -c '. "$1/launch/common.sh" && build "$2" "$3"' build "$root" "$1" "$2"
}

# golden_steps FOLDER RANKS HOW...: the golden files at each rank count, in each way in one launch. A way is a layout and
# more options of the runner: the layouts take turns with the kinds of exchange and with small chunks.
golden_steps() {
  local folder=$1 counts=$2 count how options=() arguments=()
  shift 2
  for how in "$@"; do
    read -ra options <<<"$how"
    arguments+=(--and --layout "${options[@]}")
  done
  for count in $counts; do
    ranks_step "golden $folder, $# ways" 600 "$count" "$root/$folder/tests/golden" "$root"/tests/golden/*.h5 "${arguments[@]:1}"
  done
}

# suites FOLDER RANKS: the Check suites of one build.
suites() {
  local folder=$1 count
  step "unit $folder" 300 "$root/$folder/tests/unit"
  step "kernels $folder" 300 "$root/$folder/tests/kernels"
  for count in $2; do
    ranks_step "mpi $folder" 400 "$count" "$root/$folder/tests/mpi"
  done
}

check_release() {
  suites build "1 2 3 4 8"
  golden_steps build "1 2 3 4 8" block "cyclic --chunk 64" "scramble --chunk 1024" "cyclic --exchange pools" \
    "scramble --exchange rows --chunk 1024" "block --exchange dense" "cyclic --exchange dense --chunk 1024" \
    "subset --exchange pools --chunk 1024" replicated
  golden_steps build "3" "block --reproducible" "block --oracle"
  step "installation" 300 "$root/tests/install/run.sh" "$root/build"
  # shellcheck disable=SC2016  # the inner shell's own arguments
  step "instructions of kernels" 120 bash -c '"$1" "$2" || [ $? = 77 ]' run "$root/tests/instructions/run.sh" "$root/build"
}

check_clang() {
  build_step clang build-clang || return
  local counts="2"
  [ $full = 0 ] || counts="1 2 3 4 5 8"
  SHARDBAG_BIG=0 SHARDBAG_PROPERTY_CASES=100 suites build-clang "$counts"
  golden_steps build-clang "2" block
}

check_asan() {
  build_step asan build-asan || return
  export LSAN_OPTIONS=suppressions=$root/tests/mpi/lsan.supp:print_suppressions=0
  export UBSAN_OPTIONS=print_stacktrace=1
  SHARDBAG_PROPERTY_CASES=$([ $full = 0 ] && echo 25 || echo 250) suites build-asan \
    "$([ $full = 0 ] && echo "1 3" || echo "1 2 4 8")"
  golden_steps build-asan "2" "cyclic --exchange rows"
  [ $full = 0 ] || golden_steps build-asan "4" "scramble --exchange pools" subset replicated
  unset LSAN_OPTIONS UBSAN_OPTIONS
}

# The GPU's part: by nvcc for a real architecture, where it is there; and the same sources executed on the CPU
# (tests/cuda): every kernel as it is, and queued until it is waited for, in other orders of lanes and blocks; over
# several ranks; whole models and the program; and under sanitizers. ThreadSanitizer takes the blocks of a launch as
# one after another, or as unordered, which finds races between them.
check_cuda() {
  local seed count racy=(dense execution integer kernel_integer kernel_pack kernel_reduce kernel_rows large streams)
  if [ ! -d "$root/build/tests/cuda" ]; then
    skipped "tests/cuda: the CUDA toolkit's headers are not here"
    return
  fi
  check_nvcc
  step "build what executes kernels" 900 nice -n 10 cmake --build "$root/build" -j "$(nproc)" --target test_cuda test_cuda_ranks \
    test_cuda_app test_cuda_mpi test_cuda_golden || return
  step "cuda kernels" 300 "$root/build/tests/cuda/kernels"
  for seed in 1 $([ $full = 0 ] || echo 2 3 4 5 6 7 8); do
    EMU_STREAMS=lazy EMU_SEED=$seed step "cuda kernels, lazy, seed $seed" 300 "$root/build/tests/cuda/kernels" "${racy[@]}"
  done
  for count in 1 2 3 $([ $full = 0 ] || echo 4 8); do
    EMU_STREAMS=$([ "$count" = 2 ] || echo lazy) ranks_step "cuda ranks" 300 "$count" "$root/build/tests/cuda/ranks"
  done
  export EMU_DEVICES=4
  for count in 1 2 3 4; do
    EMU_APART=1 EMU_STREAMS=$([ "$count" = 2 ] || echo lazy) ranks_step "cuda golden" 240 "$count" \
      "$root/build/tests/cuda/golden" "$root"/tests/golden/*.h5
  done
  for count in 2 $([ $full = 0 ] || echo 1 3 4); do
    EMU_STREAMS=$([ "$count" = 2 ] || echo lazy) ranks_step "cuda model" 300 "$count" "$root/build/tests/cuda/mpi" model
  done
  EMU_APART=1 ranks_step "cuda, memory apart" 120 2 "$root/build/tests/cuda/mpi" memory
  unset EMU_DEVICES
  step "cuda MovieLens" 300 "$root/tests/cuda/train.sh" "$root/build"
  step "cuda kinds of models" 120 "$root/tests/cuda/kinds.sh" "$root/build"
  step "cuda bench" 120 "$root/tests/cuda/bench.sh" "$root/build"
  step "build what executes kernels, asan" 900 nice -n 10 cmake --build "$root/build-asan" -j "$(nproc)" --target test_cuda \
    test_cuda_ranks && {
    step "cuda kernels build-asan" 600 "$root/build-asan/tests/cuda/kernels"
    LSAN_OPTIONS=suppressions=$root/tests/mpi/lsan.supp:print_suppressions=0 \
      ranks_step "cuda ranks build-asan" 300 2 "$root/build-asan/tests/cuda/ranks"
  }
  # shellcheck disable=SC2016  # the inner shell's own arguments
  step "build cuda-tsan" 900 nice -n 10 bash -c '. "$1/launch/common.sh" && build cuda-tsan build-cuda-tsan --target test_cuda' \
    build "$root" || return
  # Unordered blocks share the stacks of their threads, which shows as races of kernels with arrays there.
  export TSAN_OPTIONS=ignore_noninstrumented_modules=1
  local short=(execution integer kernel_integer kernel_pack large streams)
  # shellcheck disable=SC2046  # two words or none
  step "cuda kernels build-cuda-tsan" 300 "$root/build-cuda-tsan/tests/cuda/kernels" dense "${short[@]}" \
    $([ $full = 0 ] || echo kernel_reduce kernel_rows)
  EMU_XBLOCK=1 step "cuda kernels build-cuda-tsan, unordered blocks" 300 "$root/build-cuda-tsan/tests/cuda/kernels" \
    "${short[@]}"
  unset TSAN_OPTIONS
}

# One architecture: nvcc takes minutes for each. What is C is tested in the other builds.
check_nvcc() {
  local less=(-DSHARDBAG_CUDA_ARCHITECTURES=80 -DCMAKE_C_FLAGS_RELEASE=-O1)
  [ $full = 0 ] || less=()
  if ! cmake --preset cuda -S "$root" "${less[@]}" >"$logs/cmake-cuda.log" 2>&1; then
    skipped "the GPU's part by nvcc: $(grep -m 1 -A 1 'CMake Error' "$logs/cmake-cuda.log" | tail -n 1)"
    return
  fi
  # shellcheck disable=SC2016  # the inner shell's own arguments
  step "build cuda, by nvcc" 900 nice -n 10 bash -c '. "$1/launch/common.sh" && build cuda build-cuda --target shardbag_app' \
    build "$root" && step "a GPU or a reason" 60 "$root/tests/cuda/no_gpu.sh" "$root/build-cuda"
  # shellcheck disable=SC2046  # one word or two
  step "no hot kernel spills" 900 python3 "$root/tests/cuda/ptxas.py" $([ $full = 0 ] && echo 80 || echo 80 90)
}

# Most of these wait more than they compute; a lane that is done with its own comes here to help.
check_scripts() {
  local script
  for script in "$root"/tests/app/*.sh; do
    [ -x "$script" ] || continue
    once "app $(basename "$script" .sh)" 300 "$script" "$root/build"
  done
  once "faults" 300 "$root/tests/fault/test_fault.sh" "$root/build" "$([ $full = 0 ] && echo 20 || echo 200)"
  once "soak, random runs" "$([ $full = 0 ] && echo 300 || echo 3600)" \
    "$root/tests/soak/run.sh" "$root/build" "$([ $full = 0 ] && echo 30 || echo 1000)"
  once "transports" 600 "$root/tests/net/run.sh" "$root/build"
  once "fuzz the checkpoint's gate" 900 "$root/tests/fault/fuzz.sh" "$([ $full = 0 ] && echo 20 || echo 600)"
  once "fuzz requests" 900 "$root/tests/fault/fuzz.sh" "$([ $full = 0 ] && echo 20 || echo 600)" request
  if ! /usr/bin/python3 -c 'import h5py' 2>/dev/null; then
    skipped "tests/python: /usr/bin/python3 has no h5py"
    return
  fi
  once "soak, serving" "$([ $full = 0 ] && echo 120 || echo 900)" \
    /usr/bin/python3 "$root/tests/serve/soak.py" "$root/build" "$([ $full = 0 ] && echo 20 || echo 600)"
  for script in "$root"/tests/python/test_*.py; do
    once "python $(basename "$script" .py)" 300 /usr/bin/python3 "$script" "$root/build"
  done
}

check_full() {
  local seed count
  step "app test_resume, 200 kills" 1800 "$root/tests/app/test_resume.sh" --full "$root/build"
  step "soak build-asan" 3600 "$root/tests/soak/run.sh" "$root/build-asan" 100
  build_step tsan build-tsan && TSAN_OPTIONS=ignore_noninstrumented_modules=1 \
    SHARDBAG_PROPERTY_CASES=25 suites build-tsan "1 2"
  build_step debug build-debug && suites build-debug "2 4"
  for count in 5 6 7 12; do
    ranks_step "mpi build" 900 "$count" "$root/build/tests/mpi"
    golden_steps build "$count" block "scramble --exchange rows" "cyclic --exchange pools" replicated
  done
  for seed in 11 12 13 14; do
    for count in 1 2 3 4 8; do
      SHARDBAG_PROPERTY_SEED=$seed SHARDBAG_PROPERTY_CASES=2000 \
        ranks_step "properties, seed $seed" 900 "$count" "$root/build/tests/mpi" property
    done
  done
}

# Other people's programs that servers are tried with, into build/tools; where there is no network those tests skip.
fetch_tools() {
  local tools=$root/build/tools work
  command -v promtool >/dev/null || unpack_program prometheus promtool "$tools" || skipped "promtool cannot be fetched"
  [ ! -d "$tools/triton" ] || return 0
  work=$(mktemp -d -p "$scratch")
  if timeout -k 5 120 /usr/bin/python3 -m pip install -q --no-deps --target "$work/triton" \
    -r "$root/tests/serve/requirements.txt" >"$logs/tools.log" 2>&1 </dev/null; then
    mkdir -p "$tools"
    mv "$work/triton" "$tools"
  else
    skipped "tritonclient cannot be fetched: $(tail -n 1 "$logs/tools.log")"
  fi
}

cd "$root" || exit 1
install_packages "${build_packages[@]}" clang-14 libclang-rt-14-dev libomp-14-dev python3 python3-pip python3-numpy python3-h5py iproute2 valgrind gnuplot-nox
mkdir -p "$logs"
rm -f "$results"
fetch_tools &
tools=$!
# What is built otherwise, and tests in one process, leave cores idle at times: two lanes share them.
if build_step release build; then
  wait "$tools"
  {
    check_clang
    check_asan
    check_cuda
    check_scripts
  } &
  check_release
  check_scripts
  wait
  [ $full = 0 ] || check_full
fi

read -r passed failed <<<"$(awk '{ good += $1; bad += $2 } END { print good + 0, bad + 0 }' "$results")"
awk '$2 > 0 { $1 = $2 = ""; print "failed:" substr($0, 2) }' "$results"
echo "total: $SECONDS s"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
