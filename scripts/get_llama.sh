#!/usr/bin/env bash
# Fetches the pinned llama.cpp source (unless a source tree is given), mends it (cmake/llama/), builds libllama, ggml,
# llama.cpp's common library and the cpp-httplib that it brings into the cache, and prints the prefix they are
# installed under. Quick when the cache has them.
# usage: get_llama.sh [--address-sanitizer | --thread-sanitizer | --portable] [--toolchain FILE] [SOURCE_DIR]
# --portable: for any x86-64 that has SSE4.2 (x86-64-v2), with ggml's kernels for what else the processor at hand has.
# FILE: CMake's toolchain file, for another kind of processor than this machine's.
# CURDKV_CACHE: the cache's folder (default: ~/.cache/curdkv). CURDKV_GGML_OPTIONS: further CMake options for ggml,
# for example "-DGGML_CUDA=ON".
set -euo pipefail

version=0.3.36  # of llama-cpp-python, whose source archive carries llama.cpp of 2026-10 with ggml 0.25.3
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
archive=llama_cpp_python-$version.tar.gz
mends=$(cd "$(dirname "$0")/../cmake/llama" && pwd)

flavour=release
outside_ggml=
# Exceptions in C, too: a failed assertion about a malformed vocabulary leaves ggml as one. ggml's kernels for
# AVX512-FP16 add up in F16 and leave heads of 64 dimensions to a scalar loop (GGML_F16_STEP is 128): without the
# macro it takes those for AVX-512, which are several times as fast there and more exact.
flags="-fexceptions -U__AVX512FP16__ -fstack-protector-strong"
case ${1:-} in
  --address-sanitizer)
    flavour=asan flags="$flags -fsanitize=address -fno-omit-frame-pointer"
    outside_ggml=-O1  # half the time of -O3, and most of what tests compute is ggml's
    shift
    ;;
  --thread-sanitizer) flavour=tsan flags="$flags -fsanitize=thread -fno-omit-frame-pointer -DGGML_TSAN_ENABLED"; shift ;;
  --portable) flavour=portable; shift ;;
esac
case $flavour in release | portable) flags="$flags -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2" ;; esac
# The build is for this very processor, unless it is portable or for another kind, and compiler, and these mends;
# another one gets a build of its own.
native=ON
cpu=$(grep -m1 -E '^(flags|Features)' /proc/cpuinfo 2>/dev/null || uname -m)
variants=()
toolchain=()
if [ $flavour = portable ]; then
  native=OFF cpu=x86-64-v2 variants=("$mends"/cpu_variants.*)
fi
if [ "${1:-}" = --toolchain ]; then
  native=OFF cpu=$(cat "$2")
  toolchain=("$1" "$2")
  shift 2
fi
source=${1:-}
cache=${CURDKV_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/curdkv}
mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9  # one fetch or build at a time

say() { echo "curdkv: $*" >&2; }

options="-DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DCMAKE_POSITION_INDEPENDENT_CODE=ON
  -DGGML_NATIVE=$native -DGGML_OPENMP=OFF -DGGML_RPC=ON -DLLAMA_BUILD_COMMON=ON -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF
  -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF
  -DCURDKV_OUTSIDE_GGML=$outside_ggml
  ${CURDKV_GGML_OPTIONS:-}"
installed=2  # one more whenever what is installed below changes
key=$({
  echo "$version $installed $flavour $flags $options $source $cpu $("${CXX:-c++}" --version | head -n 1)"
  cat "$mends"/*.h "$mends"/*.patch "${variants[@]}"
} | sha256sum | cut -c1-12)
prefix=$cache/llama-$version-$flavour-$key

if [ -f "$prefix/.complete" ]; then
  echo "$prefix"
  exit 0
fi

# Brings the archive into the cache. pip compares the SHA-256 before it does anything with what it has fetched. It then
# asks the archive's build backend for the package's name, which would be fetched as well, and run: a backend of our
# own that only knows the name stands in for it, so that nothing of a download is ever executed.
fetch() {
  say "fetching the llama.cpp source ($archive, 77 MB)"
  mkdir -p "$work/backend/scikit_build_core" "$work/download"
  touch "$work/backend/scikit_build_core/__init__.py"
  cat >"$work/backend/scikit_build_core/build.py" <<PY
import os

def prepare_metadata_for_build_wheel(folder, settings=None):
    name = "llama_cpp_python-$version.dist-info"
    os.mkdir(os.path.join(folder, name))
    with open(os.path.join(folder, name, "METADATA"), "w") as f:
        f.write("Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: $version\n")
    return name
PY
  echo "llama-cpp-python==$version --hash=sha256:$sha256" >"$work/requirements.txt"
  PYTHONPATH=$work/backend python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-cache-dir \
    --no-binary llama-cpp-python --no-build-isolation --require-hashes --dest "$work/download" \
    -r "$work/requirements.txt" >&2 || { say "$archive could not be fetched, or does not have the expected SHA-256"; exit 1; }
  mv "$work/download/$archive" "$cache/$archive"
}
intact() { echo "$sha256  $cache/$archive" | sha256sum --check --status 2>/dev/null; }

work=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/llama.cpp"
if [ -n "$source" ]; then
  cp -r "$source/." "$work/llama.cpp"
else
  intact || fetch
  intact || { say "$archive does not have the expected SHA-256"; exit 1; }
  tar -xzf "$cache/$archive" -C "$work/llama.cpp" --strip-components=3 "llama_cpp_python-$version/vendor/llama.cpp"
fi
rm -rf "$work/llama.cpp/.git"  # of a submodule that is not there
for patch in "$mends"/*.patch; do
  # Not as part of a repository that the cache may happen to lie in.
  (cd "$work/llama.cpp" && GIT_CEILING_DIRECTORIES=$work git apply "$patch") ||
    { say "$(basename "$patch") does not fit ${source:-$archive}"; exit 1; }
done
say "building libllama and ggml ($flavour; some minutes, once)"
log=$work/build.log
flags="$flags -include $work/llama.cpp/curdkv_force_include.h"
cp "$mends/force_include.h" "$work/llama.cpp/curdkv_force_include.h"
{
  # shellcheck disable=SC2086
  cmake -S "$work/llama.cpp" -B "$work/build" "${toolchain[@]}" $options -DCMAKE_C_FLAGS="$flags" \
    -DCMAKE_CXX_FLAGS="$flags" -DCMAKE_INSTALL_PREFIX="$work/install" &&
  cmake --build "$work/build" -j "$(nproc)" --target llama ggml llama-common cpp-httplib &&
  cmake --install "$work/build" &&
  if [ $flavour = portable ]; then
    # shellcheck disable=SC2086
    "$mends/cpu_variants.sh" "$work/llama.cpp" "$work/variants" "$work/install/lib/libggml-cpu.a" "$flags" \
      $options
  fi
} >"$log" 2>&1 || { tail -n 30 "$log" >&2; say "building llama.cpp failed"; exit 1; }
# The common library and cpp-httplib have no packages of their own: their archives, headers and templates go beside the
# others.
common=$work/install/include/llama-common
mkdir -p "$common/jinja" "$common/nlohmann" "$work/install/share/llama.cpp"
find "$work/build" \( -name 'libllama-common*.a' -o -name libcpp-httplib.a \) -exec cp {} "$work/install/lib/" \;
mkdir -p "$work/install/include/cpp-httplib"
cp "$work/llama.cpp"/vendor/cpp-httplib/httplib.h "$work/install/include/cpp-httplib/"
cp "$work/llama.cpp"/common/*.h "$common/"
cp "$work/llama.cpp"/common/jinja/*.h "$common/jinja/"
cp "$work/llama.cpp"/vendor/nlohmann/* "$common/nlohmann/"
cp -r "$work/llama.cpp/models/templates" "$work/install/share/llama.cpp/"
touch "$work/install/.complete"
rm -rf "$prefix"
mv "$work/install" "$prefix"
echo "$prefix"
