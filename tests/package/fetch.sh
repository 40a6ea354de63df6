#!/usr/bin/env bash
# Nothing of a fetched source archive is run: neither of one with another SHA-256 nor, as pip would ask them for the
# archive's name, build tools fetched along with it.
# usage: fetch.sh SOURCE_DIR
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
version=$(sed -n 's/^version=\([0-9.]*\).*/\1/p' "$1/scripts/get_llama.sh")
name=llama_cpp_python-$version
mkdir -p "$work/$name" "$work/cache"
for file in setup.py own_backend.py; do echo "open('$work/ran', 'w')" >"$work/$name/$file"; done
cat >"$work/$name/pyproject.toml" <<TOML
[build-system]
requires = []
build-backend = "own_backend"
backend-path = ["."]
TOML
tar -C "$work" -czf "$work/$name.tar.gz" "$name"
export CURDKV_CACHE=$work/cache PIP_NO_INDEX=1 PIP_FIND_LINKS=$work
if "$1/scripts/get_llama.sh" >"$work/out" 2>"$work/err"; then
  echo "an archive with another SHA-256 was taken"
  exit 1
fi
[ -e "$work/ran" ] && { echo "code of an archive with another SHA-256 was run"; exit 1; }
grep -q "does not have the expected SHA-256" "$work/err" || { cat "$work/err"; exit 1; }

# The same archive under its right SHA-256: pip takes it, and asks our backend, not the archive's.
mkdir -p "$work/tree/scripts"
cp -r "$1/cmake" "$work/tree/"
cp "$1/scripts/get_llama.sh" "$work/tree/scripts/"
sed -i 's/^build-backend.*/build-backend = "scikit_build_core.build"/; /backend-path/d' "$work/$name/pyproject.toml"
tar -C "$work" -czf "$work/$name.tar.gz" "$name"
sum=$(sha256sum <"$work/$name.tar.gz" | cut -d' ' -f1)
sed -i "s/^sha256=.*/sha256=$sum/" "$work/tree/scripts/get_llama.sh"
bash "$work/tree/scripts/get_llama.sh" >"$work/out" 2>"$work/err" && { echo "an archive without source was built"; exit 1; }
[ -e "$work/ran" ] && { echo "code of the archive was run"; exit 1; }
[ -s "$work/cache/$name.tar.gz" ] || { echo "the archive did not reach the cache:"; cat "$work/err"; exit 1; }
echo "fetched, checked, nothing run"
