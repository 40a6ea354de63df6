#include "server/scheduler.h"

#include <algorithm>
#include <future>

#include "base/guard.h"
#include "base/stopwatch.h"
#include "base/try.h"

namespace curdkv::server {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(20);  // while another server reads what is waited for
// Tokens of questions between two looks at what has arrived, and between two steps of others' answers.
constexpr int64_t kChunk = 512, kShortChunk = 128;

double ms_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

}  // namespace

Result<std::unique_ptr<Scheduler>> Scheduler::start(const Engine& engine, const ExecutorParams& params,
                                                    ContextFolder folder, const SchedulerOptions& options,
                                                    Metrics& metrics) {
  CURDKV_TRY(Executor executor, engine.executor(params));
  return std::unique_ptr<Scheduler>(
      new Scheduler(engine, std::move(executor), std::move(folder), options, metrics));
}

Scheduler::Scheduler(const Engine& engine, Executor executor, ContextFolder folder,
                     const SchedulerOptions& options, Metrics& metrics)
    : engine_(engine),
      options_(options),
      metrics_(metrics),
      executor_(std::move(executor)),
      pool_(engine_, executor_, std::move(folder), options.pool),
      tails_(static_cast<size_t>(options.n_parallel)),
      thread_([this] { work(); }) {}

Scheduler::~Scheduler() {
  stop(std::chrono::milliseconds(0));
}

Scheduler::Submitted Scheduler::submit(TaskPtr task) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Submitted::stopping;
    if (n_unstarted_ >= options_.n_queue) return Submitted::queue_full;
    ++n_unstarted_;
    inbox_.push_back(std::move(task));
  }
  arrived_.notify_all();
  return Submitted::taken;
}

size_t Scheduler::n_waiting() const {
  const std::lock_guard lock(mutex_);
  return n_unstarted_;
}

bool Scheduler::call(const std::function<void(ContextPool&)>& call) {
  std::promise<void> done;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return false;
    calls_.push_back([&] {
      call(pool_);
      done.set_value();
    });
  }
  arrived_.notify_all();
  done.get_future().wait();
  return true;
}

void Scheduler::stop(std::chrono::milliseconds grace) {
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;
    arrived_.notify_all();
    arrived_.wait_for(lock, grace, [&] { return ended_; });
    cancelling_ = true;
  }
  arrived_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool Scheduler::take() {
  std::deque<std::function<void()>> calls;
  {
    std::unique_lock lock(mutex_);
    const auto arrived = [&] { return stopping_ || !inbox_.empty() || !calls_.empty(); };
    if (running_.empty() && reading_ == nullptr) {
      if (waiting_.empty()) {
        arrived_.wait(lock, arrived);
      } else {
        arrived_.wait_for(lock, kPoll, arrived);
      }
    }
    for (TaskPtr& task : inbox_) waiting_.push_back({.task = std::move(task)});
    inbox_.clear();
    calls.swap(calls_);
    if (cancelling_) {
      for (Waiting& w : waiting_) w.task->cancelled = true;
      for (Running& r : running_) r.task->cancelled = true;
    }
  }
  for (const auto& call : calls) call();
  if (!calls.empty()) forget_tails();
  const std::lock_guard lock(mutex_);
  return !stopping_ || !waiting_.empty() || !running_.empty() || !inbox_.empty() || !calls_.empty();
}

void Scheduler::work() {
  while (take()) {
    const auto done = guarded([&] {
      drop_ended();
      start_waiting();
      advance_reading();
      step();
    });
    if (done) continue;
    // Nothing above should throw but where memory is out: who is at work is told, and the next ones are
    // served.
    reading_.reset();
    for (Running& r : running_) fail(r.task, done.error());
    running_.clear();
  }
  const std::lock_guard lock(mutex_);
  ended_ = true;
  arrived_.notify_all();
}

void Scheduler::fail(const TaskPtr& task, Error error) {
  const ContextFolder& folder = pool_.folder();
  if (folder.is_there()) {
    // Where the files lie is nothing to a client.
    const std::string path = folder.path_of(task->space, "");
    const std::string prefix = path.substr(0, path.rfind('/') + 1);
    if (const size_t at = error.message.find(prefix); at != std::string::npos)
      error.message.erase(at, prefix.size());
  }
  if (error.code != ErrorCode::cancelled) {
    // If a file was changed while it was mapped, it is opened anew for the next one who asks.
    std::vector<std::string> ids = {task->base};
    for (const Link& link : task->links) ids.push_back(link.id);
    for (const std::string& id : ids) {
      if (folder.find(task->space, id)) pool_.forget(task->space, id);
    }
    forget_tails();
  }
  ++(error.code == ErrorCode::cancelled ? metrics_.cancelled : metrics_.failed);
  task->events.push({.kind = Event::Kind::failed, .error = std::move(error)});
}

void Scheduler::drop_ended() {
  const auto now = Clock::now();
  const auto ended = [&](const TaskPtr& task) {
    const bool late = now > task->deadline;
    if (!late && !task->cancelled) return false;
    fail(task, {ErrorCode::cancelled, late ? "the request took longer than the server allows" : "cancelled"});
    return true;
  };
  const size_t n_before = waiting_.size();
  waiting_.remove_if([&](const Waiting& w) { return ended(w.task); });
  running_.remove_if([&](const Running& r) { return r.over || ended(r.task); });
  if (reading_ != nullptr && !is_awaited(*reading_)) reading_.reset();
  const std::lock_guard lock(mutex_);
  n_unstarted_ -= n_before - waiting_.size();
  metrics_.waiting = static_cast<int64_t>(n_unstarted_);
  metrics_.processing = std::ssize(running_);
}

bool Scheduler::is_decoding() const {
  return std::any_of(running_.begin(), running_.end(), [](const Running& r) { return !r.answers.empty(); });
}

// Of what is left of a prompt, where there is room for so many tokens; never all but one, as a token alone is
// decoded, not asked.
int64_t Scheduler::next_chunk(const Running& r, int64_t room) {
  const int64_t n_left = std::ssize(r.task->tokens) - r.n_in;
  if (n_left <= room) return n_left;
  const int64_t n = n_left == room + 1 ? room - 1 : room;
  return n < 2 ? 0 : n;
}

void Scheduler::note_prob(const Task& task, int64_t n_before, int64_t position, std::span<const float> logits,
                          std::vector<TokenProb>& probs) {
  const int64_t i = position + 1 - n_before;
  if (i < 1 || i >= std::ssize(task.tokens)) return;
  probs.push_back(probability(logits, task.tokens[static_cast<size_t>(i)], task.n_top));
}

// Chunks of the first prompts that are not in yet, and one token of every answer.
void Scheduler::step() {
  struct Part {
    Running* of;
    Answer* answer;   // or null:
    int64_t n_chunk;  // of the prompt
    Token token;
  };
  std::list<Part> parts;
  int64_t room = is_decoding() ? kShortChunk : kChunk;
  for (Running& r : running_) {
    if (r.n_in < std::ssize(r.task->tokens)) {
      const int64_t n = next_chunk(r, room);
      if (n > 0) parts.push_back({&r, nullptr, n, 0});
      room -= n;
      continue;
    }
    for (Answer& a : r.answers) {
      if (a.next()) parts.push_back({&r, &a, 0, *a.next()});
    }
  }
  const auto span_of = [](Part& p) -> Span {
    if (p.answer != nullptr) return {&p.answer->sequence(), {&p.token, 1}};
    const std::span<const Token> tokens = p.of->task->tokens;
    return {.sequence = &p.of->sequence,
            .tokens = tokens.subspan(static_cast<size_t>(p.of->n_in), static_cast<size_t>(p.n_chunk)),
            .sink = p.of->sink ? &p.of->sink : nullptr,
            .stop = &p.of->task->cancelled};
  };
  const Stopwatch watch;
  std::vector<Span> spans;
  for (Part& p : parts) spans.push_back(span_of(p));
  const auto together = parts.empty() ? Result<void>() : executor_.step(spans);
  for (Part& p : parts) {
    auto done = together;
    if (!done) {  // who is at fault is found out one by one
      const Span alone = span_of(p);
      done = executor_.step({&alone, 1});
    }
    if (done && p.answer != nullptr) done = p.answer->choose(engine_.tokenizer(), executor_.n_ctx());
    if (done) {
      if (p.answer == nullptr) after_chunk(*p.of, p.n_chunk);
      continue;
    }
    if (!p.of->over) fail(p.of->task, done.error());
    p.of->over = true;
  }
  const size_t n_decoded =
      std::count_if(parts.begin(), parts.end(), [](const Part& p) { return p.answer != nullptr; });
  if (n_decoded > 0) {
    step_ms_ = watch.ms();
    ++metrics_.decode_steps;
    metrics_.decoded_together += n_decoded;
  }
  for (Running& r : running_) settle(r);
}

void Scheduler::after_chunk(Running& r, int64_t n_chunk) {
  r.n_in += n_chunk;
  if (r.task->cancelled || r.n_in < std::ssize(r.task->tokens)) return;
  if (r.task->reuse) {
    tails_.keep(r.place, std::span<const Token>(r.task->tokens).subspan(static_cast<size_t>(r.n_place)),
                r.sequence);
  }
  if (const auto begun = begin_answers(r); !begun) {
    fail(r.task, begun.error());
    r.over = true;
  }
}

// The prompt is in: each answer goes on from it.
Result<void> Scheduler::begin_answers(Running& r) {
  const TaskPtr& task = r.task;
  if (r.sequence.logits().empty())
    return Error{ErrorCode::bad_input,
                 "nothing was asked behind the context, and the file does not say what would follow"};
  if (task->prompt_probs) task->events.push({.kind = Event::Kind::prompt, .probs = std::move(r.probs)});
  for (int i = 0; i < task->n_choices; ++i) {
    CURDKV_TRY(Answer answer, Answer::begin(task, i, engine_.tokenizer(), r.sequence.fork()));
    CURDKV_CHECK(answer.choose(engine_.tokenizer(), executor_.n_ctx()));
    r.answers.push_back(std::move(answer));
  }
  r.first = r.last = Clock::now();
  metrics_.first_token.observe(ms_between(task->arrived, r.first) / 1000);
  r.usage.prompt_ms = ms_between(r.begun, r.first);
  return {};
}

void Scheduler::settle(Running& r) {
  if (r.over || r.answers.empty()) return;
  const auto now = Clock::now();
  if (now != r.last && r.first != r.last) metrics_.between_tokens.observe(ms_between(r.last, now) / 1000);
  r.last = now;
  if (std::all_of(r.answers.begin(), r.answers.end(), [](const Answer& a) { return a.is_over(); })) finish(r);
}

void Scheduler::finish(Running& r) {
  r.over = true;
  Usage& u = r.usage;
  for (const Answer& a : r.answers) u.n_predicted += a.n_tokens();
  u.predicted_ms = ms_between(r.first, r.last);
  metrics_.prompt_tokens += static_cast<uint64_t>(u.n_prompt);
  metrics_.cached_tokens += static_cast<uint64_t>(u.n_cached);
  metrics_.predicted_tokens += static_cast<uint64_t>(u.n_predicted);
  metrics_.prompt_seconds += u.prompt_ms / 1000;
  metrics_.predicted_seconds += u.predicted_ms / 1000;
  r.task->events.push({.kind = Event::Kind::done, .usage = u});
}

}  // namespace curdkv::server
