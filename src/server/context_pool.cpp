#include "server/context_pool.h"

#include <algorithm>
#include <ctime>

#include "base/try.h"

namespace curdkv::server {
namespace {

Error no_such_context() {
  return {ErrorCode::bad_input, "there is no such context; GET /v1/contexts lists those there are"};
}

int64_t now() {
  return std::time(nullptr);
}

Press press_of(const ContextInfo& info) {
  auto press = Press::make({.name = info.press,
                            .compression_ratio = info.compression_ratio,
                            .budget = info.budget,
                            .budget_bytes = info.budget_bytes,
                            .seed = info.seed});
  return press ? std::move(*press) : Press();
}

}  // namespace

void ContextPool::hold(Entry& entry, Sequence sequence) {
  let_go(entry);
  entry.sequence.emplace(std::move(sequence));
  memory_used_ += entry.about.kv_bytes;
  keep_within_memory(entry);
}

void ContextPool::let_go(Entry& entry) {
  if (!entry.sequence) return;
  memory_used_ -= entry.about.kv_bytes;
  entry.sequence.reset();
}

void ContextPool::keep_within_memory(const Entry& but) {
  while (memory_used_ > options_.memory) {
    auto oldest = entries_.end();
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      const Entry& e = it->second;
      if (!e.sequence || &e == &but || e.about.pinned) continue;
      if (oldest == entries_.end() || e.used < oldest->second.used) oldest = it;
    }
    if (oldest == entries_.end()) return;
    let_go(oldest->second);
    ++n_evicted_;
    if (!folder_.find(oldest->first.first, oldest->first.second)) entries_.erase(oldest);
  }
}

ContextPool::Entry& ContextPool::enter(const std::string& space, const std::string& id,
                                       const SavedContext& saved) {
  const ContextInfo& info = saved.info();
  Entry& entry = entries_[{space, id}];
  entry.about = {.id = id,
                 .documents = info.documents,
                 .press = info.press,
                 .compression_ratio = info.compression_ratio,
                 .n_tokens = info.n_tokens,
                 .kv_bytes = info.kv_bytes,
                 .kv_bytes_full = info.kv_bytes_full,
                 .created = now(),
                 .last_used = now()};
  if (const auto file = folder_.find(space, id)) {
    entry.about.created = file->created;
    entry.about.last_used = file->used;
  }
  entry.tokens = info.tokens;
  entry.press = press_of(info);
  return entry;
}

Result<ContextPool::Entry*> ContextPool::load(const std::string& space, const std::string& id) {
  const auto known = entries_.find({space, id});
  if (known != entries_.end() && known->second.sequence) return &known->second;
  const auto file = folder_.find(space, id);
  if (!file) {
    if (known != entries_.end()) entries_.erase(known);  // another server has removed it
    return nullptr;
  }
  CURDKV_TRY(const SavedContext saved, open_context(file->path));
  if (!saved.check(engine_)) return nullptr;  // another model's
  CURDKV_TRY(Sequence sequence, saved.sequence(engine_, executor_));
  Entry& entry = enter(space, id, saved);
  entry.about.pinned = file->pinned;
  hold(entry, std::move(sequence));
  return &entry;
}

Result<ContextPool::Entry*> ContextPool::must_load(const std::string& space, const std::string& id) {
  CURDKV_TRY(Entry* const entry, load(space, id));
  if (entry == nullptr) return no_such_context();
  return entry;
}

bool ContextPool::is_in_memory(const std::string& space, const std::string& id) const {
  const auto known = entries_.find({space, id});
  return known != entries_.end() && known->second.sequence;
}

bool ContextPool::has(const std::string& space, const std::string& id) const {
  return is_in_memory(space, id) || folder_.find(space, id);
}

Result<std::optional<ContextPool::Found>> ContextPool::find(const std::string& space, const std::string& id) {
  CURDKV_TRY(Entry* const entry, load(space, id));
  if (entry == nullptr) return std::optional<Found>();
  note_used(*entry);
  entry->about.last_used = now();
  if (const auto file = folder_.find(space, id)) folder_.touch(*file);
  return std::optional<Found>({entry->sequence->fork(), entry->about.kv_bytes, entry->about.kv_bytes_full});
}

Result<void> ContextPool::put(const std::string& space, const std::string& id, const Sequence& sequence,
                              const ContextOrigin& origin, int64_t kv_bytes_full, bool save) {
  Entry& entry = entries_[{space, id}];
  let_go(entry);
  entry.about = {.id = id,
                 .documents = origin.documents,
                 .press = origin.press.spec(),
                 .compression_ratio = origin.press.compression_ratio(),
                 .n_tokens = sequence.n_tokens(),
                 .kv_bytes = static_cast<int64_t>(sequence.kv_bytes()),
                 .kv_bytes_full = kv_bytes_full,
                 .created = now(),
                 .last_used = now()};
  entry.tokens.assign(origin.tokens.begin(), origin.tokens.end());
  entry.press = origin.press;
  note_used(entry);
  hold(entry, sequence.fork());
  if (!save || !folder_.is_there()) return {};
  CURDKV_CHECK(folder_.make_space(space));
  CURDKV_CHECK(save_context(folder_.path_of(space, id), engine_, sequence, origin));
  folder_.keep_within(options_.disk, id);
  return {};
}

void ContextPool::complete(const std::string& space, ContextSummary& about) const {
  const auto file = folder_.find(space, about.id);
  about.file_bytes = file ? file->bytes : 0;
  about.pinned = about.pinned || (file && file->pinned);
}

std::vector<ContextSummary> ContextPool::list(const std::string& space) {
  for (const auto& file : folder_.list(space)) {
    if (entries_.count({space, file.id}) > 0) continue;
    // Damaged ones and other models' are of no use here, and not listed.
    const auto saved = open_context(file.path);
    if (saved && saved->check(engine_)) enter(space, file.id, *saved);
  }
  std::vector<ContextSummary> out;
  for (auto it = entries_.begin(); it != entries_.end();) {
    const bool gone = !it->second.sequence && !folder_.find(it->first.first, it->first.second);
    if (gone) {
      it = entries_.erase(it);
      continue;
    }
    if (it->first.first == space) {
      ContextSummary about = it->second.about;
      about.in_memory = it->second.sequence.has_value();
      complete(space, about);
      out.push_back(std::move(about));
    }
    ++it;
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    return a.created != b.created ? a.created > b.created : a.id < b.id;
  });
  return out;
}

std::optional<ContextSummary> ContextPool::summary(const std::string& space, const std::string& id) {
  const auto entry = load(space, id);
  if (!entry || *entry == nullptr) return std::nullopt;
  ContextSummary about = (*entry)->about;
  about.in_memory = true;
  complete(space, about);
  return about;
}

Result<ContextPool::Shading> ContextPool::shading(const std::string& space, const std::string& id) {
  CURDKV_TRY(Entry* const entry, must_load(space, id));
  Shading out = {entry->tokens, std::vector<float>(static_cast<size_t>(entry->about.n_tokens))};
  int64_t n_heads = 0;
  for (const auto& layer : entry->sequence->kept_tokens()) {
    for (const auto& head : layer) {
      ++n_heads;
      for (const int32_t position : head) {
        if (static_cast<size_t>(position) < out.kept.size()) out.kept[static_cast<size_t>(position)] += 1;
      }
    }
  }
  for (float& share : out.kept) share /= static_cast<float>(std::max<int64_t>(n_heads, 1));
  return out;
}

Result<void> ContextPool::pin(const std::string& space, const std::string& id, bool pinned) {
  CURDKV_TRY(Entry* const entry, must_load(space, id));
  entry->about.pinned = pinned;
  if (const auto file = folder_.find(space, id)) return folder_.pin(*file, pinned);
  return {};
}

void ContextPool::forget(const std::string& space, const std::string& id) {
  const auto known = entries_.find({space, id});
  if (known == entries_.end()) return;
  let_go(known->second);
  entries_.erase(known);
}

Result<void> ContextPool::remove(const std::string& space, const std::string& id) {
  const auto known = entries_.find({space, id});
  const auto file = folder_.find(space, id);
  if (known == entries_.end() && !file) return no_such_context();
  forget(space, id);
  if (file) return folder_.remove(*file);
  return {};
}

Result<std::string> ContextPool::file(const std::string& space, const std::string& id) {
  CURDKV_TRY(Entry* const entry, must_load(space, id));
  if (!folder_.is_there()) {
    return Error{ErrorCode::unsupported,
                 "the server keeps no contexts in files; start it with --contexts FOLDER"};
  }
  const std::string path = folder_.path_of(space, id);
  if (folder_.find(space, id)) return path;
  CURDKV_CHECK(folder_.make_space(space));
  const ContextOrigin origin = {
      .documents = entry->about.documents, .tokens = entry->tokens, .press = entry->press, .logits = true};
  CURDKV_CHECK(save_context(path, engine_, *entry->sequence, origin));
  return path;
}

Result<ContextSummary> ContextPool::add_file(const std::string& space, const std::string& id,
                                             const std::string& path) {
  CURDKV_TRY(const SavedContext saved, open_context(path));
  CURDKV_CHECK(saved.check(engine_));
  CURDKV_TRY(Sequence sequence, saved.sequence(engine_, executor_));
  Entry& entry = enter(space, id, saved);
  note_used(entry);
  hold(entry, std::move(sequence));
  ContextSummary about = entry.about;
  about.in_memory = true;
  complete(space, about);
  return about;
}

int64_t ContextPool::n_in_memory() const {
  return std::count_if(entries_.begin(), entries_.end(),
                       [](const auto& e) { return e.second.sequence.has_value(); });
}

}  // namespace curdkv::server
