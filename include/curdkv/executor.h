// An executor: what computes. It has the threads, the kernels and the memory to work in, and serves any
// number of sequences of one model: reads contexts into them (compressing the cache on the way), appends
// questions and decoded tokens to many at once, and bounds what they hold.
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
#include "curdkv/sequence.h"

namespace curdkv {

class LayerObserver;

// What a context is read with on the CPU: ggml's products and attention, which give libllama's very bits; or
// our own attention, and products in 8 bits (quantised weights; AVX2, NEON's dot products or better), in BF16
// (quantised and BF16 weights; Intel's AMX), or by oneDNN in BF16 or F32 (any weights). automatic: BF16 with
// AMX, else 8 bits where the processor can, ggml's products for what is left. The others are errors where
// they cannot be. Questions' products are in 8 bits with automatic, int8 and amx, else ggml's.
enum class PrefillKernel { automatic, ggml, int8, onednn, amx };

// What is repeated of a context for presses that read it twice (KVzip).
using Repeats = std::function<Result<std::vector<Repeat>>(std::span<const Token> context)>;

struct ExecutorParams {
  int n_threads = 1;
  int64_t n_batch = 512;  // tokens computed at a time; rounded up to a multiple of 64
  int64_t n_ctx = 0;  // most tokens of a sequence, evicted ones included; 0: what the model was trained for
  CacheType type_k = CacheType::f16;
  CacheType type_v = CacheType::f16;
  PrefillKernel prefill_kernel = PrefillKernel::automatic;
  bool portable_attention = false;  // standard ggml ops on the CPU too; for comparison
  // A token decoded alone has the bits it has in company. Weights of which decoding's own products take every
  // type (Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 with AVX-512 VNNI) give them at any rate; others are then decoded
  // somewhat slower when alone.
  bool in_company = false;
  // When it turns true, the running call returns ErrorCode::cancelled soon; must outlive the executor.
  const std::atomic<bool>* stop = nullptr;
  // Engine::executor sets it. Without it, a press for which Press::needs_repeats() is true is an error.
  Repeats repeats = nullptr;
};

// Called with work done and all there is; in the same unit, layer-tokens.
using Progress = std::function<void(int64_t done, int64_t total)>;

// Called with a position (0 = first token of the sequence) and the logits after it, F32 [n_vocab].
using LogitsSink = std::function<void(int64_t position, std::span<const float> logits)>;

struct ReadOptions {
  Progress progress = nullptr;
  LogitsSink logits = nullptr;  // when set, every position's logits are computed and handed over
  // Diagnostic: the whole uncompressed cache is kept until the end of the reading and compressed then, as
  // other engines would. The result is the same; the memory is not.
  bool compress_at_end = false;
  // The last so many tokens are a question: it takes part in the scoring and is kept whole, beyond the
  // budget.
  int64_t n_question = 0;
  LayerObserver* observer = nullptr;  // looks at every layer before it is compacted; for analyses
  // The latest tokens' queries that the sequence is to keep from now on, so that presses which look at them
  // can bound its cache while it is generated (Press::n_recent_queries).
  int64_t n_recent_queries = 0;
  // When it turns true, this reading ends with ErrorCode::cancelled soon; must outlive it.
  const std::atomic<bool>* stop = nullptr;
};

struct ReadReport {
  int64_t n_tokens = 0;
  double prefill_ms = 0;   // all of it, compression included
  double compress_ms = 0;  // scoring, selecting and compacting
  // What the sequence's cache takes after the reading, and would take with nothing evicted.
  size_t kv_bytes = 0, kv_bytes_full = 0;
  // Cache, one layer's uncompressed keys and values, hidden states: the most at once.
  size_t kv_bytes_peak = 0;
  size_t hidden_bytes = 0;  // of which hidden states
};

struct ReadTarget {
  Sequence* sequence;
  Press press;
};

// New tokens of a sequence; the tokens and the sink must outlive the call they are given to.
struct Span {
  Sequence* sequence;
  std::span<const Token> tokens;     // one: decoded; several: a question
  const LogitsSink* sink = nullptr;  // gets the logits after each
  // Several are decoded, too: they have the bits of one after the other, for checking drafts of an answer.
  bool decoded = false;
  // When it turns true before the tokens are through, the sequence stays as it was and the others go on.
  // Among questions that go together it is looked at before they begin.
  const std::atomic<bool>* stop = nullptr;
};

// Work on sequences that is done bit by bit, a chunk of one layer at a time, so that steps for others can go
// on in between. Made by Executor::begin_read() and begin_compress(). Its sequences must not be used before
// it is done; then they change at once. Dropped before, or ended by an error, it leaves them as they were.
// Must not outlive its executor, and is used by one thread at a time with it.
class Job {
 public:
  // The next bit; true when all is done, and ever after. Errors: as of the call that Executor has for the
  // whole; once there was one, it is what every call returns.
  Result<bool> advance();
  std::span<const ReadReport> reports() const;  // one for each sequence, once done

  struct Impl;
  explicit Job(std::unique_ptr<Impl> impl);
  Job(Job&&) noexcept;
  Job& operator=(Job&&) noexcept;
  ~Job();

 private:
  std::unique_ptr<Impl> impl_;
};

// Owns its threads and working memory and shares the model, which lives as long as any executor of it. One
// thread at a time may use an executor; several executors may share a Model and run at once.
class Executor {
 public:
  // Errors: bad_argument (n_threads < 1, a cache type that does not fit the model, a kernel that this machine
  // has not), out_of_memory.
  static Result<Executor> create(const Model& model, const ExecutorParams& params = {});
  Executor(Executor&&) noexcept;
  Executor& operator=(Executor&&) noexcept;
  ~Executor();

  Sequence sequence() const;  // an empty one, of the executor's model and cache types

  // Runs the tokens through the model layer by layer, behind what the sequence holds already, and keeps what
  // the press says of each layer's keys and values of theirs: a document, a later one, a turn of a chat. What
  // was held stays. Afterwards logits() are those after the last token. On error, or when cancelled, the
  // sequence is as before. Errors: bad_argument (no tokens, a sequence of another model or cache type, a
  // press that needs repeats where the executor has none), bad_input (the context is full), corrupt (weights
  // that give no numbers), out_of_memory, cancelled; what ExecutorParams::repeats returns.
  Result<ReadReport> read(Sequence& sequence, std::span<const Token> tokens, const Press& press,
                          const ReadOptions& options = {});

  // Reads one context into several empty sequences, each with a press of its own, for the work of reading it
  // once: every layer's keys and values are compacted into each of the caches. Sequences, results and errors
  // as of read(). Reports, one per target, give times as if the press were alone, and the peak of all
  // together.
  Result<std::vector<ReadReport>> read_together(std::span<const ReadTarget> targets,
                                                std::span<const Token> tokens,
                                                const ReadOptions& options = {});

  // Appends every span's tokens behind its sequence's cache, positions going on from the true length. Decoded
  // tokens go through the model together, weights being read once for all, wherever its layers lie on the
  // CPU; questions do where decodes_drafts() and one batch has room for them. The result depends neither on
  // the company (see ExecutorParams::in_company) nor on threads. On error, or when cancelled, no sequence has
  // changed. Errors: bad_argument (a sequence twice, or of another model or cache type, no tokens), bad_input
  // (the context is full), corrupt (weights that give no numbers), out_of_memory, cancelled.
  Result<void> step(std::span<const Span> spans);

  // Whether decoding several tokens of a sequence takes one graph instead of one after the other: where all
  // weights are of types that decoding's own products take.
  bool decodes_drafts() const;

  // read(), read_together() and compress() as jobs. Errors: as theirs, as far as they can be told before.
  Result<Job> begin_read(std::span<const ReadTarget> targets, std::span<const Token> tokens,
                         const ReadOptions& options = {});
  Result<Job> begin_compress(Sequence& sequence, const Press& press, int64_t budget);

  // step() for one sequence. sink: as in Span, may be empty.
  Result<void> extend(Sequence& sequence, std::span<const Token> tokens, const LogitsSink& sink = {});

  // Evicts what each KV head holds beyond its `budget` best rows by the press's scorer, so that a cache can
  // be kept within bounds while tokens are generated. Heads are bounded one by one, whatever the press's
  // allocation. A press that keeps sinks and the latest tokens only (streamingllm) has positions renumbered,
  // so that they do not grow beyond the budget. Marks taken before are void. Errors: as
  // Press::check_decode_budget; on any error the sequence holds what it held.
  Result<void> compress(Sequence& sequence, const Press& press, int64_t budget);

  int64_t n_ctx() const;                         // most positions of a sequence
  size_t kv_bytes_full(int64_t n_tokens) const;  // what n_tokens take with nothing evicted

  struct Impl;

 private:
  explicit Executor(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace curdkv
