// The one thread that computes. It takes tasks in their order, reads the contexts they begin with bit by bit,
// appends their questions in chunks, and decodes all answers under way in one step. Between two steps a
// reading goes on for about as long as a step takes, so that answers go on while documents are read.
//
// Greedy answers do not depend on the company: see Executor::step.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>

#include "curdkv/engine.h"
#include "server/answer.h"
#include "server/context_pool.h"
#include "server/metrics.h"
#include "server/prompt_tails.h"
#include "server/task.h"

namespace curdkv::server {

struct SchedulerOptions {
  int n_parallel = 4;   // answers under way at once
  size_t n_queue = 32;  // tasks that wait, at most
  PoolOptions pool = {};
};

class Scheduler {
 public:
  // Errors: as of Engine::executor.
  static Result<std::unique_ptr<Scheduler>> start(const Engine& engine, const ExecutorParams& params,
                                                  ContextFolder folder, const SchedulerOptions& options,
                                                  Metrics& metrics);
  ~Scheduler();  // cancels what is under way

  enum class Submitted { taken, queue_full, stopping };
  Submitted submit(TaskPtr task);
  // Runs a call on the scheduler's thread, between two steps, and waits for it. False if it is stopping.
  bool call(const std::function<void(ContextPool&)>& call);
  // Takes no more, and returns when what is under way has ended, or has been cancelled after `grace`.
  void stop(std::chrono::milliseconds grace);

  int64_t n_ctx() const { return executor_.n_ctx(); }
  size_t n_waiting() const;

 private:
  // A task at work: its sequence, what of its tokens that holds, and its answers once all are in.
  struct Running {
    TaskPtr task;
    Sequence sequence;
    int64_t n_in;            // tokens of the task's that the sequence holds
    int64_t n_before = 0;    // tokens before the task's
    std::string place = {};  // of its end among the prompts' tails
    int64_t n_place = 0;     // the task's tokens before that end
    Usage usage = {};
    Clock::time_point begun = {};
    Clock::time_point first = {}, last = {};  // tokens'
    std::vector<TokenProb> probs = {};        // of the prompt's tokens
    LogitsSink sink = nullptr;
    std::vector<Answer> answers = {};
    bool over = false;
  };
  // The context that is being read.
  struct Reading {
    Reading(TaskPtr of, size_t which, Sequence target, Descriptor held)
        : task(std::move(of)), link(which), sequence(std::move(target)), lock(std::move(held)) {}
    const Link& what() const { return task->links[link]; }

    TaskPtr task;
    size_t link;
    Sequence sequence;
    Descriptor lock;
    std::vector<TokenProb> probs = {};
    Clock::time_point begun = Clock::now(), told = {};
    std::optional<Job> job = {};
  };
  // A task that waits, and what was read for it.
  struct Waiting {
    TaskPtr task;
    std::optional<Sequence> own = {};
    int64_t n_own = 0;   // of its tokens, that this holds
    int64_t n_read = 0;  // of these, that were read for it
    std::vector<TokenProb> probs = {};
    Clock::time_point begun = {};
    bool missed = false;  // a context of its was not there
  };

  Scheduler(const Engine& engine, Executor executor, ContextFolder folder, const SchedulerOptions& options,
            Metrics& metrics);
  void work();
  bool take();  // false: nothing is left to do, and nothing will come
  void drop_ended();
  void fail(const TaskPtr& task, Error error);

  void start_waiting();
  Result<bool> start(Waiting& waiting);  // whether it need not wait any more
  Result<void> begin_reading(Waiting& waiting, size_t link, Sequence sequence);
  Result<void> run(Waiting& waiting, Sequence sequence, int64_t n_in);
  void advance_reading();
  Result<void> finish_reading();
  bool is_awaited(const Reading& reading) const;
  void forget_tails();
  void note_contexts();

  void step();
  static int64_t next_chunk(const Running& r, int64_t room);
  void after_chunk(Running& r, int64_t n_chunk);
  void settle(Running& r);
  Result<void> begin_answers(Running& r);
  void finish(Running& r);
  bool is_decoding() const;
  // Of the token behind `position`, if it is one of the task's.
  static void note_prob(const Task& task, int64_t n_before, int64_t position, std::span<const float> logits,
                        std::vector<TokenProb>& probs);

  const Engine& engine_;
  const SchedulerOptions options_;
  Metrics& metrics_;
  Executor executor_;
  ContextPool pool_;
  PromptTails tails_;

  std::list<Waiting> waiting_;
  std::list<Running> running_;
  std::unique_ptr<Reading> reading_;
  double step_ms_ = 0;  // of the last step that decoded

  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<TaskPtr> inbox_;
  std::deque<std::function<void()>> calls_;
  bool stopping_ = false, cancelling_ = false, ended_ = false;
  size_t n_unstarted_ = 0;  // in the inbox and waiting
  std::thread thread_;
};

}  // namespace curdkv::server
