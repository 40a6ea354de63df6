#!/usr/bin/env bash
# with_packages.sh PACKAGE... -- COMMAND...: runs a test with Python packages from PyPI, which are installed into the
# cache once.
set -euo pipefail
packages=()
while [ "$1" != -- ]; do packages+=("$1"); shift; done
shift
cache=${CURDKV_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/curdkv}
venv=$cache/python-$(echo "${packages[*]} $(python3 -V)" | sha256sum | cut -c1-12)
mkdir -p "$cache"
exec 9>"$cache/.python-lock"
flock 9
if [ ! -f "$venv/.complete" ]; then
  rm -rf "$venv"
  # Debian's python3 may come without the module that makes environments; pip's own way of keeping packages apart.
  python3 -m pip install --quiet --disable-pip-version-check --target "$venv" "${packages[@]}" >&2
  touch "$venv/.complete"
fi
flock -u 9
PYTHONPATH=$venv exec "$@"
