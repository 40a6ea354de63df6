#!/usr/bin/env bash
# Fetches the pinned llama.cpp source (unless a source tree is given), builds libllama and ggml into the cache and
# prints the prefix they are installed under. Quick when the cache has them.
# usage: get_llama.sh [--address-sanitizer] [SOURCE_DIR]
# CURDKV_CACHE: the cache's folder (default: ~/.cache/curdkv). CURDKV_GGML_OPTIONS: further CMake options for ggml,
# for example "-DGGML_CUDA=ON".
set -euo pipefail

version=0.3.36  # of llama-cpp-python, whose source archive carries llama.cpp of 2026-10 with ggml 0.25.3
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
archive=llama_cpp_python-$version.tar.gz

flavour=release
# Exceptions in C, too: a failed assertion about a malformed vocabulary leaves ggml as one. ggml's kernels for
# AVX512-FP16 add up in F16 and leave heads of 64 dimensions to a scalar loop (GGML_F16_STEP is 128): without the
# macro it takes those for AVX-512, which are several times as fast there and more exact.
flags="-fexceptions -U__AVX512FP16__"
if [ "${1:-}" = --address-sanitizer ]; then
  flavour=asan
  flags="$flags -fsanitize=address -fno-omit-frame-pointer"
  shift
fi
source=${1:-}
cache=${CURDKV_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/curdkv}
mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9  # one fetch or build at a time

say() { echo "curdkv: $*" >&2; }

options="-DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DCMAKE_POSITION_INDEPENDENT_CODE=ON
  -DGGML_NATIVE=ON -DGGML_OPENMP=OFF -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF
  -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF ${CURDKV_GGML_OPTIONS:-}"
# The build is for this very processor and compiler; another one gets a build of its own.
cpu=$(grep -m1 -E '^(flags|Features)' /proc/cpuinfo 2>/dev/null || uname -m)
key=$(echo "$version $flavour $flags $options $source $cpu $("${CXX:-c++}" --version | head -n 1)" | sha256sum | cut -c1-12)
prefix=$cache/llama-$version-$flavour-$key

if [ -f "$prefix/.complete" ]; then
  echo "$prefix"
  exit 0
fi

work=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
if [ -z "$source" ]; then
  if ! echo "$sha256  $cache/$archive" | sha256sum --check --status 2>/dev/null; then
    say "fetching the llama.cpp source ($archive, 77 MB)"
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-python \
      --dest "$work" "llama-cpp-python==$version" >&2
    echo "$sha256  $work/$archive" | sha256sum --check --status || { say "$archive does not have the expected SHA-256"; exit 1; }
    mv "$work/$archive" "$cache/$archive"
  fi
  tar -xzf "$cache/$archive" -C "$work"
  source=$work/llama_cpp_python-$version/vendor/llama.cpp
fi
say "building libllama and ggml ($flavour; a few minutes, once)"
log=$work/build.log
{
  # shellcheck disable=SC2086
  cmake -S "$source" -B "$work/build" $options -DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags" \
    -DCMAKE_INSTALL_PREFIX="$work/install" &&
  cmake --build "$work/build" -j "$(nproc)" --target llama ggml &&
  cmake --install "$work/build"
} >"$log" 2>&1 || { tail -n 30 "$log" >&2; say "building llama.cpp failed"; exit 1; }
touch "$work/install/.complete"
rm -rf "$prefix"
mv "$work/install" "$prefix"
echo "$prefix"
