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
cmake -S "$here/../../examples" -B "$work/examples" -DCMAKE_PREFIX_PATH="$work/prefix" >/dev/null
cmake --build "$work/examples" >/dev/null
head -c 2000 "$here/../../LICENSE" >"$work/document.txt"
for run in 1 2; do  # the second from the file
  "$work/examples/ask_many" "$work/tiny.gguf" "$work/saved.kvc" "$work/document.txt" "Who?" "Why?" >"$work/answers$run"
done
cat "$work/answers1"
cmp "$work/answers1" "$work/answers2"
printf 'Who?\nWhy?\n' | "$work/examples/chat" "$work/tiny.gguf" "$work/document.txt" >"$work/chat"
grep -Eq '^[0-9]+ tokens in [0-9]+ rows$' "$work/chat"
"$work/examples/own_press" "$work/tiny.gguf" "$work/document.txt"
"$work/prefix/bin/curdkv" --version
library=$(find "$work/prefix" -name libcurdkv.so)
symbols=$(nm -DC --defined-only "$library")
grep -q ' curdkv::Executor::read' <<<"$symbols" || { echo "Executor::read is not among the library's symbols"; exit 1; }
if grep -E ' [A-Za-z] (ggml|llama)_' <<<"$symbols"; then
  echo "these symbols of ggml or libllama are visible"
  exit 1
fi
