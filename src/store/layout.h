// How a saved context is laid out in its GGUF file: what writer and reader agree on.
// docs/context-format.md says it in full.
#pragma once

#include <cstdint>
#include <string>

#include "base/format.h"
#include "curdkv/press.h"

namespace curdkv::layout {

inline constexpr const char* kType = "kv-context";      // general.type
inline constexpr uint32_t kVersion = 2;                 // context.version
inline constexpr uint32_t kAlignment = 64;              // general.alignment: a cache line
inline constexpr const char* kChecksums = "checksums";  // the last tensor

// Of version 1, which differs in this alone, positions are those of all rows, a number each.
inline constexpr uint32_t kFirstVersion = 1;

inline std::string tensor(size_t block, size_t il,
                          const char* what) {  // what: "k", "v", "packed", "positions"
  return format("block.%zu.layer.%zu.%s", block, il, what);
}
inline std::string block_key(size_t block, const char* what) {
  return format("context.block.%zu.%s", block, what);
}
inline std::string fingerprint_key(const char* name) {
  return format("context.fingerprint.%s", name);
}

// How a head's rows are held, in the file's words; cache: as the cache type says.
struct RowTypeName {
  RowType type;
  const char* name;
};
inline constexpr RowTypeName kRowTypes[] = {{RowType::cache, "cache"}, {RowType::f16, "f16"},
                                            {RowType::q8, "q8"},       {RowType::q5, "q5"},
                                            {RowType::q4, "q4"},       {RowType::q3, "q3"}};
inline const char* name_of(RowType type) {
  for (const RowTypeName& t : kRowTypes) {
    if (t.type == type) return t.name;
  }
  return "";
}

}  // namespace curdkv::layout
