// A task's events as an HTTP response: one JSON object at the end, or server-sent events as they come.
#pragma once

#include <memory>
#include <vector>

#include "server/api.h"

namespace curdkv::server {

// What an endpoint makes of events. One thread uses it.
class Reply {
 public:
  virtual ~Reply() = default;
  // What a client that streams is sent for an event; may be nothing. n: which of the reply's tasks it is of.
  virtual Result<std::vector<Json>> chunks(size_t n, const Event& event) = 0;
  // Once all tasks are done, for one that does not.
  virtual Result<Json> whole() = 0;
  // Behind the last chunk.
  virtual std::vector<Json> last() { return {}; }
};

struct ReplyOptions {
  bool stream = false;
  bool progress = false;       // whether events of progress are sent as well, before the answer begins
  const char* end = "[DONE]";  // the last event's data; null: none
};

// Submits the tasks and answers with what becomes of them. If the client leaves, they are cancelled.
void respond(const Api& api, std::vector<TaskPtr> tasks, std::shared_ptr<Reply> reply,
             const ReplyOptions& options, const httplib::Request& request, httplib::Response& response);

// OpenAI's and llama.cpp's accounts of a task.
Json usage_json(const Usage& usage);
Json timings_json(const Usage& usage);
void add_to(Usage& sum, const Usage& usage);

}  // namespace curdkv::server
