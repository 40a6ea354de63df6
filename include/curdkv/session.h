// A session: one sequence over one model. Prefill a context (compressing its KV cache on the way), extend it
// by questions, read logits, go back to a mark. Not thread-safe; several sessions may share one Model.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "curdkv/model.h"
#include "curdkv/press.h"
#include "curdkv/result.h"

namespace curdkv {

using Token = int32_t;

class LayerObserver;

// How keys and values are held: llama.cpp's list. Quantised ones need head sizes that are multiples of 32.
enum class CacheType { f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1 };

// A cache type by the name llama.cpp gives it.
struct CacheTypeName {
  const char* name;
  CacheType type;
};
std::span<const CacheTypeName> cache_types();

// What a context is read with on the CPU: ggml's products and attention, which give libllama's very bits; or
// our own attention, and products in 8 bits (quantised weights, AVX-512 VNNI) or by oneDNN in BF16 or F32
// (any weights). automatic: 8 bits where the processor can, ggml's products for what is left. The others are
// errors where they cannot be.
enum class PrefillKernel { automatic, ggml, int8, onednn };

struct SessionParams {
  int n_threads = 1;
  int64_t n_batch = 512;  // tokens computed at a time; rounded up to a multiple of 64
  int64_t n_ctx = 0;      // most tokens, evicted ones included; 0: what the model was trained for
  CacheType type_k = CacheType::f16;
  CacheType type_v = CacheType::f16;
  PrefillKernel prefill_kernel = PrefillKernel::automatic;
  bool portable_attention = false;  // standard ggml ops on the CPU too; for comparison
  // When it turns true, the running call returns ErrorCode::cancelled soon; must outlive the session.
  const std::atomic<bool>* stop = nullptr;
};

// Called with work done and all there is; in the same unit, layer-tokens.
using Progress = std::function<void(int64_t done, int64_t total)>;

// Called with a position (0 = first token of the sequence) and the logits after it, F32 [n_vocab].
using LogitsSink = std::function<void(int64_t position, std::span<const float> logits)>;

// A stretch of the context, and the tokens that ask for it to be repeated and then repeat it (KVzip).
// Prompt::repeats makes them.
struct Repeat {
  int64_t first = 0, n = 0;  // tokens of the context
  std::vector<Token> tokens;
};

struct PrefillOptions {
  Progress progress;
  LogitsSink logits;  // when set, every position's logits are computed and handed over
  // Diagnostic: the whole uncompressed cache is kept until the end of the prefill and compressed then, as
  // other engines would. The result is the same; the memory is not.
  bool compress_at_end = false;
  // The last so many tokens are a question: it takes part in the scoring and is kept whole, beyond the
  // budget.
  int64_t n_question = 0;
  std::vector<Repeat> repeats;        // for presses that read the context twice; see needs_repeats()
  LayerObserver* observer = nullptr;  // looks at every layer before it is compacted; for analyses
};

struct PrefillReport {
  int64_t n_tokens = 0;
  double prefill_ms = 0;   // all of it, compression included
  double compress_ms = 0;  // scoring, selecting and compacting
  size_t kv_bytes_peak =
      0;  // cache, one layer's uncompressed keys and values, hidden states: the most at once
  size_t hidden_bytes = 0;  // of which hidden states
};

class Session;

struct PrefillTarget {
  Session* session;
  Press press;
};

// Reads one context into several sessions, each with a press of its own, for the work of reading it once:
// every layer's keys and values are compacted into each of the caches. Sessions, results and errors as of
// Session::prefill, all of one model and one cache type; the first one computes. Reports, one per target,
// give times as if the press were alone, and the peak of all together.
Result<std::vector<PrefillReport>> prefill_together(std::span<const PrefillTarget> targets,
                                                    std::span<const Token> tokens,
                                                    const PrefillOptions& options = {});

class Session {
 public:
  struct Impl;

  // Errors: bad_argument (n_threads < 1, a cache type that does not fit the model), out_of_memory.
  static Result<Session> create(const Model& model, const SessionParams& params);
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  // Runs the context through the model layer by layer and keeps what the press says of each layer's cache.
  // The session must be empty. Afterwards logits() are those after the last token. On error, or when
  // cancelled, the session is empty again.
  Result<PrefillReport> prefill(std::span<const Token> tokens, const Press& press,
                                const PrefillOptions& options = {});

  // Appends tokens behind the cache, positions going on from the true length. `sink` as in PrefillOptions. On
  // error, or when cancelled, whole batches may have been appended; rewind() to a mark taken before.
  Result<void> extend(std::span<const Token> tokens, const LogitsSink& sink = {});

  // Evicts what each KV head holds beyond its `budget` best rows by the press's scorer, so that a cache can
  // be kept within bounds while tokens are generated. Heads are bounded one by one, whatever the press's
  // allocation. A press that keeps sinks and the latest tokens only
  // (streamingllm) has positions renumbered, so that they do not grow beyond the budget. Marks taken before
  // are void. Errors: as Press::check_decode_budget; on any error the session holds what it held.
  Result<void> compress(const Press& press, int64_t budget);

  // Of the last token held, F32 [n_vocab], finite; empty before anything was computed.
  std::span<const float> logits() const;

  class Mark;
  Mark mark() const;
  Result<void> rewind(const Mark& mark);  // forgets all tokens appended since
  void clear();                           // forgets everything and frees the cache

  int64_t n_tokens() const;       // true length of the sequence, evicted tokens included
  int64_t next_position() const;  // the next token's, for RoPE: n_tokens() unless compress() renumbered
  int64_t longest_head() const;   // most rows a KV head holds
  int64_t n_ctx() const;          // most positions
  std::vector<std::vector<int64_t>> cache_lengths() const;  // rows held, [layer][KV head]
  // Positions the press kept, [layer][KV head], ascending; empty for "none".
  const std::vector<std::vector<std::vector<int32_t>>>& kept_tokens() const;
  size_t kv_bytes() const;                       // allocated for the cache now, as the backends report it
  size_t kv_bytes_full(int64_t n_tokens) const;  // what n_tokens take with nothing evicted

 private:
  friend Result<std::vector<PrefillReport>> prefill_together(std::span<const PrefillTarget>,
                                                             std::span<const Token>, const PrefillOptions&);
  friend class BatchDecoder;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

class Session::Mark {
 public:
  Mark() = default;

 private:
  friend class Session;
  int64_t n_appended_ = 0, n_tokens_ = 0, next_position_ = 0, n_compressed_ = 0;
  std::vector<float> logits_;
};

}  // namespace curdkv
