#include "server/api.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/format.h"
#include "base/try.h"
#include "server/identity.h"

namespace curdkv::server {

ApiError as_api_error(const Error& error) {
  switch (error.code) {
    case ErrorCode::bad_argument:
    case ErrorCode::bad_input:
    case ErrorCode::corrupt:
    case ErrorCode::unsupported:
      return {.status = 400, .message = error.message};
    case ErrorCode::cancelled:
      return {.status = 503, .message = error.message, .type = "server_error", .code = "timeout"};
    case ErrorCode::out_of_memory:
      return {.status = 503,
              .message = error.message,
              .type = "server_error",
              .code = "out_of_memory",
              .retry_after_s = 10};
    case ErrorCode::io:
    case ErrorCode::internal:
      break;
  }
  return {.status = 500, .message = error.message, .type = "server_error"};
}

Json error_json(const ApiError& e) {
  Json out = {{"message", e.message}, {"type", e.type}, {"param", nullptr}, {"code", nullptr}};
  if (!e.code.empty()) out["code"] = e.code;
  return {{"error", out}};
}

void answer(httplib::Response& response, const Json& json, int status) {
  response.status = status;
  response.set_content(json.dump(-1, ' ', false, Json::error_handler_t::replace), "application/json");
}

void answer(httplib::Response& response, const ApiError& error) {
  if (error.retry_after_s > 0) response.set_header("Retry-After", std::to_string(error.retry_after_s));
  answer(response, error_json(error), error.status);
}

bool Fields::has(const char* name) const {
  return get(name) != nullptr;
}

const Json* Fields::get(const char* name) const {
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

void Fields::refuse(const std::string& what) {
  if (!error_) error_ = ApiError{.message = what};
}

std::string Fields::text(const char* name, const std::string& otherwise) {
  const Json* value = get(name);
  if (value == nullptr) return otherwise;
  if (value->is_string()) return value->get<std::string>();
  refuse(format("'%s' must be a string", name));
  return otherwise;
}

bool Fields::flag(const char* name, bool otherwise) {
  const Json* value = get(name);
  if (value == nullptr) return otherwise;
  if (value->is_boolean()) return value->get<bool>();
  refuse(format("'%s' must be true or false", name));
  return otherwise;
}

int64_t Fields::integer(const char* name, int64_t otherwise, int64_t min, int64_t max) {
  const double value =
      number(name, static_cast<double>(otherwise), static_cast<double>(min), static_cast<double>(max));
  if (value == std::floor(value)) return static_cast<int64_t>(value);
  refuse(format("'%s' must be a whole number", name));
  return otherwise;
}

double Fields::number(const char* name, double otherwise, double min, double max) {
  const Json* value = get(name);
  if (value == nullptr) return otherwise;
  if (!value->is_number()) {
    refuse(format("'%s' must be a number", name));
    return otherwise;
  }
  const double x = value->get<double>();
  if (x >= min && x <= max) return x;
  refuse(format("'%s' must be between %g and %g", name, min, max));
  return otherwise;
}

Api::Api(const Engine& of, const ServerOptions& o, Scheduler& s, Metrics& m, Press p,
         std::optional<ChatTemplate> templ, std::string contexts_root)
    : engine(of),
      options(o),
      scheduler(s),
      metrics(m),
      press(std::move(p)),
      chat_template(std::move(templ)),
      root(std::move(contexts_root)),
      model_name(o.alias.empty() ? std::filesystem::path(of.info().path).filename().string() : o.alias) {
  for (Token t = 0; t < engine.tokenizer().n_vocab(); ++t) {
    if (engine.tokenizer().ends_generation(t)) ending.push_back(t);
  }
}

Json fields_of_query(const httplib::Request& request) {
  Json out = Json::object();
  for (const auto& [name, value] : request.params) {
    const Json parsed = parse_json(value);
    out[name] = parsed.is_number() || parsed.is_boolean() ? parsed : Json(value);
  }
  return out;
}

std::optional<Json> Api::body(const httplib::Request& request, httplib::Response& response) const {
  const Json json = parse_json(request.body);
  if (json.is_object()) {
    Json fields = fields_of_query(request);
    fields.update(json);
    return fields;
  }
  answer(response, ApiError{.message = "the body must be a JSON object, nested no deeper than 64 levels"});
  return std::nullopt;
}

std::string bearer_of(const httplib::Request& request) {
  const std::string header = request.get_header_value("Authorization");
  constexpr std::string_view kBearer = "Bearer ";
  if (header.starts_with(kBearer)) return header.substr(kBearer.size());
  return request.get_header_value("X-Api-Key");
}

std::string Api::space(const httplib::Request& request) const {
  return space_of(options.api_keys.empty() ? "" : bearer_of(request));
}

Result<Press> Api::press_of(Fields& f) const {
  PressRequest r = options.press;
  const bool named = f.has("press");
  if (named && f.text("press") != r.name) {
    r.name = f.text("press");
    r.params.clear();
  }
  if (named && r.name == "none") return Press();
  const int n_amounts = f.has("compression_ratio") + f.has("budget") + f.has("budget_bytes");
  if (n_amounts > 1) f.refuse("only one of 'compression_ratio', 'budget' and 'budget_bytes' can be given");
  if (n_amounts > 0) {
    r.budget.reset();
    r.budget_bytes.reset();
  }
  r.compression_ratio = f.number("compression_ratio", r.compression_ratio, 0, 0.9999);
  if (f.has("budget")) r.budget = f.integer("budget", 0, 1, int64_t{1} << 32);
  if (f.has("budget_bytes")) r.budget_bytes = f.integer("budget_bytes", 0, 1, int64_t{1} << 50);
  return Press::make(r);
}

bool Api::submit(const TaskPtr& task, httplib::Response& response) const {
  ++metrics.requests;
  task->deadline = Clock::now() + std::chrono::seconds(options.timeout_s);
  switch (scheduler.submit(task)) {
    case Scheduler::Submitted::taken:
      return true;
    case Scheduler::Submitted::queue_full:
      ++metrics.refused;
      answer(response,
             ApiError{.status = 429,
                      .message = format("%zu requests wait already; try again later", options.n_queue),
                      .type = "rate_limit_error",
                      .code = "queue_full",
                      .retry_after_s = 2});
      return false;
    case Scheduler::Submitted::stopping:
      break;
  }
  answer(response, ApiError{.status = 503,
                            .message = "the server is being stopped",
                            .type = "server_error",
                            .code = "stopping",
                            .retry_after_s = 10});
  return false;
}

void Api::read_common(Fields& f, Task& task) const {
  SamplingParams& s = task.sampling = options.sampling;
  const auto real = [&](const char* name, float& value, double min, double max) {
    value = static_cast<float>(f.number(name, value, min, max));
  };
  real("temperature", s.temperature, 0, 100);
  real("top_p", s.top_p, 0, 1);
  real("min_p", s.min_p, 0, 1);
  real("typical_p", s.typical_p, 0, 1);
  real("repeat_penalty", s.repeat_penalty, 0.01, 100);
  real("frequency_penalty", s.frequency_penalty, -100, 100);
  real("presence_penalty", s.presence_penalty, -100, 100);
  s.top_k = static_cast<int32_t>(f.integer("top_k", s.top_k, -1, INT32_MAX));
  s.top_k = std::max(s.top_k, 0);
  s.repeat_last_n = static_cast<int32_t>(f.integer("repeat_last_n", s.repeat_last_n, -1, INT32_MAX));
  const int64_t seed = f.integer("seed", s.seed, INT64_MIN / 2, INT64_MAX / 2);
  s.seed = static_cast<uint32_t>(seed);
  if (const Json* biases = f.get("logit_bias")) {
    if (!biases->is_object()) f.refuse("'logit_bias' must be an object of tokens and numbers");
    for (const auto& [name, bias] : biases->items()) {
      char* end = nullptr;
      const long token = std::strtol(name.c_str(), &end, 10);
      if (!bias.is_number() || name.empty() || *end != '\0' || token < 0 ||
          token >= engine.tokenizer().n_vocab()) {
        f.refuse("'logit_bias' must be an object of tokens' numbers and biases");
        break;
      }
      s.logit_bias.emplace_back(static_cast<Token>(token), bias.get<float>());
    }
  }
  if (f.flag("ignore_eos", false)) {
    for (const Token t : ending) s.logit_bias.emplace_back(t, -INFINITY);
  }
  task.n_choices = static_cast<int>(f.integer("n", 1, 1, options.n_parallel));
  const char* most = f.has("max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
  task.n_predict = f.integer(f.has(most) ? most : "n_predict", -1, -1, int64_t{1} << 40);
  if (options.n_predict >= 0 && (task.n_predict < 0 || task.n_predict > options.n_predict)) {
    task.n_predict = options.n_predict;
  }
  task.reuse = f.flag("cache_prompt", true);
  if (const Json* stop = f.get("stop")) {
    constexpr size_t kMostStops = 64;
    if (stop->is_string()) {
      task.stops.push_back(stop->get<std::string>());
    } else if (stop->is_array() && stop->size() <= kMostStops &&
               std::all_of(stop->begin(), stop->end(), [](const Json& each) { return each.is_string(); })) {
      for (const Json& text : *stop) task.stops.push_back(text.get<std::string>());
    } else {
      f.refuse("'stop' must be a string or a list of at most 64");
    }
    std::erase(task.stops, "");
  }
}

std::optional<ApiError> Api::check_length(const Task& task, int64_t n_before) const {
  const int64_t n = n_before + std::ssize(task.tokens), most = scheduler.n_ctx();
  const bool asks = task.n_choices > 0 && task.n_predict != 0;
  if (n + (asks ? 1 : 0) <= most) return std::nullopt;
  return ApiError{.message = format("the prompt has %lld tokens, and the context holds %lld", (long long)n,
                                    (long long)most),
                  .code = "context_length_exceeded"};
}

}  // namespace curdkv::server
