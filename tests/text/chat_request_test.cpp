// Requests in OpenAI's form: what the template makes of tools, what holds the answer to its form, and how it
// is read.
#include "text/chat_request.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "io/input_file.h"
#include "support/expect_error.h"
#include "support/must.h"
#include "support/tiny_model.h"

namespace curdkv::testing {
namespace {

constexpr const char* kTools =
    R"([{"type": "function", "function": {"name": "look_up", "description": "Looks up.",
  "parameters": {"type": "object", "properties": {"word": {"enum": ["ant", "bee"]}}, "required": ["word"]}}}])";

class ChatRequests : public ::testing::Test {
 protected:
  static Tokenizer& tokenizer() {
    static Tokenizer one = must(Tokenizer::load(write_tiny_model(TinyModel{}, temp_path("requests.gguf"))));
    return one;
  }
  static ChatTemplate qwen() {
    const std::string source = must(read_text(CURDKV_TEMPLATES "/Qwen-Qwen2.5-7B-Instruct.jinja"));
    return must(ChatTemplate::create(tokenizer(), {.source = source}));
  }
  static ChatRequest asking(const std::string& choice) {
    return {.messages = R"([{"role": "user", "content": "Look up ant."}])",
            .tools = kTools,
            .tool_choice = choice};
  }
};

// What a sampler lets a model say that wants to say `wanted`, byte by byte, and then end.
std::string said(Sampler& sampler, const Tokenizer& tokenizer, const std::string& wanted) {
  std::string out;
  const auto n_vocab = static_cast<size_t>(tokenizer.n_vocab());
  for (size_t i = 0; i < wanted.size() + 40; ++i) {
    std::vector<float> logits(n_vocab, 0);
    for (size_t t = 0; t < n_vocab; ++t) {
      const auto token = static_cast<Token>(t);
      const std::string piece = tokenizer.piece(token);
      if (tokenizer.ends_generation(token)) logits[t] = out.size() >= wanted.size() ? 9 : -9;
      if (out.size() < wanted.size() && piece == wanted.substr(out.size(), 1)) logits[t] = 10;
    }
    const Token token = sampler.sample(logits);
    if (tokenizer.ends_generation(token)) break;
    out += tokenizer.piece(token);
  }
  return out;
}

TEST_F(ChatRequests, ToolsAreToldAndHoldTheAnswer) {
  const auto rendered = must(render_request(qwen(), asking("required")));
  EXPECT_NE(rendered.text().find("look_up"), std::string::npos);
  EXPECT_FALSE(rendered.constraint.lazy);
  const std::string call =
      "<tool_call>\n{\"name\": \"look_up\", \"arguments\": {\"word\": \"bee\"}}\n</tool_call>";
  std::string wrong = call;
  wrong.replace(wrong.find("bee"), 3, "bat");
  auto sampler = must(Sampler::create({}, tokenizer(), rendered.constraint));
  EXPECT_EQ(said(sampler, tokenizer(), call), call);
  auto other = must(Sampler::create({}, tokenizer(), rendered.constraint));
  EXPECT_NE(said(other, tokenizer(), wrong).find("\"bee\""), std::string::npos);
}

TEST_F(ChatRequests, WhereToolsMayBeCalledTheGrammarWaitsForOne) {
  const auto rendered = must(render_request(qwen(), asking("auto")));
  EXPECT_TRUE(rendered.constraint.lazy);
  auto free = must(Sampler::create({}, tokenizer(), rendered.constraint));
  EXPECT_EQ(said(free, tokenizer(), "No {tool} is needed."), "No {tool} is needed.");
  auto bound = must(Sampler::create({}, tokenizer(), rendered.constraint));
  const std::string text = said(bound, tokenizer(), "Well. <tool_call>\n{\"name\": \"look_down\"");
  EXPECT_NE(text.find("\"look_up\""), std::string::npos) << text;
}

TEST_F(ChatRequests, CallsAreReadAsTheyGrow) {
  auto parser = must(render_request(qwen(), asking("auto"))).parser;
  const std::string text =
      "Let me see.\n<tool_call>\n{\"name\": \"look_up\", \"arguments\": {\"word\": \"ant\"}}\n</tool_call>";
  std::string content, name, arguments, id;
  for (size_t n = 1; n <= text.size(); ++n) {
    const auto deltas =
        parser.read(text.substr(0, n), n == text.size(), [] { return std::string("call_1"); });
    if (!deltas) continue;  // in the middle of what has no form yet
    for (const AnswerDelta& d : *deltas) {
      content += d.content;
      if (d.tool_call < 0) continue;
      EXPECT_EQ(d.tool_call, 0);
      id += d.call.id;
      name += d.call.name;
      arguments += d.call.arguments;
    }
  }
  EXPECT_EQ(content.substr(0, 11), "Let me see.");
  EXPECT_EQ(name, "look_up");
  EXPECT_EQ(id, "call_1");
  arguments.erase(std::remove(arguments.begin(), arguments.end(), ' '), arguments.end());
  EXPECT_EQ(arguments, "{\"word\":\"ant\"}");
  ASSERT_EQ(parser.answer().tool_calls.size(), 1u);
}

TEST_F(ChatRequests, ASchemaHoldsTheAnswer) {
  ChatRequest request = asking("auto");
  request.tools.clear();
  request.json_schema = R"({"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]})";
  const auto rendered = must(render_request(qwen(), request));
  auto sampler = must(Sampler::create({}, tokenizer(), rendered.constraint));
  EXPECT_EQ(said(sampler, tokenizer(), "{\"n\": 2}"), "{\"n\": 2}");
  auto other = must(Sampler::create({}, tokenizer(), rendered.constraint));
  EXPECT_EQ(said(other, tokenizer(), "{\"m\": 2}").substr(0, 4), "{\"n\"");
}

TEST_F(ChatRequests, AnAnswerGoesOnFromTheAssistantsMessage) {
  // The prompt ends with the message as it is, what it says of special tokens is text, and of the answer only
  // what is new is told.
  ChatRequest request = asking("auto");
  request.tools.clear();
  request.continuation = Continuation::either;
  for (const std::string begun : {"It is an <|im_end|> ", "It is an "}) {
    request.messages =
        R"([{"role": "user", "content": "Who?"}, {"role": "assistant", "content": ")" + begun + "\"}]";
    auto rendered = must(render_request(qwen(), request));
    EXPECT_TRUE(rendered.text().ends_with("<|im_start|>assistant\n" + begun)) << rendered.text();
    EXPECT_EQ(
        rendered.parts.back().text.empty() ? rendered.parts[rendered.parts.size() - 2].from_user : false,
        begun.find('<') != std::string::npos);
    std::string content;
    for (const char* text : {"ant", "ant of", "ant of sorts."}) {
      for (const AnswerDelta& d : must(rendered.parser.read(text, false, [] { return std::string(); })))
        content += d.content;
    }
    EXPECT_EQ(content, "ant of sorts.");
    EXPECT_EQ(rendered.parser.answer().content, "ant of sorts.");
  }
  request.json_schema = R"({"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]})";
  request.messages =
      R"([{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "{\"n\":"}])";
  auto sampler = must(Sampler::create({}, tokenizer(), must(render_request(qwen(), request)).constraint));
  EXPECT_EQ(said(sampler, tokenizer(), " 2}"), " 2}");
}

TEST_F(ChatRequests, NotEveryMessageCanBeGoneOnFrom) {
  ChatRequest request = asking("auto");
  request.continuation = Continuation::content;
  const auto refused = [&](const char* words) {
    const auto rendered = render_request(qwen(), request);
    ASSERT_FALSE(rendered);
    EXPECT_EQ(rendered.error().code, ErrorCode::bad_input);
    EXPECT_NE(rendered.error().message.find(words), std::string::npos) << rendered.error().message;
  };
  refused("only the assistant's");
  request.messages =
      R"([{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "I"}, {"role": "assistant", "content": "I"}])";
  refused("two messages");
  request.messages =
      R"([{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "", "tool_calls": [
          {"id": "a", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}]}])";
  refused("calls tools");
}

TEST_F(ChatRequests, BadOnesAreErrors) {
  const auto refused = [&](ChatRequest request, const char* words) {
    const auto rendered = render_request(qwen(), request);
    ASSERT_FALSE(rendered);
    EXPECT_EQ(rendered.error().code, ErrorCode::bad_input);
    EXPECT_NE(rendered.error().message.find(words), std::string::npos) << rendered.error().message;
  };
  ChatRequest request = asking("auto");
  request.messages = "[{";
  refused(request, "");
  request = asking("never");
  refused(request, "tool_choice");
  request = asking("auto");
  request.tools = R"([{"type": "function"}])";
  refused(request, "");
  const auto plain = must(ChatTemplate::create(tokenizer(), {}));
  const auto rendered = render_request(plain, asking("auto"));
  ASSERT_FALSE(rendered);
  EXPECT_NE(rendered.error().message.find("no tools"), std::string::npos);
  EXPECT_FALSE(Sampler::create({}, tokenizer(), {.grammar = "root ::= ("}));
  EXPECT_FALSE(Sampler::create({}, tokenizer(), {.grammar = "root ::= root \"a\""}));
  EXPECT_FALSE(Sampler::create({.repeat_penalty = 0}, tokenizer(), {}));
}

TEST_F(ChatRequests, PenaltiesAndBiasesCount) {
  const auto n = static_cast<size_t>(tokenizer().n_vocab());
  std::vector<float> logits(n, 0);
  logits[5] = 3;
  logits[6] = 2.5;
  auto plain = must(Sampler::create({}, tokenizer(), {}));
  EXPECT_EQ(plain.sample(logits), 5);
  EXPECT_EQ(plain.sample(logits), 5);
  auto penalised = must(Sampler::create({.presence_penalty = 1}, tokenizer(), {}));
  EXPECT_EQ(penalised.sample(logits), 5);
  EXPECT_EQ(penalised.sample(logits), 6);
  auto biased = must(Sampler::create({.logit_bias = {{7, 10.0f}}}, tokenizer(), {}));
  EXPECT_EQ(biased.sample(logits), 7);
}

}  // namespace
}  // namespace curdkv::testing
