#!/usr/bin/env bash
# Builds the tests of kernels for 64-bit ARM and runs them under qemu as on three processors: one with NEON's
# i8mm and dot products, one with dot products alone, and one with neither. For Debian 12 on another kind of
# processor, as root or with password-less sudo.
# usage: test_arm.sh [BUILD_DIR]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build-arm}

if ! dpkg --print-foreign-architectures | grep -qx arm64; then
  if [ "$(id -u)" = 0 ]; then dpkg --add-architecture arm64; else sudo -n dpkg --add-architecture arm64; fi
fi
scripts/deps.sh g++-aarch64-linux-gnu qemu-user lib{hwy,gtest,utf8proc,ssl,xxhash,edit}-dev:arm64
cmake -S . -B "$build" --toolchain "$PWD/cmake/aarch64.cmake" -DCURDKV_WERROR=ON
cmake --build "$build" -j "$(nproc)" --target kernel_tests
failed=
for cpu in max neoverse-n1 cortex-a72; do
  echo "== as on $cpu"
  QEMU_CPU=$cpu ctest --test-dir "$build" --output-on-failure -L kernels -j "$(nproc)" ||
    failed="$failed $cpu"
done
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
