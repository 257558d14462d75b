#!/usr/bin/env bash
# The installed library as its user meets it: what it exports, find_package and pkg-config from C and C++17, and
# the README's example. tests/install/run.sh BUILD_FOLDER; ends with `N passed, N failed`.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=launch/common.sh
. "$here/../../launch/common.sh"
[ $# = 1 ] || fail "usage: run.sh BUILD_FOLDER"
build_folder=$(cd "$1" && pwd) || exit 1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/moved
passed=0 failed=0

# step NAME COMMAND...: counts, and shows the end of the output of one that failed.
step() {
  local name=$1
  shift
  if "$@" >"$work/log" 2>&1; then
    passed=$((passed + 1))
    echo "ok    $name"
  else
    failed=$((failed + 1))
    echo "FAIL  $name"
    tail -n 20 "$work/log" | sed 's/^/      /'
  fi
}

# Installed in one place and moved to another: the package files must not remember the first.
install_and_move() {
  cmake --install "$build_folder" --prefix "$work/first" && mv "$work/first" "$prefix"
}

declared_functions() {
  cat "$prefix"/include/shardbag/*.h | tr '\n' ' ' | grep -oE 'SBAG_API [^;(]*\(' | grep -oE 'sbag_[a-z0-9_]+ *\(' |
    tr -d ' (' | sort -u
}

# exports_exactly NM_ARGUMENT...: the defined global names are the declared functions, no more and no fewer.
exports_exactly() {
  nm --defined-only -g "$@" 2>/dev/null | awk 'NF == 3 && $2 != "A" { print $3 }' | sort -u >"$work/exported"
  declared_functions >"$work/declared"
  [ -s "$work/declared" ] && diff "$work/declared" "$work/exported"
}

soname_is_versioned() {
  readelf -d "$shared" | grep -E 'SONAME.*libshardbag\.so\.[0-9]+\.[0-9]+\]'
}

build_by_find_package() {
  cmake -S "$here" -B "$work/consumer" -DCMAKE_PREFIX_PATH="$prefix" && cmake --build "$work/consumer" -j "$(nproc)"
}

build_by_pkg_config() {
  local flags
  flags=$(pkg-config --cflags --libs shardbag) || return 1
  # shellcheck disable=SC2086  # the flags are words
  cc -std=c11 "$here/example.c" -o "$work/c_pkg_config" $flags &&
    c++ -std=c++17 "$here/example.cpp" -o "$work/cxx_pkg_config" $flags
}

# The library says the version that its package files say.
version_agrees() {
  local flags
  flags=$(pkg-config --cflags --libs shardbag) || return 1
  echo '#include <shardbag/context.h>
#include <stdio.h>
int main(void) { return puts(sbag_version()) < 0; }' >"$work/version.c"
  # shellcheck disable=SC2086  # the flags are words
  cc "$work/version.c" -o "$work/version" $flags && [ "$("$work/version")" = "$(pkg-config --modversion shardbag)" ]
}

# runs_on_two_ranks PROGRAM: both ranks say so, in a line each.
runs_on_two_ranks() {
  timeout -k 5 60 mpirun --oversubscribe --bind-to none -n 2 "$1" </dev/null >"$work/said" 2>&1
  local code=$?
  cat "$work/said"
  [ $code = 0 ] && grep -q '^rank 0 of 2: ' "$work/said" && grep -q '^rank 1 of 2: ' "$work/said"
}

# The README's first block of C is the program that we compile here.
readme_has_example() {
  awk '/^```/ { if (inside) exit; inside = $0 == "```c"; next } inside' "$root/README.md" | diff - "$here/example.c"
}

step "install and move" install_and_move
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name shardbag.pc 2>/dev/null || true)")
export PKG_CONFIG_PATH
shared=$(find "$prefix" -name 'libshardbag.so')
archive=$(find "$prefix" -name 'libshardbag.a')
LD_LIBRARY_PATH=$(dirname "$shared")${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
step "the shared library exports the declared functions only" exports_exactly -D "$shared"
step "the static library too" exports_exactly "$archive"
step "the soname carries the version" soname_is_versioned
step "build by find_package" build_by_find_package
for program in c_shardbag c_shardbag_static cxx_shardbag cxx_shardbag_static; do
  step "$program on 2 ranks" runs_on_two_ranks "$work/consumer/$program"
done
step "build by pkg-config" build_by_pkg_config
step "the version is the package's" version_agrees
for program in c_pkg_config cxx_pkg_config; do
  step "$program on 2 ranks" runs_on_two_ranks "$work/$program"
done
step "the README's example is the compiled one" readme_has_example

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
