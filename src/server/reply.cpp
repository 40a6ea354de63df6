#include "server/reply.h"

#include <algorithm>

#include "base/try.h"

namespace curdkv::server {
namespace {

constexpr auto kLook = std::chrono::milliseconds(100);  // between two looks whether the client is there
constexpr auto kQuiet = std::chrono::seconds(10);       // before a comment says that there is life

// The tasks of one response.
class Session {
 public:
  Session(std::vector<TaskPtr> tasks, std::shared_ptr<Reply> reply, const ReplyOptions& options)
      : tasks_(std::move(tasks)), reply_(std::move(reply)), options_(options), over_(tasks_.size()) {}
  ~Session() { cancel(); }

  void cancel() {
    for (const TaskPtr& t : tasks_) t->cancelled = true;
  }
  bool is_over() const {
    return std::all_of(over_.begin(), over_.end(), [](bool o) { return o; });
  }

  struct Next {
    size_t n;
    Event event;
  };
  // Of the tasks in their order: those of a later one wait.
  std::optional<Next> pop(std::chrono::milliseconds wait) {
    for (size_t i = 0; i < tasks_.size(); ++i) {
      if (over_[i]) continue;
      auto event = tasks_[i]->events.pop(wait);
      if (!event) return std::nullopt;
      over_[i] = event->kind == Event::Kind::done || event->kind == Event::Kind::failed;
      return Next{i, std::move(*event)};
    }
    return std::nullopt;
  }
  Reply& reply() { return *reply_; }
  const ReplyOptions& options() const { return options_; }

  Clock::time_point last_word = Clock::now();
  std::optional<Next> first;  // taken before the response began

 private:
  std::vector<TaskPtr> tasks_;
  std::shared_ptr<Reply> reply_;
  ReplyOptions options_;
  std::vector<bool> over_;
};

std::string sse(const Json& data) {
  return "data: " + data.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n\n";
}

bool say(httplib::DataSink& sink, const std::string& text) {
  return sink.write(text.data(), text.size());
}

// One event of a stream; false when the client has left.
bool send_event(Session& s, const Session::Next& next, httplib::DataSink& sink) {
  s.last_word = Clock::now();
  if (next.event.kind == Event::Kind::failed) {
    s.cancel();
    if (say(sink, sse(error_json(as_api_error(*next.event.error))))) sink.done();
    return true;
  }
  if (next.event.kind == Event::Kind::progress && !s.options().progress) return true;
  const auto chunks = s.reply().chunks(next.n, next.event);
  if (!chunks) {
    s.cancel();
    if (say(sink, sse(error_json(as_api_error(chunks.error()))))) sink.done();
    return true;
  }
  std::string text;
  for (const Json& chunk : *chunks) text += sse(chunk);
  if (s.is_over()) {
    for (const Json& chunk : s.reply().last()) text += sse(chunk);
    if (s.options().end != nullptr) text += std::string("data: ") + s.options().end + "\n\n";
  }
  if (!text.empty() && !say(sink, text)) return false;
  if (s.is_over()) sink.done();
  return true;
}

void stream(const std::shared_ptr<Session>& session, httplib::Response& response) {
  response.set_header("Cache-Control", "no-store");
  response.set_header("X-Accel-Buffering", "no");  // of nginx
  response.set_chunked_content_provider(
      "text/event-stream",
      [session](size_t, httplib::DataSink& sink) {
        Session& s = *session;
        if (s.first) {
          const Session::Next first = std::move(*s.first);
          s.first.reset();
          return send_event(s, first, sink);
        }
        if (const auto next = s.pop(kLook)) return send_event(s, *next, sink);
        if (!sink.is_writable()) return false;
        if (Clock::now() - s.last_word < kQuiet) return true;
        s.last_word = Clock::now();
        return say(sink, ": at work\n\n");
      },
      [session](bool) { session->cancel(); });
}

}  // namespace

void respond(const Api& api, std::vector<TaskPtr> tasks, std::shared_ptr<Reply> reply,
             const ReplyOptions& options, const httplib::Request& request, httplib::Response& response) {
  const auto session = std::make_shared<Session>(tasks, std::move(reply), options);
  for (const TaskPtr& task : tasks) {
    if (!api.submit(task, response)) {
      session->cancel();
      return;
    }
  }
  // The status says how it went, so that nothing is sent before something has become of the first.
  for (;;) {
    auto next = session->pop(kLook);
    if (!next) {
      if (request.is_connection_closed()) {
        session->cancel();
        answer(response, ApiError{.status = 499, .message = "the client has left"});
        return;
      }
      continue;
    }
    const Event& event = next->event;
    if (event.kind == Event::Kind::failed) {
      session->cancel();
      return answer(response, as_api_error(*event.error));
    }
    if (options.stream && (event.kind != Event::Kind::progress || options.progress)) {
      session->first = std::move(next);
      return stream(session, response);
    }
    if (event.kind == Event::Kind::progress) continue;
    const auto taken = session->reply().chunks(next->n, event);
    if (!taken) {
      session->cancel();
      return answer(response, as_api_error(taken.error()));
    }
    if (!session->is_over()) continue;
    const auto whole = session->reply().whole();
    return whole ? answer(response, *whole) : answer(response, as_api_error(whole.error()));
  }
}

Json usage_json(const Usage& u) {
  return {{"prompt_tokens", u.n_prompt},
          {"completion_tokens", u.n_predicted},
          {"total_tokens", u.n_prompt + u.n_predicted},
          {"prompt_tokens_details", {{"cached_tokens", u.n_cached}}}};
}

Json timings_json(const Usage& u) {
  const int64_t n_prompt = u.n_prompt - u.n_cached;
  const auto each = [](double ms, int64_t n) { return n > 0 ? ms / static_cast<double>(n) : 0.0; };
  const auto rate = [](double ms, int64_t n) { return ms > 0 ? 1000 * static_cast<double>(n) / ms : 0.0; };
  return {{"cache_n", u.n_cached},
          {"prompt_n", n_prompt},
          {"prompt_ms", u.prompt_ms},
          {"prompt_per_token_ms", each(u.prompt_ms, n_prompt)},
          {"prompt_per_second", rate(u.prompt_ms, n_prompt)},
          {"predicted_n", u.n_predicted},
          {"predicted_ms", u.predicted_ms},
          {"predicted_per_token_ms", each(u.predicted_ms, u.n_predicted)},
          {"predicted_per_second", rate(u.predicted_ms, u.n_predicted)},
          {"queue_ms", u.queue_ms},
          {"kv_bytes", u.kv_bytes},
          {"kv_bytes_full", u.kv_bytes_full}};
}

void add_to(Usage& sum, const Usage& u) {
  sum.n_prompt += u.n_prompt;
  sum.n_cached += u.n_cached;
  sum.n_predicted += u.n_predicted;
  sum.queue_ms = std::max(sum.queue_ms, u.queue_ms);
  sum.prompt_ms = std::max(sum.prompt_ms, u.prompt_ms);
  sum.predicted_ms = std::max(sum.predicted_ms, u.predicted_ms);
  sum.kv_bytes = std::max(sum.kv_bytes, u.kv_bytes);
  sum.kv_bytes_full = std::max(sum.kv_bytes_full, u.kv_bytes_full);
  if (sum.context.empty()) sum.context = u.context;
}

}  // namespace curdkv::server
