#include "server/chat_reply.h"

#include <ctime>

#include "base/try.h"
#include "server/identity.h"

namespace curdkv::server {
namespace {

Json bytes_of(const std::string& text) {
  Json out = Json::array();
  for (const char c : text) out.push_back(static_cast<unsigned char>(c));
  return out;
}

class ChatReply : public Reply {
 public:
  ChatReply(const Api& api, AnswerParser parser, int n_choices, bool logprobs, bool with_usage)
      : api_(api),
        logprobs_(logprobs),
        with_usage_(with_usage),
        id_(random_id("chatcmpl-")),
        created_(std::time(nullptr)),
        choices_(static_cast<size_t>(n_choices), Choice{.parser = std::move(parser)}) {}

  Result<std::vector<Json>> chunks(size_t, const Event& e) override {
    std::vector<Json> out;
    switch (e.kind) {
      case Event::Kind::progress:
        out.push_back(chunk(Json::array()));
        out.back()["prompt_progress"] = {{"processed", e.n_done}, {"total", e.n_total}};
        break;
      case Event::Kind::prompt:
        break;
      case Event::Kind::text:
        CURDKV_CHECK(take(e, false, out));
        break;
      case Event::Kind::choice_done: {
        Choice& c = choices_[static_cast<size_t>(e.choice)];
        CURDKV_CHECK(take(e, e.finish == "stop", out));
        c.finish = e.finish == "stop" && !c.parser.answer().tool_calls.empty() ? "tool_calls" : e.finish;
        out.push_back(chunk({delta(e.choice, Json::object(), c.finish)}));
        break;
      }
      case Event::Kind::done:
        usage_ = e.usage;
        break;
      case Event::Kind::failed:
        break;
    }
    return out;
  }

  std::vector<Json> last() override {
    std::vector<Json> out;
    if (!with_usage_) return out;
    out.push_back(chunk(Json::array()));
    add_usage(out.back());
    return out;
  }

  Result<Json> whole() override {
    Json choices = Json::array();
    for (size_t i = 0; i < choices_.size(); ++i) {
      const ParsedAnswer a = choices_[i].parser.answer();
      Json message = {{"role", "assistant"}, {"content", a.content}};
      if (!a.reasoning.empty()) message["reasoning_content"] = a.reasoning;
      if (!a.tool_calls.empty()) {
        if (a.content.empty()) message["content"] = nullptr;
        for (const ToolCall& call : a.tool_calls) message["tool_calls"].push_back(call_json(call));
      }
      Json choice = {
          {"index", i}, {"message", message}, {"finish_reason", choices_[i].finish}, {"logprobs", nullptr}};
      if (logprobs_) choice["logprobs"] = {{"content", choices_[i].probs}};
      choices.push_back(std::move(choice));
    }
    Json out = {{"id", id_},
                {"object", "chat.completion"},
                {"created", created_},
                {"model", api_.model_name},
                {"system_fingerprint", "curdkv"},
                {"choices", std::move(choices)}};
    add_usage(out);
    return out;
  }

 private:
  struct Choice {
    AnswerParser parser;
    std::string text = {}, finish = {};
    bool begun = false;
    Json probs = Json::array();
  };

  static Json call_json(const ToolCall& call) {
    return {{"id", call.id},
            {"type", "function"},
            {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
  }
  Json chunk(Json choices) const {
    return {{"id", id_},
            {"object", "chat.completion.chunk"},
            {"created", created_},
            {"model", api_.model_name},
            {"system_fingerprint", "curdkv"},
            {"choices", std::move(choices)}};
  }
  static Json delta(int choice, Json delta, const std::string& finish = "") {
    Json out = {
        {"index", choice}, {"delta", std::move(delta)}, {"finish_reason", nullptr}, {"logprobs", nullptr}};
    if (!finish.empty()) out["finish_reason"] = finish;
    return out;
  }
  void add_usage(Json& to) const {
    to["usage"] = usage_json(usage_);
    to["timings"] = timings_json(usage_);
    if (!usage_.context.empty()) to["context"] = usage_.context;
  }

  Json prob_json(const TokenProb& p) const {
    const auto one = [&](Token token, float logprob) -> Json {
      const std::string piece = api_.engine.tokenizer().piece(token, true);
      return {{"token", piece}, {"logprob", logprob}, {"bytes", bytes_of(piece)}};
    };
    Json out = one(p.token, p.logprob);
    out["top_logprobs"] = Json::array();
    for (const auto& [token, logprob] : p.top) out["top_logprobs"].push_back(one(token, logprob));
    return out;
  }

  // What the choice's answer has more of now, as chunks.
  Result<void> take(const Event& e, bool whole, std::vector<Json>& out) {
    Choice& c = choices_[static_cast<size_t>(e.choice)];
    if (!c.begun) out.push_back(chunk({delta(e.choice, {{"role", "assistant"}, {"content", nullptr}})}));
    c.begun = true;
    c.text += e.text;
    Json probs = Json::array();
    for (const TokenProb& p : e.probs) probs.push_back(prob_json(p));
    c.probs.insert(c.probs.end(), probs.begin(), probs.end());
    auto deltas = c.parser.read(c.text, whole, [] { return random_id("call_"); });
    // The end of an answer may be of no form at all: what was read of it before stays.
    if (!deltas && deltas.error().code != ErrorCode::bad_input) return deltas.error();
    for (const AnswerDelta& d : deltas ? *deltas : std::vector<AnswerDelta>()) {
      Json part = Json::object();
      if (!d.reasoning.empty()) part["reasoning_content"] = d.reasoning;
      if (!d.content.empty()) part["content"] = d.content;
      if (d.tool_call >= 0) {
        Json call = {{"index", d.tool_call}, {"function", {{"arguments", d.call.arguments}}}};
        if (!d.call.name.empty()) {
          call["id"] = d.call.id;
          call["type"] = "function";
          call["function"]["name"] = d.call.name;
        }
        part["tool_calls"] = Json::array({std::move(call)});
      }
      if (part.empty()) continue;
      Json choice = delta(e.choice, std::move(part));
      if (logprobs_ && !probs.empty())
        choice["logprobs"] = {{"content", std::exchange(probs, Json::array())}};
      out.push_back(chunk(Json::array({std::move(choice)})));
    }
    return {};
  }

  const Api& api_;
  const bool logprobs_, with_usage_;
  const std::string id_;
  const int64_t created_;
  std::vector<Choice> choices_;
  Usage usage_;
};

}  // namespace

std::shared_ptr<Reply> chat_reply(const Api& api, AnswerParser parser, int n_choices, bool logprobs,
                                  bool with_usage) {
  return std::make_shared<ChatReply>(api, std::move(parser), n_choices, logprobs, with_usage);
}

}  // namespace curdkv::server
