#!/usr/bin/env bash
# The program is position-independent, its tables are read-only once it has started, stacks are guarded and calls of the
# C library checked.
# usage: hardened.sh PROGRAM
set -euo pipefail
fail() { echo "$1"; exit 1; }
readelf -hW "$1" | grep -q 'Type: *DYN' || fail "not position-independent"
readelf -lW "$1" | grep -q GNU_RELRO || fail "no RELRO"
readelf -dW "$1" | grep -qE 'BIND_NOW|Flags:.*NOW' || fail "symbols are not bound when the program starts"
symbols=$(nm -D --undefined-only "$1")
grep -q __stack_chk_fail <<<"$symbols" || fail "no stack protector"
grep -qE '__(mem|str|v?f?printf|v?snprintf|read)[a-z]*_chk' <<<"$symbols" || fail "no _FORTIFY_SOURCE"
grep -q __glibcxx_assert_fail <<<"$(nm -DC --undefined-only "$1")" || fail "no _GLIBCXX_ASSERTIONS"
