// What HTTP threads hand to the scheduler, and what comes back.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "curdkv/context.h"
#include "curdkv/press.h"
#include "curdkv/text.h"

namespace curdkv::server {

using Clock = std::chrono::steady_clock;

// A prompt's tokens up to `end` as a context: those behind the link before are read with the press.
struct Link {
  std::string id;  // of the context that ends here; "": it is read for this task alone and not kept
  int64_t end = 0;
  Press press = {};
};

// A token, its probability's logarithm as the model has it, and the likeliest ones in its place.
struct TokenProb {
  Token token = 0;
  float logprob = 0;
  std::vector<std::pair<Token, float>> top;
};

struct Usage {
  int64_t n_prompt = 0, n_cached = 0, n_predicted = 0;  // tokens; n_cached: of the prompt's
  double queue_ms = 0;                                  // until work on it began
  double prompt_ms = 0, predicted_ms = 0;               // to the first token; of the others
  int64_t kv_bytes = 0, kv_bytes_full = 0;              // of the contexts the prompt begins with
  std::string context;                                  // the last of them
};

struct Event {
  enum class Kind { progress, prompt, text, choice_done, done, failed };
  Kind kind = Kind::failed;
  int choice = 0;
  int64_t n_done = 0, n_total = 0;    // progress: tokens read of all that are to be read
  std::string text = {};              // text
  std::vector<TokenProb> probs = {};  // text: of its tokens; prompt: of the prompt's, but for its first
  std::string finish = {};            // choice_done: "stop" or "length"
  std::string stopped_by = {};        // the stop text that ended it
  Usage usage = {};                   // done
  std::optional<Error> error = {};    // failed
};

// From the scheduler to one HTTP thread.
class Events {
 public:
  void push(Event event);
  // Nothing when there is none within the time.
  std::optional<Event> pop(std::chrono::milliseconds wait);

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Event> events_;
};

struct Task {
  std::string space;  // of names: the API key's
  std::string base;   // id of a context that the tokens follow; "": none
  std::vector<Token> tokens;
  std::vector<Link> links;                      // what the tokens begin with
  std::vector<ContextDocument> documents = {};  // what the last link's context is called
  bool reuse = true;  // whether what others asked may be gone on from, and this be kept

  int n_choices = 1;  // 0: the contexts alone
  int64_t n_predict = -1;
  SamplingParams sampling = {};
  Constraint constraint = {};
  std::vector<std::string> stops = {};
  std::vector<Token> shown = {};  // control tokens that are part of the text
  int n_top = -1;                 // likeliest tokens to be told; -1: no probabilities at all
  bool prompt_probs = false;      // of the prompt's tokens, too

  Clock::time_point arrived = Clock::now();
  Clock::time_point deadline = Clock::time_point::max();
  std::atomic<bool> cancelled = false;
  Events events;
};

using TaskPtr = std::shared_ptr<Task>;

}  // namespace curdkv::server
