// An engine under measurement: it reads a context, takes more tokens, and goes back.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "curdkv/executor.h"

namespace curdkv::measure {

struct ReadTimes {
  double ms = 0;           // of reading, compression included
  double compress_ms = 0;  // of which scoring, selecting and compacting
};

class Engine {
 public:
  virtual ~Engine() = default;

  virtual std::string name() const = 0;  // "curdkv" or "llama.cpp"
  virtual const Press& press() const = 0;

  virtual Result<ReadTimes> read(std::span<const Token> tokens) = 0;  // a context, from nothing
  virtual Result<void> append(std::span<const Token> tokens) = 0;     // one by one: decoding
  virtual void remember() = 0;                                        // where rewind() goes back to
  virtual Result<void> rewind() = 0;
  virtual void clear() = 0;
  virtual void rest() {}  // keeps no processor busy until the next call

  virtual Sequence* sequence() { return nullptr; }  // ours alone have one

  virtual int64_t n_rows() const = 0;   // of K, and as many of V, in all layers and KV heads
  virtual size_t kv_bytes() const = 0;  // allocated for them
};

// One sequence of ours with a press of its own; the executor must outlive it.
std::unique_ptr<Engine> make_curdkv(Executor& executor, const Press& press);
// libllama with the same file, threads and cache types. Errors: unsupported if it does not load the model.
Result<std::unique_ptr<Engine>> make_llama_cpp(const Model& model, const ExecutorParams& params);

// Reads one context into all of them; engines of ours share one reading, as nothing is timed here.
Result<void> read_untimed(Executor& executor, std::span<Engine* const> engines,
                          std::span<const Token> tokens);

}  // namespace curdkv::measure
