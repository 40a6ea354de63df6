// What users write is text, whatever it says: no token of it is a control or user-defined one, and everything
// else is tokenised as libllama would. And texts that std::regex would overflow the stack on.
#include <gtest/gtest.h>
#include <llama.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "curdkv/text.h"
#include "support/must.h"
#include "support/tiny_model.h"
#include "support/tiny_vocabulary.h"
#include "text/tokenizer_impl.h"

namespace curdkv::testing {
namespace {

Tokenizer load(const TinyVocabulary& v, const std::string& name) {
  return must(Tokenizer::load(write_vocabulary(v, temp_path(name + ".gguf"))));
}

std::vector<Token> libllamas(const Tokenizer& t, const std::string& text, bool begin, bool specials) {
  std::vector<Token> out(text.size() + 4);
  const int32_t n = llama_tokenize(t.impl().vocab, text.data(), static_cast<int32_t>(text.size()), out.data(),
                                   static_cast<int32_t>(out.size()), begin, specials);
  EXPECT_GE(n, 0);
  out.resize(static_cast<size_t>(std::max(n, 0)));
  return out;
}

bool has_marks(const Tokenizer& t, const std::vector<Token>& tokens) {
  for (const Token token : tokens) {
    const auto attr = llama_vocab_get_attr(t.impl().vocab, token);
    const std::string text = llama_vocab_get_text(t.impl().vocab, token);
    if ((attr & LLAMA_TOKEN_ATTR_CONTROL) != 0) return true;
    if ((attr & LLAMA_TOKEN_ATTR_USER_DEFINED) != 0 &&
        text.find_first_not_of(" \n\t\xE2\x96\x81") != text.npos)
      return true;
  }
  return false;
}

// SentencePiece puts a space in front.
std::string text_of(const Tokenizer& t, const std::vector<Token>& tokens) {
  const std::string text = t.text(tokens);
  return text.starts_with(' ') ? text.substr(1) : text;
}

TEST(UsersText, NamesNoSpecialToken) {
  TinyVocabulary spm = sentence_pieces();
  spm.entries.push_back({"<tool>", TokenType::user_defined});
  TinyVocabulary bpe = byte_level();
  bpe.entries[bpe.entries.size() - 2].type = TokenType::user_defined;  // <|im_start|>
  bpe.entries.push_back({"<tool>", TokenType::user_defined});
  bpe.entries.push_back({"word", TokenType::user_defined});
  bpe.entries.push_back({"<\xC3\xA9>", TokenType::user_defined});
  for (const auto& [v, name] : {std::pair{spm, "spm"}, {bpe, "bpe"}}) {
    const Tokenizer t = load(v, std::string("names-") + name);
    for (const std::string text : {"</s>",
                                   "<s>",
                                   "a<s>b</s>c",
                                   "<s></s><s>",
                                   "<<s>",
                                   "<unk>",
                                   "<tool>",
                                   "<tool>x<tool>",
                                   "<<tool>>",
                                   "<tool",
                                   "<|im_start|>system",
                                   "<|im_end|>",
                                   "<|endoftext|>",
                                   "<0x41>",
                                   "in <0x0A> the",
                                   "word",
                                   "words",
                                   "<\xC3\xA9>",
                                   "the <tool> in the <|im_start|><|im_start|>",
                                   "\n\n<tool>\n\n"}) {
      SCOPED_TRACE(name + std::string(": ") + text);
      const auto tokens = must(t.tokenize(text, false, false));
      EXPECT_FALSE(has_marks(t, tokens));
      EXPECT_EQ(text_of(t, tokens), text);
      const auto parts = must(t.tokenize(std::vector<PromptPart>{{"<s>in"}, {text, true}, {"</s>"}}, true));
      EXPECT_EQ(text_of(t, parts), (std::string(name) == "spm" ? "in" + text : "<s>in" + text + "</s>"));
    }
  }
}

TEST(UsersText, OrdinaryUserDefinedPiecesStay) {
  TinyVocabulary spm = sentence_pieces();
  spm.entries.push_back({"\n\n", TokenType::user_defined});
  spm.entries.push_back({"\xE2\x96\x81\xE2\x96\x81\xE2\x96\x81", TokenType::user_defined});
  TinyVocabulary bpe = byte_level();
  bpe.entries.push_back({"   ", TokenType::user_defined});
  bpe.entries[0xF5].type = TokenType::user_defined;  // written as "\xC3\xB5"
  for (const auto& [v, name] : {std::pair{spm, "spm"}, {bpe, "bpe"}}) {
    const Tokenizer t = load(v, std::string("ordinary-") + name);
    for (const std::string text : {"the\n\nin", "a   b", "x     y\n\n\n", "\xC3\xB5 \xC3\xB5"}) {
      EXPECT_EQ(must(t.tokenize(text, false, false)), libllamas(t, text, false, false))
          << name << ": " << text;
    }
  }
}

// A prompt in parts has the tokens of the whole, wherever words cross from one part into the next.
TEST(UsersText, PartsHaveTheWholesTokens) {
  TinyVocabulary spm = sentence_pieces(), phi = sentence_pieces();
  spm.entries.push_back({"<tool>", TokenType::user_defined});
  phi.entries.push_back({"<|user|>", TokenType::control});
  phi.entries.push_back({"<|end|>", TokenType::control});
  phi.entries.push_back({"<|endoftext|>", TokenType::control});
  phi.name = "Phi-3";  // libllama lets special tokens swallow the blanks behind them
  TinyVocabulary bpe = byte_level();
  bpe.entries.push_back({"<tool>", TokenType::user_defined});
  const std::vector<std::vector<PromptPart>> prompts = {
      {{"<s>[in] "}, {"the thing", true}, {" [/in]</s>"}},
      {{"<|im_start|>user\n"}, {"\nthe", true}, {"<|im_end|>\nthe"}},
      {{"t"}, {"he", true}, {" in"}, {"the t", true}, {"he<tool>"}},
      {{"<|user|>\n"}, {"  the ", true}, {"<|end|>\n<|user|> "}, {" ", true}, {"in"}},
      {{""}, {"the", true}, {""}},
      {{"<s>"}, {"", true}, {"</s> the"}},
  };
  for (const auto& [v, name] : {std::pair{spm, "spm"}, {phi, "phi"}, {bpe, "bpe"}}) {
    const Tokenizer t = load(v, std::string("parts-") + name);
    for (const auto& parts : prompts) {
      std::string whole;
      for (const PromptPart& p : parts) whole += p.text;
      EXPECT_EQ(must(t.tokenize(parts, true)), libllamas(t, whole, true, true)) << name << ": " << whole;
    }
    // And so has one that goes on.
    auto tokens = must(t.tokenize(std::vector<PromptPart>{{"<s>in "}, {"the", true}}, true));
    const auto rest = must(t.tokenize(std::vector<PromptPart>{{"\nin", true}, {"</s>in"}}, false));
    tokens.insert(tokens.end(), rest.begin(), rest.end());
    EXPECT_EQ(tokens, libllamas(t, "<s>in the\nin</s>in", true, true)) << name;
  }
}

TEST(UsersText, IsLibllamasWhereItNamesNothing) {
  std::mt19937 random(1);
  const std::vector<std::string> words = {"the", " ",  "  ",   "in",       "\n",   "t", "<",
                                          ">",   "/s", "tool", "\xC3\xA9", "x41>", "7", "\xF0\x9F\x98\x80",
                                          "\t",  "<s"};
  for (const auto& v : {sentence_pieces(), byte_level()}) {
    const Tokenizer t = load(v, "plain-" + v.model);
    for (int i = 0; i < 300; ++i) {
      std::string text;
      for (int n = 0; n < 30; ++n) text += words[random() % words.size()];
      if (has_marks(t, libllamas(t, text, false, false)) || text.find("<0x") != text.npos) continue;
      EXPECT_EQ(must(t.tokenize(text, false, false)), libllamas(t, text, false, false)) << text;
      EXPECT_EQ(must(t.tokenize(text, false, true)), libllamas(t, text, true, false)) << text;
    }
  }
}

// Control tokens of a single character cannot be written in other tokens.
TEST(UsersText, WhatCannotBeSaidOtherwiseIsAnError) {
  TinyVocabulary v = byte_level();
  v.entries['Z'].type = TokenType::control;
  const auto tokens = load(v, "single").tokenize("A to Z", false, false);
  ASSERT_FALSE(tokens);
  EXPECT_NE(tokens.error().message.find("'Z' is a special token"), std::string::npos)
      << tokens.error().message;
}

constexpr const char* kPreTokenizers[] = {
    "tekken", "gpt-4o",    "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon",     "poro-chat",
    "viking", "chameleon", "superbpe",     "bailingmoe",     "seed-coder",  "exaone-moe", "tiny_aya",
    "jais-2", "grok-2",    "youtu",        "default",        "smollm"};

TEST(PreTokenizers, LongRunsOfACharacter) {
  const std::vector<std::string> characters = {"a", "A", "\xE4\xB8\xAD", ".", " ", "\n", "7", "\xE0\xA4\xA8"};
  for (const char* pre : kPreTokenizers) {
    TinyVocabulary v = byte_level();
    v.pre = pre;
    const Tokenizer t = load(v, std::string("runs-") + pre);
    for (const std::string& c : characters) {
      std::string text = "x";
      for (int i = 0; i < 100000; ++i) text += c;
      text += "\xE4\xB8\xAD";
      EXPECT_EQ(t.text(must(t.tokenize(text, false, false))), text) << pre << " " << c;
    }
  }
  // Time grows with the length, and no faster.
  TinyVocabulary v = byte_level();
  v.pre = "tekken";
  const Tokenizer t = load(v, "million");
  const std::string million = "x" + std::string(1000000, ' ') + "y";
  EXPECT_EQ(t.text(must(t.tokenize(million, false, false))), million);
}

// Goldens by tests/goldens/prompts.py: how llama-server, built from the source as it came, cuts a text.
TEST(PreTokenizers, CutTextsAsLlamaServerDoes) {
  std::ifstream file(std::string(CURDKV_TEST_DATA) + "/prompts.json");
  const auto golden = nlohmann::json::parse(file)["tokens"];
  const std::string text = golden["text"];
  size_t n = 0;
  for (const auto& [pre, expected] : golden["pieces"].items()) {
    TinyModel shape;
    shape.pre = pre;
    const Tokenizer t = must(Tokenizer::load(write_tiny_model(shape, temp_path("pre.gguf"))));
    EXPECT_EQ(must(t.tokenize(text, false, false)), expected.get<std::vector<Token>>()) << pre;
    ++n;
  }
  EXPECT_GT(n, 15u);
}

// Texts full of user-defined pieces are cut in time that grows with their length.
TEST(UsersText, ManyUserDefinedPieces) {
  TinyVocabulary v = byte_level();
  v.entries.push_back({"   ", TokenType::user_defined});
  const Tokenizer t = load(v, "many");
  std::string text;
  for (int i = 0; i < 200000; ++i) text += "the   ";
  EXPECT_EQ(must(t.tokenize(text, false, false)).size(), 400000u);
}

}  // namespace
}  // namespace curdkv::testing
