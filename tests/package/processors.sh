#!/usr/bin/env bash
# A portable build answers on processors that QEMU stands in for, with the kernels that each is for, and says
# what is missing on one that is too old. An instruction that the processor lacks ends the program.
# usage: processors.sh BUILD_DIR
set -euo pipefail
command -v qemu-x86_64 >/dev/null || { echo "qemu-x86_64 is missing (package qemu-user)"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "$1"; cat "$work/err"; exit 1; }
"$1/make_tiny_model" "$work/tiny.gguf" 1024 2 32
head -c 300 "$(dirname "$0")/../../LICENSE" >"$work/document.txt"
on() { qemu-x86_64 -cpu "$1" "$curdkv" "${@:2}" 2>"$work/err"; }
curdkv=$1/curdkv

# answers CPU FEATURES: by kernels of ggml's that use these.
answers() {
  local uses type
  uses=$(on "$1" --version | sed -n 's/^  ggml uses *//p') || fail "$1: --version"
  [ "$uses" = "$2" ] || fail "$1: ggml uses $uses"
  for type in f16 q8_0; do
    on "$1" run -m "$work/tiny.gguf" -f "$work/document.txt" -q "What?" -n 8 --compression-ratio 0.5 \
      -ctk $type -ctv $type >"$work/answer" || fail "$1: run"
    [ -s "$work/answer" ] || fail "$1: no answer"
  done
  echo "$1: $uses"
}
answers Nehalem "SSE3 SSSE3 LLAMAFILE REPACK"
answers Haswell "SSE3 SSSE3 AVX AVX2 F16C FMA BMI2 LLAMAFILE REPACK"
on core2duo --version >/dev/null && fail "core2duo: it runs"
grep -q "^error: this build of curdkv is for a processor that has sse4_2" "$work/err" ||
  fail "core2duo: no error"
echo "core2duo: $(<"$work/err")"
