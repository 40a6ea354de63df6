#!/usr/bin/env bash
# Makes sure the Debian packages the build needs are there: installs them when run as root or with password-less
# sudo, otherwise says which to install. Other systems: the same tools and libraries under their own names.
# usage: deps.sh [FURTHER_PACKAGE]...
set -euo pipefail

packages=(g++ cmake make pkg-config python3 python3-pip libcli11-dev nlohmann-json3-dev libgtest-dev libhwy-dev
  libeigen3-dev libutf8proc-dev libboost-math-dev libssl-dev libxxhash-dev libedit-dev libdnnl-dev ocl-icd-opencl-dev curl
  "$@")
command -v dpkg-query >/dev/null || exit 0  # no Debian: CMake will say what it misses

# Also where packages of several architectures are: a name without one is this machine's.
native=$(dpkg --print-architecture)
installed() {
  local arch=$native
  case $1 in *:*) arch=${1#*:} ;; esac
  dpkg-query -W -f '${Architecture} ${db:Status-Status}\n' "$1" 2>/dev/null | grep -qxE "(all|$arch) installed"
}

missing=()
for p in "${packages[@]}"; do
  # A python3 or cmake that did not come from Debian will do as well.
  case $p in
    g++ | cmake | make | python3 | curl) command -v "$p" >/dev/null && continue ;;
    pkg-config) command -v pkg-config >/dev/null && continue ;;
    python3-pip) python3 -m pip --version >/dev/null 2>&1 && continue ;;
  esac
  installed "$p" || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" = 0 ]; then
  as_root=()
elif sudo -n true 2>/dev/null; then
  as_root=(sudo -n)
else
  echo "curdkv: packages are missing; please run: sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "curdkv: installing ${missing[*]}" >&2
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
