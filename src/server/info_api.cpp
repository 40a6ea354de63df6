// Endpoints that tell, and those that turn texts into tokens.
#include <ctime>

#include "base/utf8.h"
#include "curdkv/version.h"
#include "server/api.h"
#include "text/vocabulary.h"

namespace curdkv::server {
namespace {

void tokenize(const Api& api, const httplib::Request& request, httplib::Response& response) {
  const auto body = api.body(request, response);
  if (!body) return;
  Fields f(*body);
  // vLLM's names, which lm-eval uses, beside llama.cpp's.
  const char* name = f.has("prompt") ? "prompt" : "content";
  const std::string text = f.text(name);
  const bool begin = f.flag("add_special", false) || f.flag("add_special_tokens", false);
  const bool specials = f.flag("parse_special", true);
  const bool pieces = f.flag("with_pieces", false);
  if (!f.has(name)) f.refuse("'content' is missing");
  if (f.error()) return answer(response, *f.error());
  const auto tokens = api.engine.tokenizer().tokenize(text, specials, begin);
  if (!tokens) return answer(response, as_api_error(tokens.error()));
  Json out = Json::array();
  for (const Token t : *tokens) {
    if (!pieces) {
      out.push_back(t);
      continue;
    }
    // Bytes that are no text of their own, as llama-server tells them.
    const std::string piece = api.engine.tokenizer().piece(t, true);
    Json shown = piece;
    if (find_invalid_utf8(piece) != std::string::npos) {
      shown = Json::array();
      for (const char c : piece) shown.push_back(static_cast<unsigned char>(c));
    }
    out.push_back({{"id", t}, {"piece", std::move(shown)}});
  }
  answer(response, Json{{"tokens", std::move(out)}});
}

void detokenize(const Api& api, const httplib::Request& request, httplib::Response& response) {
  const auto body = api.body(request, response);
  if (!body) return;
  Fields f(*body);
  const Json* tokens = f.get("tokens");
  if (tokens == nullptr || !tokens->is_array())
    return answer(response, ApiError{.message = "'tokens' must be a list of tokens"});
  std::string text;
  for (const Json& t : *tokens) {
    if (!t.is_number_integer() || t.get<int64_t>() < 0 ||
        t.get<int64_t>() >= api.engine.tokenizer().n_vocab())
      return answer(response,
                    ApiError{.message = "'tokens' has something that is no token of the vocabulary"});
    text += api.engine.tokenizer().piece(static_cast<Token>(t.get<int64_t>()), true);
  }
  answer(response, Json{{"content", text}, {"prompt", text}});  // llama.cpp's name and vLLM's
}

Json tokenizer_json(const Api& api) {
  const auto text_of = [&](std::optional<Token> token) {
    return token ? Json(api.engine.tokenizer().piece(*token, true)) : Json();
  };
  return {{"bos_token", text_of(begin_token(api.engine.tokenizer()))},
          {"eos_token", text_of(end_token(api.engine.tokenizer()))},
          {"chat_template", api.engine.prompt().chat_template()}};
}

Json model_json(const Api& api) {
  const ModelInfo& m = api.engine.info();
  return {{"id", api.model_name},
          {"object", "model"},
          {"created", std::time(nullptr)},
          {"owned_by", "curdkv"},
          {"meta",
           {{"architecture", m.architecture},
            {"quantization", m.quantization},
            {"n_vocab", m.n_vocab},
            {"n_ctx_train", m.n_ctx_train},
            {"n_ctx", api.scheduler.n_ctx()},
            {"n_embd", m.n_embd},
            {"n_params", m.n_params},
            {"size", m.weights_bytes}}}};
}

Json props_json(const Api& api) {
  const ServerOptions& o = api.options;
  Json presses = Json::array();
  for (const PressInfo& p : list_presses()) {
    if (!p.scorer.empty() || p.name == "none") presses.push_back({{"name", p.name}, {"summary", p.summary}});
  }
  return {{"model_alias", api.model_name},
          {"build_info", "curdkv " + build_info().version},
          {"total_slots", o.n_parallel},
          {"chat_template", api.engine.prompt().chat_template()},
          {"default_generation_settings",
           {{"n_ctx", api.scheduler.n_ctx()},
            {"params",
             {{"temperature", o.sampling.temperature},
              {"top_k", o.sampling.top_k},
              {"top_p", o.sampling.top_p},
              {"min_p", o.sampling.min_p},
              {"seed", o.sampling.seed},
              {"n_predict", o.n_predict}}}}},
          {"press", api.press.spec()},
          {"compression_ratio", api.press.compression_ratio()},
          {"presses", std::move(presses)},
          {"worth_compressing", o.worth_compressing},
          {"keeps_files", !o.contexts.empty()},
          {"modalities", {{"vision", false}, {"audio", false}}}};
}

}  // namespace

void add_info_routes(httplib::Server& server, const Api& api) {
  for (const char* path : {"/health", "/v1/health"}) {
    server.Get(path, [](const auto&, auto& response) { answer(response, Json{{"status", "ok"}}); });
  }
  for (const char* path : {"/v1/models", "/models"}) {
    server.Get(path, [&api](const auto&, auto& response) {
      answer(response, Json{{"object", "list"}, {"data", Json::array({model_json(api)})}});
    });
  }
  server.Get("/v1/models/:id", [&api](const auto& request, auto& response) {
    if (request.path_params.at("id") == api.model_name) return answer(response, model_json(api));
    answer(response, ApiError{.status = 404, .message = "there is no such model", .code = "model_not_found"});
  });
  server.Get("/props", [&api](const auto&, auto& response) { answer(response, props_json(api)); });
  server.Get("/tokenizer_info",
             [&api](const auto&, auto& response) { answer(response, tokenizer_json(api)); });
  server.Get("/metrics", [&api](const auto&, auto& response) {
    response.set_content(api.metrics.text(), "text/plain; version=0.0.4");
  });
  server.Post("/tokenize", [&api](const auto& request, auto& response) { tokenize(api, request, response); });
  server.Post("/detokenize",
              [&api](const auto& request, auto& response) { detokenize(api, request, response); });
}

}  // namespace curdkv::server
