// Saved contexts: what was read once, kept in a file and asked again later. The file is mapped, not read: it
// opens in milliseconds, and processes that have it open share its pages. docs/context-format.md describes
// it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "curdkv/engine.h"
#include "curdkv/press.h"
#include "curdkv/result.h"

namespace curdkv {

struct ContextDocument {
  std::string name;
  int64_t n_bytes = 0;
  std::string sha256;  // hexadecimal
};

// What a file tells of its context beside the rows; all the caller's word. Everything may be left out.
struct ContextOrigin {
  std::vector<ContextDocument> documents = {};
  std::span<const Token> tokens = {};  // all that the sequence holds, evicted ones included; or none
  Press press = {};
  // Whether the logits after the last token are kept, too: F32 [n_vocab], needed only to generate without a
  // question.
  bool logits = true;
};

// What is in a file; known without a model.
struct ContextInfo {
  std::string path;
  int64_t format_version = 0;
  std::string program;  // the version of curdkv that wrote it
  int64_t file_bytes = 0;

  std::string architecture, model_name, quantization;  // of the model, as in ModelInfo
  bool chat = false;                                   // whether it was read through a chat template
  CacheType type_k = CacheType::f16, type_v = CacheType::f16;

  std::string press;  // as it would be asked for
  std::map<std::string, std::string> press_settings;
  double compression_ratio = 0;
  std::optional<int64_t> budget, budget_bytes;
  uint64_t seed = 0;

  std::vector<ContextDocument> documents;
  std::vector<Token> tokens;               // as in ContextOrigin
  int64_t n_tokens = 0;                    // true length, evicted tokens included
  int64_t next_position = 0;               // of RoPE
  std::vector<std::vector<int64_t>> rows;  // kept, [layer][KV head]
  int64_t kv_bytes = 0;                    // keys and values as they lie in the file
  int64_t kv_bytes_full = 0;               // with nothing evicted

  // Rows of all heads by the names of their keys' and values' types: the cache's, or those of packed rows.
  std::map<std::string, int64_t> rows_k, rows_v;
};

// Writes what a sequence holds. The file is whole or not there: an old one stays until the new one is on the
// disk. A new one can be read by its owner alone. The cache is not held twice meanwhile.
// Errors: bad_argument if the sequence is of another model, or empty, or the tokens are not as many as it
// holds; io with the system's reason; out_of_memory.
Result<void> save_context(const std::string& path, const Engine& engine, const Sequence& sequence,
                          const ContextOrigin& origin = {});

// A context that was opened. Copies share the mapping. Immutable: any number of threads may use it at once.
class SavedContext {
 public:
  const ContextInfo& info() const;

  // Whether it can be continued with the engine's model, tokenizer and prompt. Errors: bad_input, naming what
  // differs and the mend.
  Result<void> check(const Engine& engine) const;
  // The same of a model file, without its weights being loaded, and of the prompt it is used with. Errors:
  // also as of Model::inspect.
  Result<void> check(const std::string& model_path, const Prompt& prompt) const;

  // A sequence that holds the context and stands where it was saved, of the executor's; it may outlive this.
  // Its rows lie in the file where layers lie on the CPU and the file could be mapped. Errors: as of check();
  // bad_argument if the executor has another cache type; bad_input if the context exceeds its n_ctx;
  // out_of_memory.
  Result<Sequence> sequence(const Engine& engine, const Executor& executor) const;

  struct Impl;
  explicit SavedContext(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<const Impl> impl_;
};

struct OpenOptions {
  bool use_mmap = true;  // false: the file is read into memory
};

// Opens a file and checks everything in it: sizes, hashes, positions, numbers. Errors: io; unsupported for
// what is no saved context, or one of another format version; corrupt, naming the part of the file that is
// damaged; out_of_memory.
Result<SavedContext> open_context(const std::string& path, const OpenOptions& options = {});

// Whether a file says of itself that it is a saved context. Errors: as of Model::inspect for a file that
// cannot be read or is no GGUF file.
Result<bool> is_context(const std::string& path);

}  // namespace curdkv
