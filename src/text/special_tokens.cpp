#include "text/special_tokens.h"

#include <algorithm>
#include <cctype>

namespace curdkv {

size_t utf8_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0xC0 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

namespace {

constexpr std::string_view kSpmSpace = "\xE2\x96\x81";  // how SentencePiece writes a space

bool is_blank(std::string_view text) {
  while (!text.empty()) {
    if (text.starts_with(kSpmSpace)) {
      text.remove_prefix(kSpmSpace.size());
    } else if (std::isspace(static_cast<unsigned char>(text[0]))) {
      text.remove_prefix(1);
    } else {
      return false;
    }
  }
  return true;
}

// Some vocabularies type ordinary pieces as user-defined, so that they are cut out before anything is merged:
// runs of blanks and line breaks (Gemma, OLMo, Phi), single letters (DeepSeek). Documents were full of them
// in training. Everything longer that is not blank is a mark of some kind: a role, a tool, a gap to fill.
bool is_ordinary(llama_token_attr attr, std::string_view text) {
  return (attr & LLAMA_TOKEN_ATTR_USER_DEFINED) != 0 && (attr & LLAMA_TOKEN_ATTR_CONTROL) == 0 &&
         (is_blank(text) || text.size() <= utf8_length(text[0]));
}

}  // namespace

SpecialTokens::SpecialTokens(const llama_vocab* vocab) {
  const Token n = llama_vocab_n_tokens(vocab);
  forbidden_.resize(static_cast<size_t>(n));
  for (Token t = 0; t < n; ++t) {
    const llama_token_attr attr = llama_vocab_get_attr(vocab, t);
    constexpr int kNamed =
        LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_USER_DEFINED | LLAMA_TOKEN_ATTR_UNKNOWN;
    const std::string text = llama_vocab_get_text(vocab, t);
    const bool is_byte = (attr & LLAMA_TOKEN_ATTR_BYTE) != 0 && text.starts_with("<0x");
    if (text.empty() || !((attr & kNamed) != 0 || is_byte)) continue;
    if (is_ordinary(attr, text) && !llama_vocab_is_eog(vocab, t)) continue;
    named_.push_back(
        {t, text, !is_byte, (attr & LLAMA_TOKEN_ATTR_LSTRIP) != 0, (attr & LLAMA_TOKEN_ATTR_RSTRIP) != 0});
    // Byte tokens are what characters unknown to the vocabulary are made of, and so is the unknown token,
    // which WordPiece types as control: it is their names that must not count.
    const bool is_unknown = (attr & LLAMA_TOKEN_ATTR_UNKNOWN) != 0 || text == "[UNK]";
    forbidden_[static_cast<size_t>(t)] = !is_byte && !is_unknown;
  }
  std::stable_sort(named_.begin(), named_.end(),
                   [](const Named& a, const Named& b) { return a.text.size() > b.text.size(); });
  for (uint32_t i = 0; i < named_.size(); ++i) {
    by_first_byte_[static_cast<unsigned char>(named_[i].text[0])].push_back(i);
  }
}

std::vector<SpecialTokens::Piece> SpecialTokens::split(const std::string& text) const {
  std::vector<Piece> pieces;
  if (!text.empty()) pieces.push_back({.text = text});
  for (const Named& named : named_) {
    if (!named.in_templates || text.find(named.text) == std::string::npos) continue;
    std::vector<Piece> out;
    for (Piece& piece : pieces) {
      if (piece.token >= 0) {
        out.push_back(std::move(piece));
        continue;
      }
      size_t from = 0;
      for (size_t at = 0; (at = piece.text.find(named.text, from)) != std::string::npos;
           from = at + named.text.size()) {
        if (at > from) out.push_back({.text = piece.text.substr(from, at - from)});
        out.push_back({named.token, "", named.strip_left, named.strip_right});
      }
      if (from < piece.text.size()) out.push_back({.text = piece.text.substr(from)});
    }
    pieces = std::move(out);
  }
  return pieces;
}

std::vector<size_t> SpecialTokens::cuts(std::string_view text, size_t begin, size_t end) const {
  std::vector<size_t> out;
  const size_t longest = named_.empty() ? 0 : named_[0].text.size();
  for (size_t at = begin > longest ? begin - longest : 0; at < end; ++at) {
    for (const uint32_t i : by_first_byte_[static_cast<unsigned char>(text[at])]) {
      const std::string& name = named_[i].text;
      if (at + name.size() <= begin || text.compare(at, name.size(), name) != 0) continue;
      const size_t first = utf8_length(name[0]);
      if (first < name.size()) out.push_back(at + first);
      break;
    }
  }
  return out;
}

bool SpecialTokens::is_forbidden(Token token) const {
  return token >= 0 && static_cast<size_t>(token) < forbidden_.size() &&
         forbidden_[static_cast<size_t>(token)];
}

}  // namespace curdkv
