// The part of the scheduler that finds contexts, and reads those that are not there.
#include <algorithm>

#include "base/stopwatch.h"
#include "base/try.h"
#include "server/scheduler.h"

namespace curdkv::server {
namespace {

constexpr double kAloneMs = 20;  // a reading goes on for, between looks at what has arrived
constexpr auto kTell = std::chrono::milliseconds(100);  // between two reports of progress

double ms_since(Clock::time_point from) {
  return std::chrono::duration<double, std::milli>(Clock::now() - from).count();
}

std::string place_of(const std::string& space, const std::string& id) {
  return space + "/" + id;
}

}  // namespace

void Scheduler::start_waiting() {
  size_t n_started = 0;
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    const auto started = start(*it);
    if (!started) fail(it->task, started.error());
    if (started && !*started) {
      ++it;
      continue;
    }
    it = waiting_.erase(it);
    ++n_started;
  }
  const std::lock_guard lock(mutex_);
  n_unstarted_ -= n_started;
}

Result<bool> Scheduler::start(Waiting& w) {
  const Task& task = *w.task;
  if (w.begun == Clock::time_point()) w.begun = Clock::now();
  std::optional<Sequence> sequence;
  int64_t n_in = 0;
  if (w.own) {
    sequence = w.own->fork();
    n_in = w.n_own;
  }
  size_t next = static_cast<size_t>(
      std::count_if(task.links.begin(), task.links.end(), [&](const Link& l) { return l.end <= n_in; }));
  for (size_t i = task.links.size(); task.reuse && i > next; --i) {
    // A file that is damaged is as good as none: what it held is read anew.
    auto found = pool_.find(task.space, task.links[i - 1].id);
    if (!found || !*found) continue;
    sequence = std::move((*found)->sequence);
    n_in = task.links[i - 1].end;
    next = i;
  }
  if (!sequence && !task.base.empty()) {
    CURDKV_TRY(auto found, pool_.find(task.space, task.base));
    if (!found)
      return Error{ErrorCode::bad_input,
                   "there is no context '" + task.base + "'; GET /v1/contexts lists those there are"};
    sequence = std::move(found->sequence);
  }
  if (!sequence) sequence = executor_.sequence();
  if (next == task.links.size()) {
    const auto is_free = [&] {
      int n = task.n_choices;
      for (const Running& r : running_) n += r.task->n_choices;
      return n <= options_.n_parallel;
    };
    if (task.n_choices > 0 && !is_free()) return false;
    CURDKV_CHECK(run(w, std::move(*sequence), n_in));
    return true;
  }
  w.missed = true;
  if (reading_ == nullptr) CURDKV_CHECK(begin_reading(w, next, std::move(*sequence)));
  return false;
}

Result<void> Scheduler::begin_reading(Waiting& w, size_t link, Sequence sequence) {
  const Task& task = *w.task;
  Descriptor lock;
  if (task.reuse) {
    auto held = pool_.folder().lock(task.space, task.links[link].id);
    if (!held) return {};  // another server reads it: it will be there
    lock = std::move(*held);
  }
  const int64_t first = link == 0 ? 0 : task.links[link - 1].end;
  const int64_t n_before = sequence.n_tokens() - first;
  reading_ = std::make_unique<Reading>(w.task, link, std::move(sequence), std::move(lock));
  Reading& reading = *reading_;
  ReadOptions options;
  options.stop = nullptr;
  options.progress = [this](int64_t done, int64_t total) {
    if (Clock::now() - reading_->told < kTell && done < total) return;
    reading_->told = Clock::now();
    const Link& l = reading_->what();
    const int64_t begin = reading_->link == 0 ? 0 : reading_->task->links[reading_->link - 1].end;
    const int64_t n_all = reading_->task->links.back().end;
    const Event event = {.kind = Event::Kind::progress,
                         .n_done = begin + (l.end - begin) * done / std::max<int64_t>(total, 1),
                         .n_total = n_all};
    for (const Waiting& each : waiting_) {
      if (each.task == reading_->task) each.task->events.push(event);
    }
  };
  if (task.prompt_probs) {
    options.logits = [this, n_before](int64_t position, std::span<const float> logits) {
      note_prob(*reading_->task, n_before, position, logits, reading_->probs);
    };
  }
  const std::span<const Token> tokens = w.task->tokens;
  const ReadTarget target = {&reading.sequence, reading.what().press};
  auto job = executor_.begin_read(
      {&target, 1},
      tokens.subspan(static_cast<size_t>(first), static_cast<size_t>(reading.what().end - first)), options);
  if (!job) {
    reading_.reset();
    return job.error();
  }
  reading.job.emplace(std::move(*job));
  return {};
}

// Somebody waits for the context, or for the task that it is read for.
bool Scheduler::is_awaited(const Reading& reading) const {
  return std::any_of(waiting_.begin(), waiting_.end(), [&](const Waiting& w) {
    if (w.task == reading.task) return true;
    const auto wants = [&](const Link& l) { return !l.id.empty() && l.id == reading.what().id; };
    return w.task->reuse && w.task->space == reading.task->space &&
           std::any_of(w.task->links.begin(), w.task->links.end(), wants);
  });
}

void Scheduler::advance_reading() {
  if (reading_ == nullptr) return;
  const double most_ms = is_decoding() ? step_ms_ : kAloneMs;
  const Stopwatch watch;
  Result<bool> done = false;
  do {
    done = reading_->job->advance();
  } while (done && !*done && watch.ms() < most_ms);
  if (done && !*done) return;
  const TaskPtr task = reading_->task;
  Result<void> kept;
  if (!done) {
    kept = done.error();
  } else {
    kept = finish_reading();
  }
  reading_.reset();
  if (kept) return;
  const size_t n_before = waiting_.size();
  waiting_.remove_if([&](const Waiting& w) { return w.task == task; });
  if (waiting_.size() == n_before) return;
  fail(task, kept.error());
  const std::lock_guard lock(mutex_);
  n_unstarted_ -= n_before - waiting_.size();
}

Result<void> Scheduler::finish_reading() {
  Reading& r = *reading_;
  const Link& link = r.what();
  const ReadReport report = r.job->reports()[0];
  const int64_t first = r.link == 0 ? 0 : r.task->links[r.link - 1].end;
  metrics_.context_tokens_read += static_cast<uint64_t>(link.end - first);
  metrics_.reading.observe(ms_since(r.begun) / 1000);
  for (const auto& layer : r.sequence.cache_lengths()) {
    for (const int64_t rows : layer) metrics_.rows_kept += static_cast<uint64_t>(rows);
    metrics_.rows_full += layer.size() * static_cast<uint64_t>(r.sequence.n_tokens());
  }
  for (Waiting& w : waiting_) {
    if (w.task != r.task) continue;
    w.own = r.sequence.fork();
    w.n_own = link.end;
    w.n_read += link.end - first;
    w.probs.insert(w.probs.end(), r.probs.begin(), r.probs.end());
  }
  if (!r.task->reuse) return {};
  const std::span<const Token> tokens = r.task->tokens;
  ContextOrigin origin = {
      .tokens = tokens.first(static_cast<size_t>(link.end)), .press = link.press, .logits = true};
  if (!r.task->base.empty()) origin.tokens = {};  // only those behind the base are at hand
  if (r.link + 1 == r.task->links.size()) origin.documents = r.task->documents;
  const auto kept =
      pool_.put(r.task->space, link.id, r.sequence, origin, static_cast<int64_t>(report.kv_bytes_full), true);
  note_contexts();
  forget_tails();
  // What cannot be saved is answered from memory all the same, unless saving is all that was asked for.
  return r.task->n_choices == 0 ? kept : Result<void>();
}

void Scheduler::note_contexts() {
  metrics_.context_bytes = pool_.memory_used();
  metrics_.contexts_in_memory = pool_.n_in_memory();
  metrics_.contexts_evicted = static_cast<uint64_t>(pool_.n_evicted());
}

// Prompts' tails would keep contexts in memory that have left it.
void Scheduler::forget_tails() {
  tails_.drop_if([&](const std::string& place) {
    const size_t slash = place.find('/');
    const std::string id = place.substr(slash + 1);
    return !id.empty() && !pool_.is_in_memory(place.substr(0, slash), id);
  });
}

Result<void> Scheduler::run(Waiting& w, Sequence sequence, int64_t n_in) {
  const Task& task = *w.task;
  Running r = {.task = w.task, .sequence = std::move(sequence), .n_in = n_in};
  r.n_before = r.sequence.n_tokens() - n_in;
  r.begun = w.begun;
  r.probs = std::move(w.probs);
  Usage& u = r.usage;
  u.context = task.links.empty() ? task.base : task.links.back().id;
  u.n_prompt = r.n_before + std::ssize(task.tokens);
  u.kv_bytes = static_cast<int64_t>(r.sequence.kv_bytes());
  u.kv_bytes_full = static_cast<int64_t>(executor_.kv_bytes_full(r.sequence.n_tokens()));
  u.queue_ms = std::chrono::duration<double, std::milli>(w.begun - task.arrived).count();
  metrics_.queue.observe(u.queue_ms / 1000);
  if (!u.context.empty()) ++(w.missed ? metrics_.context_misses : metrics_.context_hits);
  note_contexts();
  r.place = place_of(task.space, u.context);
  r.n_place = task.links.empty() ? 0 : task.links.back().end;
  if (task.reuse && task.n_choices > 0) {
    const std::span<const Token> rest =
        std::span<const Token>(task.tokens).subspan(static_cast<size_t>(r.n_place));
    CURDKV_TRY(auto tail, tails_.find(r.place, rest));
    if (tail) {
      r.sequence = std::move(tail->sequence);
      r.n_in = r.n_place + tail->n;
    }
  }
  u.n_cached = r.n_before + r.n_in - w.n_read;
  if (task.n_choices == 0) {
    w.task->events.push({.kind = Event::Kind::done, .usage = u});
    return {};
  }
  if (task.prompt_probs) {
    running_.push_back(std::move(r));
    Running& kept = running_.back();
    kept.sink = [&kept](int64_t position, std::span<const float> logits) {
      note_prob(*kept.task, kept.n_before, position, logits, kept.probs);
    };
  } else {
    running_.push_back(std::move(r));
  }
  if (running_.back().n_in == std::ssize(task.tokens)) after_chunk(running_.back(), 0);
  return {};
}

}  // namespace curdkv::server
