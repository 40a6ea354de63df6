#!/usr/bin/env bash
# Compiles ggml's CPU backend once for each kind of x86-64 processor and joins the results in one archive. It
# has the functions of ggml-cpu.h, each of which is that of the best variant for the processor at hand
# (cpu_variants.c).
# usage: cpu_variants.sh SOURCE_DIR WORK_DIR ARCHIVE COMPILER_FLAGS CMAKE_OPTION...
set -euo pipefail
mends=$(cd "$(dirname "$0")" && pwd)
source=$1 work=$2 archive=$3 flags=$4
shift 4
# GCC's unique symbols could not be made local.
unique=-fno-gnu-unique
"${CXX:-c++}" $unique -x c++ -fsyntax-only /dev/null 2>/dev/null || unique=
options=("$@" "-DCMAKE_C_FLAGS=$flags" "-DCMAKE_CXX_FLAGS=$flags $unique")
mkdir -p "$work"

# variant NAME FEATURE...: an object file in which all but the functions of ggml-cpu.h is local, so that
# nothing compiled for one variant, the standard library's templates neither, is linked with the rest of the
# program.
variant() {
  local name=$1 feature features=()
  shift
  for feature in AVX AVX2 BMI2 FMA F16C AVX_VNNI AVX512 AVX512_VBMI AVX512_VNNI AVX512_BF16 AMX_TILE \
    AMX_INT8; do
    case " $* " in
      *" $feature "*) features+=("-DGGML_$feature=ON") ;;
      *) features+=("-DGGML_$feature=OFF") ;;
    esac
  done
  cmake -S "$source" -B "$work/$name" "${options[@]}" "${features[@]}" -DCMAKE_OPTIMIZE_DEPENDENCIES=ON
  cmake --build "$work/$name" -j "$(nproc)" --target ggml-cpu
  ld -r --force-group-allocation -o "$work/$name.o" \
    --whole-archive "$(find "$work/$name" -name libggml-cpu.a)"
  if [ ! -f "$work/functions" ]; then
    comm -12 <(grep -oE '\bggml_[a-z0-9_]+ *\(' "$source/ggml/include/ggml-cpu.h" | tr -d ' (' | sort -u) \
      <(nm --defined-only -g "$work/$name.o" | awk '$2 == "T" { print $3 }' | sort) >"$work/functions"
  fi
  sed "s/.*/& ${name}_&/" "$work/functions" >"$work/$name.names"
  objcopy --keep-global-symbols="$work/functions" "$work/$name.o"
  objcopy --redefine-syms="$work/$name.names" "$work/$name.o"
  if objdump -h "$work/$name.o" | grep -E '\.(init_array|ctors)'; then
    echo "the variant $name has code that runs on every processor, before one is chosen"
    exit 1
  fi
}
v3=(AVX AVX2 BMI2 FMA F16C) v4=("${v3[@]}" AVX512 AVX512_VNNI)
variant sse42
variant haswell "${v3[@]}"
variant alderlake "${v3[@]}" AVX_VNNI
variant cascadelake "${v4[@]}"
variant zen4 "${v4[@]}" AVX512_VBMI AVX512_BF16
variant sapphirerapids "${v4[@]}" AVX512_VBMI AVX512_BF16 AMX_TILE AMX_INT8

{
  printf '#define GGML_CPU_FUNCTIONS(F)'
  sed 's/.*/ F(&)/' "$work/functions" | tr -d '\n'
  echo
} >"$work/cpu_functions.h"
"${CC:-cc}" -O2 -fPIC -fno-stack-protector -I "$work" -c "$mends/cpu_variants.c" -o "$work/cpu_variants.o"
rm -f "$archive"
ar rcs "$archive" "$work/cpu_variants.o" "$work"/{sse42,haswell,alderlake,cascadelake,zen4,sapphirerapids}.o
