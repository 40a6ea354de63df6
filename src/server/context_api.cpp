// /v1/contexts: documents that are read once and asked for ever. A context is made of a text, or of a saved
// context's file; it is named by what it is made of, so that making it again finds it.
#include <ctime>
#include <filesystem>
#include <fstream>

#include "base/format.h"
#include "base/try.h"
#include "base/utf8.h"
#include "io/input_file.h"
#include "io/output_file.h"
#include "server/identity.h"
#include "server/prompt_plan.h"
#include "server/reply.h"

namespace curdkv::server {
namespace {

ApiError not_found() {
  return {.status = 404, .message = "there is no such context", .code = "context_not_found"};
}

ApiError stopping() {
  return {
      .status = 503, .message = "the server is being stopped", .type = "server_error", .code = "stopping"};
}

Json summary_json(const ContextSummary& c) {
  Json documents = Json::array();
  for (const ContextDocument& d : c.documents)
    documents.push_back({{"name", d.name}, {"bytes", d.n_bytes}, {"sha256", d.sha256}});
  return {{"id", c.id},
          {"object", "context"},
          {"created", c.created},
          {"last_used", c.last_used},
          {"documents", std::move(documents)},
          {"press", c.press},
          {"compression_ratio", c.compression_ratio},
          {"n_tokens", c.n_tokens},
          {"kv_bytes", c.kv_bytes},
          {"kv_bytes_full", c.kv_bytes_full},
          {"file_bytes", c.file_bytes},
          {"in_memory", c.in_memory},
          {"pinned", c.pinned}};
}

// Events of progress, and the context at the end.
class ContextReply : public Reply {
 public:
  ContextReply(const Api& api, std::string space, std::string id)
      : api_(api), space_(std::move(space)), id_(std::move(id)) {}

  Result<std::vector<Json>> chunks(size_t, const Event& e) override {
    std::vector<Json> out;
    if (e.kind == Event::Kind::progress) {
      out.push_back(
          {{"object", "context.progress"}, {"id", id_}, {"processed", e.n_done}, {"total", e.n_total}});
    } else if (e.kind == Event::Kind::done) {
      prompt_ms_ = e.usage.prompt_ms;
      found_ = e.usage.n_cached > 0;
      CURDKV_TRY(Json whole, this->whole());
      out.push_back(std::move(whole));
    }
    return out;
  }
  Result<Json> whole() override {
    std::optional<ContextSummary> about;
    if (!api_.scheduler.call([&](ContextPool& pool) { about = pool.summary(space_, id_); }) || !about)
      return Error{ErrorCode::internal,
                   "the context went as it came: the memory for contexts is too small for it"};
    Json out = summary_json(*about);
    out["found"] = found_;
    return out;
  }

 private:
  const Api& api_;
  const std::string space_, id_;
  double prompt_ms_ = 0;
  bool found_ = false;
};

void create(const Api& api, const httplib::Request& request, httplib::Response& response) {
  const bool plain = request.get_header_value("Content-Type").starts_with("text/");
  std::optional<Json> body;
  if (plain) {
    body = fields_of_query(request);
    (*body)["document"] = request.body;
  } else {
    body = api.body(request, response);
  }
  if (!body) return;
  Fields f(*body);
  const std::string text = f.text("document"), name = f.text("name", "document");
  if (text.empty()) f.refuse("'document' must be a text that is not empty");
  if (find_invalid_utf8(text) != std::string::npos) f.refuse("the document is no UTF-8 text");
  const bool stream = f.flag("stream", false);
  const auto press = api.press_of(f);
  if (f.error()) return answer(response, *f.error());
  if (!press) return answer(response, as_api_error(press.error()));

  const auto task = std::make_shared<Task>();
  task->space = api.space(request);
  task->n_choices = 0;
  task->documents = {{name.substr(0, 256), std::ssize(text), sha256(text)}};
  PromptPlan plan;
  auto tokens = api.engine.prompt().context(text);
  if (!tokens) return answer(response, as_api_error(tokens.error()));
  plan.tokens = std::move(*tokens);
  plan.cuts = {std::ssize(plan.tokens)};
  if (plan.tokens.empty()) return answer(response, ApiError{.message = "'document' has no tokens"});
  task->links = links_of(plan, api.root, *press);
  task->tokens = std::move(plan.tokens);
  if (const auto error = api.check_length(*task, 1)) return answer(response, *error);
  respond(api, {task}, std::make_shared<ContextReply>(api, task->space, task->links.back().id),
          {.stream = stream, .progress = true}, request, response);
}

// A call on the pool, with what it says in JSON.
void ask_pool(const Api& api, httplib::Response& response,
              const std::function<Result<Json>(ContextPool&)>& call) {
  Result<Json> out = Json();
  if (!api.scheduler.call([&](ContextPool& pool) { out = call(pool); })) return answer(response, stopping());
  if (out) return answer(response, *out);
  if (out.error().code == ErrorCode::bad_input) return answer(response, not_found());
  answer(response, as_api_error(out.error()));
}

// The id in the path; an error was answered if it is none.
std::optional<std::string> id_of(const httplib::Request& request, httplib::Response& response) {
  const auto it = request.path_params.find("id");
  if (it != request.path_params.end() && is_id(it->second)) return it->second;
  answer(response, not_found());
  return std::nullopt;
}

Result<Json> show(const Api& api, ContextPool& pool, const std::string& space, const std::string& id,
                  bool shaded) {
  const auto about = pool.summary(space, id);
  if (!about) return Error{ErrorCode::bad_input, ""};
  Json out = summary_json(*about);
  if (!shaded) return out;
  CURDKV_TRY(const ContextPool::Shading shading, pool.shading(space, id));
  Json pieces = Json::array(), kept = Json::array();
  for (const Token t : shading.tokens) pieces.push_back(api.engine.tokenizer().piece(t, true));
  for (const float share : shading.kept) kept.push_back(std::round(share * 1000) / 1000);
  out["tokens"] = std::move(pieces);
  out["kept"] = std::move(kept);
  return out;
}

void download(const Api& api, const httplib::Request& request, httplib::Response& response) {
  const auto id = id_of(request, response);
  if (!id) return;
  const std::string space = api.space(request);
  Result<std::string> path = std::string();
  if (!api.scheduler.call([&](ContextPool& pool) { path = pool.file(space, *id); }))
    return answer(response, stopping());
  if (!path) {
    return answer(response,
                  path.error().code == ErrorCode::bad_input ? not_found() : as_api_error(path.error()));
  }
  std::error_code error;
  const auto bytes = std::filesystem::file_size(*path, error);
  auto file = std::make_shared<std::ifstream>(*path, std::ios::binary);
  if (error || !*file) return answer(response, not_found());
  response.set_header("Content-Disposition", "attachment; filename=\"" + *id + ".kvc\"");
  response.set_content_provider(
      static_cast<size_t>(bytes), "application/octet-stream",
      [file](size_t offset, size_t length, httplib::DataSink& sink) {
        std::array<char, 1 << 16> buffer;
        file->seekg(static_cast<std::streamoff>(offset));
        file->read(buffer.data(), static_cast<std::streamsize>(std::min(length, buffer.size())));
        return file->gcount() > 0 && sink.write(buffer.data(), static_cast<size_t>(file->gcount()));
      });
}

// The body is written beside the contexts, checked as a whole, and only then one of them.
void upload(const Api& api, const httplib::Request& request, httplib::Response& response,
            const httplib::ContentReader& read) {
  if (api.options.contexts.empty()) {
    return answer(
        response,
        ApiError{.message = "the server keeps no contexts in files; start it with --contexts FOLDER"});
  }
  const std::string space = api.space(request), id = random_hex_id();
  Result<void> ready;
  std::string path;
  const bool called = api.scheduler.call([&](ContextPool& pool) {
    ready = pool.folder().make_space(space);
    path = pool.folder().path_of(space, id);
  });
  if (!called) return answer(response, stopping());
  if (!ready) return answer(response, as_api_error(ready.error()));
  auto file = OutputFile::create(path, 0600);
  if (!file) return answer(response, as_api_error(file.error()));
  Result<void> written;
  size_t n_bytes = 0;
  const bool whole = read([&](const char* data, size_t length) {
    n_bytes += length;
    if (n_bytes > api.options.max_body * 64) return false;
    written = file->append({data, length});
    return static_cast<bool>(written);
  });
  if (!written) return answer(response, as_api_error(written.error()));
  if (!whole)
    return answer(response,
                  ApiError{.status = 413, .message = "the file did not come whole, or is too large"});
  if (const auto done = file->commit(); !done) return answer(response, as_api_error(done.error()));
  Result<ContextSummary> added = ContextSummary();
  const bool asked = api.scheduler.call([&](ContextPool& pool) { added = pool.add_file(space, id, path); });
  if (asked && added) return answer(response, summary_json(*added));
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
  if (!asked) return answer(response, stopping());
  Error error = added.error();
  const size_t at = error.message.find(path);
  if (at != std::string::npos) error.message.replace(at, path.size(), "the file");
  answer(response, as_api_error(error));
}

}  // namespace

void add_context_routes(httplib::Server& server, const Api& api) {
  server.Post("/v1/contexts",
              [&api](const auto& request, auto& response) { create(api, request, response); });
  server.Post("/v1/contexts/upload", [&api](const auto& request, auto& response, const auto& read) {
    upload(api, request, response, read);
  });
  server.Get("/v1/contexts", [&api](const auto& request, auto& response) {
    ask_pool(api, response, [&](ContextPool& pool) -> Result<Json> {
      Json data = Json::array();
      for (const ContextSummary& c : pool.list(api.space(request))) data.push_back(summary_json(c));
      return Json{{"object", "list"}, {"data", std::move(data)}};
    });
  });
  server.Get("/v1/contexts/:id/file",
             [&api](const auto& request, auto& response) { download(api, request, response); });
  server.Get("/v1/contexts/:id", [&api](const auto& request, auto& response) {
    const auto id = id_of(request, response);
    if (!id) return;
    const std::string shading = request.get_param_value("shading");
    if (!shading.empty() && shading != "0" && shading != "1")
      return answer(response, ApiError{.message = "'shading' must be 0 or 1"});
    const bool shaded = shading == "1";
    ask_pool(api, response,
             [&](ContextPool& pool) { return show(api, pool, api.space(request), *id, shaded); });
  });
  server.Delete("/v1/contexts/:id", [&api](const auto& request, auto& response) {
    const auto id = id_of(request, response);
    if (!id) return;
    ask_pool(api, response, [&](ContextPool& pool) -> Result<Json> {
      CURDKV_CHECK(pool.remove(api.space(request), *id));
      return Json{{"id", *id}, {"object", "context.deleted"}, {"deleted", true}};
    });
  });
  server.Post("/v1/contexts/:id", [&api](const auto& request, auto& response) {
    const auto id = id_of(request, response);
    if (!id) return;
    const auto body = api.body(request, response);
    if (!body) return;
    Fields f(*body);
    const bool pinned = f.flag("pinned", false);
    if (!f.has("pinned")) f.refuse("'pinned' is missing");
    if (f.error()) return answer(response, *f.error());
    ask_pool(api, response, [&](ContextPool& pool) -> Result<Json> {
      CURDKV_CHECK(pool.pin(api.space(request), *id, pinned));
      return show(api, pool, api.space(request), *id, false);
    });
  });
}

}  // namespace curdkv::server
