#!/usr/bin/env bash
# The library must not print, exit, abort or read the environment: its objects may not even refer to what does.
# usage: quiet.sh LIBRARY.a
set -euo pipefail
refers=$(nm -uC "$1" | awk '{print $2, $3, $4}' | sort -u)
bad=$(grep -E '^(printf|fprintf|puts|putchar|perror|exit|_exit|abort|getenv|secure_getenv|setenv|stdout|stderr|std::c(out|err|log)|std::__ostream_insert)( |\(|$)' <<<"$refers" || true)
[ -n "$refers" ] || { echo "nm found nothing in $1"; exit 1; }
if [ -n "$bad" ]; then
  echo "the library refers to:"
  echo "$bad"
  exit 1
fi
echo "quiet: $(wc -l <<<"$refers") undefined symbols, none that prints, exits, aborts or reads the environment"
