// Contexts that were read, by their ids: in memory up to a limit, in a folder of saved contexts up to
// another. The least recently used goes first; pinned ones stay. A context that is in the folder alone is
// opened when it is asked for.
//
// Who may see what: every context lies in a name space, and no call looks beyond the one it is given.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "curdkv/context.h"
#include "server/context_folder.h"

namespace curdkv::server {

struct PoolOptions {
  int64_t memory = 0, disk = 0;  // bytes at most: of keys and values, of files
};

struct ContextSummary {
  std::string id;
  std::vector<ContextDocument> documents;
  std::string press;  // as it would be asked for
  double compression_ratio = 0;
  int64_t n_tokens = 0, kv_bytes = 0, kv_bytes_full = 0, file_bytes = 0;  // file_bytes: 0 if there is no file
  int64_t created = 0, last_used = 0;                                     // seconds since 1970
  bool in_memory = false, pinned = false;
};

// Everything here is called by the thread that owns the executor.
class ContextPool {
 public:
  ContextPool(const Engine& engine, const Executor& executor, ContextFolder folder,
              const PoolOptions& options)
      : engine_(engine), executor_(executor), folder_(std::move(folder)), options_(options) {}
  const ContextFolder& folder() const { return folder_; }

  struct Found {
    Sequence sequence;  // a fork
    int64_t kv_bytes, kv_bytes_full;
  };
  // Nothing if there is none, or none that fits the model at hand. Errors: corrupt or io for a file that is
  // damaged.
  Result<std::optional<Found>> find(const std::string& space, const std::string& id);
  // Whether find() would try; looks at no file's contents.
  bool has(const std::string& space, const std::string& id) const;
  bool is_in_memory(const std::string& space, const std::string& id) const;

  // Keeps a context, in the folder as well if `save` says so. Errors: io if it cannot be saved; it is kept in
  // memory then all the same.
  Result<void> put(const std::string& space, const std::string& id, const Sequence& sequence,
                   const ContextOrigin& origin, int64_t kv_bytes_full, bool save);

  std::vector<ContextSummary> list(const std::string& space);
  std::optional<ContextSummary> summary(const std::string& space, const std::string& id);
  // Errors: bad_input if there is no such context.
  struct Shading {
    std::vector<Token> tokens;
    std::vector<float> kept;  // of each, the share of KV heads that hold it
  };
  Result<Shading> shading(const std::string& space, const std::string& id);
  Result<void> pin(const std::string& space, const std::string& id, bool pinned);
  // Lets it leave the memory; its file stays.
  void forget(const std::string& space, const std::string& id);
  Result<void> remove(const std::string& space, const std::string& id);
  // Its file, made if need be. Errors: bad_input if there is no such context; unsupported without a folder.
  Result<std::string> file(const std::string& space, const std::string& id);
  // Takes a saved context in. Errors: as of open_context and SavedContext::check.
  Result<ContextSummary> add_file(const std::string& space, const std::string& id, const std::string& path);

  int64_t memory_used() const { return memory_used_; }
  int64_t n_in_memory() const;
  int64_t n_evicted() const { return n_evicted_; }

 private:
  struct Entry {
    ContextSummary about;
    std::vector<Token> tokens;
    Press press;
    std::optional<Sequence> sequence;
    uint64_t used = 0;  // greater: later
  };
  using Key = std::pair<std::string, std::string>;

  // The entry with its sequence, opened from the folder if it must be; null if there is none.
  Result<Entry*> load(const std::string& space, const std::string& id);
  Result<Entry*> must_load(const std::string& space, const std::string& id);
  Entry& enter(const std::string& space, const std::string& id, const SavedContext& saved);
  void note_used(Entry& entry) { entry.used = ++clock_; }
  void hold(Entry& entry, Sequence sequence);
  void let_go(Entry& entry);
  void keep_within_memory(const Entry& but);
  void complete(const std::string& space, ContextSummary& about) const;

  const Engine& engine_;
  const Executor& executor_;
  const ContextFolder folder_;
  const PoolOptions options_;
  std::map<Key, Entry> entries_;
  uint64_t clock_ = 0;
  int64_t memory_used_ = 0, n_evicted_ = 0;
};

}  // namespace curdkv::server
