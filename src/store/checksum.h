// Hashes of what files hold: XXH3, 64 bits. They find damage, not malice.
#pragma once

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstdint>
#include <string_view>

#include "base/format.h"

namespace curdkv {

inline uint64_t checksum(std::string_view bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

// The same of bytes that come bit by bit.
class Checksum {
 public:
  Checksum() { XXH3_64bits_reset(&state_); }
  void add(std::string_view bytes) { XXH3_64bits_update(&state_, bytes.data(), bytes.size()); }
  // With their length, so that no two lists of texts are alike.
  void add_text(std::string_view text) {
    add_number(text.size());
    add(text);
  }
  template <typename T>
  void add_number(T x) {
    add({reinterpret_cast<const char*>(&x), sizeof x});
  }
  uint64_t value() const { return XXH3_64bits_digest(&state_); }
  std::string hex() const { return format("%016llx", static_cast<unsigned long long>(value())); }

 private:
  XXH3_state_t state_;
};

}  // namespace curdkv
