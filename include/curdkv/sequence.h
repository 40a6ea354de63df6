// A sequence: one text's rows in the cache, where it stands, and the logits after its last token. It is data
// only; an Executor computes with it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "curdkv/result.h"
#include "curdkv/token.h"

namespace curdkv {

struct SequenceState;

// How keys and values are held: llama.cpp's list. Quantised ones need head sizes that are multiples of 32.
enum class CacheType { f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1 };

// A cache type by the name llama.cpp gives it.
struct CacheTypeName {
  const char* name;
  CacheType type;
};
std::span<const CacheTypeName> cache_types();
const char* name_of(CacheType type);

// Owns its tail and shares its blocks, the contexts that were read, with its forks: their memory is freed
// with the last of them. Made by Executor::sequence(); may outlive the executor. One thread at a time may use
// a sequence and forks of it that share rows.
class Sequence {
 public:
  Sequence(Sequence&&) noexcept;
  Sequence& operator=(Sequence&&) noexcept;
  ~Sequence();

  // Another one that holds the same and goes its own way. No row is copied.
  Sequence fork() const;

  // Of the last token held, F32 [n_vocab], finite; empty before anything was computed.
  std::span<const float> logits() const;

  class Mark;
  Mark mark() const;
  // Forgets all tokens appended since. Errors: bad_argument if the mark is not of this sequence, or void, as
  // the sequence was cleared or compressed since, or more was read into it.
  Result<void> rewind(const Mark& mark);
  // Forgets the last n tokens appended. logits: those after the token that is then the last. Errors:
  // bad_argument if fewer were appended since the last reading.
  Result<void> drop_last(int64_t n, std::span<const float> logits);
  void clear();  // forgets everything and lets go of the cache

  int64_t n_tokens() const;       // true length, evicted tokens included
  int64_t next_position() const;  // the next token's, for RoPE: n_tokens() unless compressing renumbered
  int64_t longest_head() const;   // most rows a KV head holds
  std::vector<std::vector<int64_t>> cache_lengths() const;  // rows held, [layer][KV head]
  // Positions of what was read and is still held, [layer][KV head], ascending.
  std::vector<std::vector<std::vector<int32_t>>> kept_tokens() const;
  // Allocated for keys and values now, as the backends report it; what is shared counts for every sequence.
  // Their positions take four bytes a row beside them.
  size_t kv_bytes() const;

 private:
  friend class Executor;
  friend struct SequenceState;
  explicit Sequence(std::unique_ptr<SequenceState> state);
  std::unique_ptr<SequenceState> state_;
};

// Where a sequence stands. A value, which owns a copy of the logits there.
class Sequence::Mark {
 public:
  Mark() = default;

 private:
  friend struct SequenceState;
  int64_t n_appended_ = 0, n_tokens_ = 0, next_position_ = 0, n_compressed_ = 0;
  std::vector<float> logits_;
};

}  // namespace curdkv
