#!/usr/bin/env bash
# Builds the reader of saved contexts for libFuzzer, with AddressSanitizer and UBSan, and runs it. Needs clang;
# ggml is linked as it was built for BUILD_DIR.
# usage: run.sh BUILD_DIR [libFuzzer's options, e.g. -runs=1000000]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
build=$1
shift
prefix=$(sed -n 's/^CURDKV_LLAMA_PREFIX:INTERNAL=//p' "$build/CMakeCache.txt")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$here/corpus" "$work/corpus"
cp "$root"/tests/goldens/context_v*.kvc "$work/corpus"
clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined \
  -DHWY_COMPILE_ONLY_STATIC -I "$root/src" -I "$root/include" -I "$root/tests" -I "$prefix/include" \
  "$here/context_fuzz.cpp" "$root"/src/store/{context_file,context_metadata,row_check}.cpp "$root"/src/cache/*.cpp \
  "$root"/src/base/*.cpp "$root/src/model/gguf_file.cpp" "$root/src/io/file_kind.cpp" \
  -L "$prefix/lib" -lllama -lggml -lggml-cpu -lggml-rpc -lggml-base -lhwy -lpthread -ldl -o "$work/fuzz"
"$work/fuzz" -max_len=65536 -rss_limit_mb=1024 "$@" "$work/corpus"
