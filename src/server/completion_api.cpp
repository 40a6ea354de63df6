// POST /v1/completions: a text is gone on with. With "echo" and "logprobs" the prompt's tokens are scored as
// well.
#include <ctime>

#include "base/format.h"
#include "base/try.h"
#include "server/identity.h"
#include "server/prompt_plan.h"
#include "server/reply.h"

namespace curdkv::server {
namespace {

constexpr size_t kMostPrompts = 64;

class CompletionReply : public Reply {
 public:
  CompletionReply(const Api& api, std::vector<TaskPtr> tasks, bool echo, bool with_usage)
      : api_(api),
        tasks_(std::move(tasks)),
        echo_(echo),
        logprobs_(tasks_[0]->n_top >= 0),
        with_usage_(with_usage),
        id_(random_id("cmpl-")),
        created_(std::time(nullptr)) {
    const auto n = static_cast<size_t>(std::max(tasks_[0]->n_choices, 1));
    choices_.resize(n * tasks_.size());
    for (size_t i = 0; echo && i < choices_.size(); ++i)
      choices_[i].begin(*tasks_[i / n], api_.engine.tokenizer());
  }

  Result<std::vector<Json>> chunks(size_t n, const Event& e) override {
    const auto n_choices = static_cast<size_t>(std::max(tasks_[0]->n_choices, 1));
    const size_t i = n * n_choices + static_cast<size_t>(e.choice);
    std::vector<Json> out;
    switch (e.kind) {
      case Event::Kind::progress:
        out.push_back(head(Json::array()));
        out.back()["prompt_progress"] = {{"processed", e.n_done}, {"total", e.n_total}};
        break;
      case Event::Kind::prompt:
        for (size_t c = 0; echo_ && c < n_choices; ++c) choices_[n * n_choices + c].probs = e.probs;
        break;
      case Event::Kind::text:
        take(choices_[i], i, e, "", out);
        break;
      case Event::Kind::choice_done:
        choices_[i].finish = e.finish;
        take(choices_[i], i, e, e.finish, out);
        break;
      case Event::Kind::done:
        add_to(usage_, e.usage);
        break;
      case Event::Kind::failed:
        break;
    }
    return out;
  }

  std::vector<Json> last() override {
    std::vector<Json> out;
    if (!with_usage_) return out;
    out.push_back(head(Json::array()));
    add_usage(out.back());
    return out;
  }

  Result<Json> whole() override {
    Json choices = Json::array();
    for (size_t i = 0; i < choices_.size(); ++i) {
      const Choice& c = choices_[i];
      Json choice = {{"index", i}, {"text", c.text}, {"finish_reason", c.finish}, {"logprobs", nullptr}};
      if (logprobs_) choice["logprobs"] = probs_json(c, 0, 0);
      choices.push_back(std::move(choice));
    }
    Json out = head(std::move(choices));
    add_usage(out);
    return out;
  }

 private:
  struct Choice {
    std::string text = {}, finish = {};
    bool echoes = false;
    Token first = 0;  // of the prompt, if it is echoed: nothing says how probable it is
    std::vector<TokenProb> probs = {};
    size_t n_told = 0;  // of these
    size_t n_bytes = 0;

    void begin(const Task& task, const Tokenizer& tokenizer) {
      echoes = !task.tokens.empty();
      if (!echoes) return;
      first = task.tokens.front();
      for (const Token t : task.tokens) text += tokenizer.piece(t, true);
    }
  };

  Json head(Json choices) const {
    return {{"id", id_},
            {"object", "text_completion"},
            {"created", created_},
            {"model", api_.model_name},
            {"system_fingerprint", "curdkv"},
            {"choices", std::move(choices)}};
  }
  void add_usage(Json& to) const {
    to["usage"] = usage_json(usage_);
    to["timings"] = timings_json(usage_);
    if (!usage_.context.empty()) to["context"] = usage_.context;
  }

  void take(Choice& c, size_t i, const Event& e, const std::string& finish, std::vector<Json>& out) {
    const bool begins = c.n_bytes == 0 && c.n_told == 0;
    std::string text = e.text;
    if (begins && c.echoes) text = c.text + text;
    c.text += e.text;
    c.probs.insert(c.probs.end(), e.probs.begin(), e.probs.end());
    if (text.empty() && e.probs.empty() && finish.empty()) return;
    Json choice = {{"index", i}, {"text", text}, {"finish_reason", nullptr}, {"logprobs", nullptr}};
    if (!finish.empty()) choice["finish_reason"] = finish;
    if (logprobs_) choice["logprobs"] = probs_json(c, c.n_told, c.n_bytes);
    c.n_told = c.probs.size();
    c.n_bytes += text.size();
    out.push_back(head(Json::array({std::move(choice)})));
  }

  // OpenAI's older form; text_offset in bytes of the text.
  Json probs_json(const Choice& c, size_t from, size_t offset) const {
    Json tokens = Json::array(), logprobs = Json::array(), top = Json::array(), offsets = Json::array();
    const Tokenizer& tokenizer = api_.engine.tokenizer();
    if (c.echoes && from == 0) {
      const std::string piece = tokenizer.piece(c.first, true);
      tokens.push_back(piece);
      logprobs.push_back(nullptr);
      top.push_back(nullptr);
      offsets.push_back(offset);
      offset += piece.size();
    }
    for (size_t i = from; i < c.probs.size(); ++i) {
      const TokenProb& p = c.probs[i];
      const std::string piece = tokenizer.piece(p.token, true);
      tokens.push_back(piece);
      logprobs.push_back(p.logprob);
      Json likeliest = Json::object();
      for (const auto& [token, logprob] : p.top) likeliest[tokenizer.piece(token, true)] = logprob;
      top.push_back(std::move(likeliest));
      offsets.push_back(offset);
      offset += piece.size();
    }
    return {
        {"tokens", tokens}, {"token_logprobs", logprobs}, {"top_logprobs", top}, {"text_offset", offsets}};
  }

  const Api& api_;
  const std::vector<TaskPtr> tasks_;
  const bool echo_, logprobs_, with_usage_;
  const std::string id_;
  const int64_t created_;
  std::vector<Choice> choices_;
  Usage usage_;
};

bool is_tokens(const Json& json) {
  return json.is_array() && !json.empty() &&
         std::all_of(json.begin(), json.end(), [](const Json& t) { return t.is_number_integer(); });
}

// One prompt: a text, or tokens.
Result<PromptPlan> plan_of(const Api& api, const Json& prompt, int64_t worth, bool behind_context) {
  const Tokenizer& tokenizer = api.engine.tokenizer();
  if (prompt.is_string()) {
    const std::string text = prompt.get<std::string>();
    if (!behind_context) return plan_text(tokenizer, text, worth);
    PromptPlan plan;
    CURDKV_TRY(plan.tokens, tokenizer.tokenize(std::vector<PromptPart>{{text}}, false));
    return plan;
  }
  if (!is_tokens(prompt))
    return Error{ErrorCode::bad_input, "'prompt' must be a string, a list of tokens, or a list of these"};
  PromptPlan plan;
  for (const Json& t : prompt) {
    const auto token = t.get<int64_t>();
    if (token < 0 || token >= tokenizer.n_vocab())
      return Error{ErrorCode::bad_input,
                   format("'prompt' has a token, %lld, that the vocabulary has not", (long long)token)};
    plan.tokens.push_back(static_cast<Token>(token));
  }
  if (worth > 0 && !behind_context) plan.cuts = cuts_of_tokens(tokenizer, plan.tokens, worth);
  return plan;
}

// What is scored is read like a context, which is the fastest way through many tokens, and kept for nobody.
void score_whole(Task& task) {
  for (Link& link : task.links) link.id.clear();
  if (task.links.empty() && !task.tokens.empty())
    task.links.push_back({"", std::ssize(task.tokens), Press()});
}

void complete(const Api& api, const httplib::Request& request, httplib::Response& response) {
  const auto body = api.body(request, response);
  if (!body) return;
  Fields f(*body);
  Task common;
  common.space = api.space(request);
  api.read_common(f, common);
  const bool echo = f.flag("echo", false);
  if (f.has("logprobs") && f.get("logprobs")->is_boolean()) {
    common.n_top = f.flag("logprobs", false) ? 1 : -1;
  } else {
    common.n_top = static_cast<int>(f.integer("logprobs", -1, -1, 20));
  }
  common.base = f.text("context");
  common.constraint.grammar = f.text("grammar");
  common.prompt_probs = echo && common.n_top >= 0;
  // A prompt that is scored is computed whole, and nothing of it is compressed unless that is asked for.
  if (common.prompt_probs) common.reuse = false;
  const int64_t worth = common.prompt_probs && !f.has("press") ? 0 : api.options.worth_compressing;
  const bool stream = f.flag("stream", false), progress = f.flag("return_progress", false);
  bool with_usage = false;
  if (const Json* options = f.get("stream_options")) {
    with_usage = options->is_object() && options->value("include_usage", Json(false)) == Json(true);
  }
  if (!f.text("suffix").empty()) f.refuse("'suffix' cannot be used: the server goes on from a text's end");
  const Json* given = f.get("prompt");
  if (given == nullptr) f.refuse("'prompt' is missing");
  const auto press = api.press_of(f);
  if (f.error()) return answer(response, *f.error());
  if (!press) return answer(response, as_api_error(press.error()));

  const bool several = given->is_array() && !is_tokens(*given);
  const Json prompts = several ? *given : Json::array({*given});
  if (prompts.empty() || prompts.size() > kMostPrompts)
    return answer(response, ApiError{.message = format("'prompt' must hold 1 to %zu prompts", kMostPrompts)});
  std::vector<TaskPtr> tasks;
  for (const Json& prompt : prompts) {
    auto plan = plan_of(api, prompt, worth, !common.base.empty());
    if (!plan) return answer(response, as_api_error(plan.error()));
    const auto task = std::make_shared<Task>();
    task->space = common.space;
    task->base = common.base;
    task->sampling = common.sampling;
    task->constraint = common.constraint;
    task->stops = common.stops;
    task->n_choices = common.n_choices;
    task->n_predict =
        common.n_predict < 0 && !f.has("max_tokens") && !f.has("n_predict") ? 16 : common.n_predict;
    task->n_top = common.n_top;
    task->prompt_probs = common.prompt_probs;
    task->reuse = common.reuse;
    task->links = links_of(*plan, api.root, *press);
    task->tokens = std::move(plan->tokens);
    if (task->prompt_probs) score_whole(*task);
    if (task->tokens.empty() && task->base.empty())
      return answer(
          response,
          ApiError{.message = "'prompt' is empty, and the model's vocabulary begins texts with nothing"});
    if (const auto error = api.check_length(*task, 0)) return answer(response, *error);
    tasks.push_back(task);
  }
  const auto possible = Sampler::create(common.sampling, api.engine.tokenizer(), common.constraint);
  if (!possible) return answer(response, as_api_error(possible.error()));
  respond(api, tasks, std::make_shared<CompletionReply>(api, tasks, echo, with_usage),
          {.stream = stream, .progress = progress}, request, response);
}

}  // namespace

void add_completion_routes(httplib::Server& server, const Api& api) {
  for (const char* path : {"/v1/completions", "/completions"}) {
    server.Post(path, [&api](const auto& request, auto& response) { complete(api, request, response); });
  }
}

}  // namespace curdkv::server
