#!/usr/bin/env bash
# Installs into an empty folder, then builds and runs a program that knows the library by find_package alone.
# usage: installed.sh BUILD_DIR
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$1" --prefix "$work/prefix" >/dev/null
"$1/make_tiny_model" "$work/tiny.gguf"
cmake -S "$here/consumer" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" >/dev/null
cmake --build "$work/build" >/dev/null
"$work/build/consumer" "$work/tiny.gguf"
"$work/prefix/bin/curdkv" --version
leaked=$(nm -DC --defined-only "$work"/prefix/lib*/libcurdkv.so "$work"/prefix/lib*/*/libcurdkv.so 2>/dev/null | grep -E ' [A-Za-z] (ggml|llama)_' || true)
[ -z "$leaked" ] || { echo "symbols of ggml or libllama are visible:"; head -n 5 <<<"$leaked"; exit 1; }
