// What all endpoints have at hand, and how they answer.
#pragma once

#include <cpp-httplib/httplib.h>

#include <map>
#include <optional>
#include <string>

#include "curdkv/engine.h"
#include "io/jsonl.h"
#include "server/metrics.h"
#include "server/scheduler.h"
#include "server/server.h"

namespace curdkv::server {

// An error as a client of OpenAI's is told: a status, and a body that says what, of which type, and for codes
// that clients act on, which.
struct ApiError {
  int status = 400;
  std::string message;
  std::string type = "invalid_request_error";
  std::string code = {};
  int retry_after_s = 0;
};
ApiError as_api_error(const Error& error);
Json error_json(const ApiError& error);
void answer(httplib::Response& response, const Json& json, int status = 200);
void answer(httplib::Response& response, const ApiError& error);

// A request's fields. Every reader takes a field that is missing or null as `otherwise`, and notes the first
// that is of the wrong kind or out of range.
class Fields {
 public:
  explicit Fields(const Json& object) : object_(object) {}
  bool has(const char* name) const;
  const Json* get(const char* name) const;  // null: missing or null
  std::string text(const char* name, const std::string& otherwise = "");
  bool flag(const char* name, bool otherwise);
  int64_t integer(const char* name, int64_t otherwise, int64_t min, int64_t max);
  double number(const char* name, double otherwise, double min, double max);
  void refuse(const std::string& what);
  const std::optional<ApiError>& error() const { return error_; }

 private:
  const Json& object_;
  std::optional<ApiError> error_;
};

// Numbers and booleans are such, all else is text.
Json fields_of_query(const httplib::Request& request);

// Shared by all HTTP threads.
class Api {
 public:
  Api(const Engine& engine, const ServerOptions& options, Scheduler& scheduler, Metrics& metrics, Press press,
      std::optional<ChatTemplate> chat_template, std::string root);

  const Engine& engine;
  const ServerOptions& options;
  Scheduler& scheduler;
  Metrics& metrics;
  const Press press;  // of documents, where a request names none
  const std::optional<ChatTemplate> chat_template;
  const std::string root;  // of contexts' ids
  const std::string model_name;
  std::vector<Token> ending;  // tokens that end an answer

  // A request's fields: its body's, an object, and of the query those that are not there. An error was
  // answered if there is none.
  std::optional<Json> body(const httplib::Request& request, httplib::Response& response) const;
  std::string space(const httplib::Request& request) const;
  // "press", "compression_ratio", "budget" and "budget_bytes" of a request.
  Result<Press> press_of(Fields& fields) const;
  // Hands a task over; an error was answered if it is not taken.
  bool submit(const TaskPtr& task, httplib::Response& response) const;
  // Sampling, limits and probabilities, which chat and completions have in common.
  void read_common(Fields& fields, Task& task) const;
  std::optional<ApiError> check_length(const Task& task, int64_t n_before) const;
};

std::string bearer_of(const httplib::Request& request);

void add_chat_routes(httplib::Server& server, const Api& api);
void add_completion_routes(httplib::Server& server, const Api& api);
void add_context_routes(httplib::Server& server, const Api& api);
void add_info_routes(httplib::Server& server, const Api& api);

}  // namespace curdkv::server
