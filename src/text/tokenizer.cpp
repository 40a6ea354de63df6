#include <llama.h>

#include <algorithm>
#include <new>
#include <set>

#include "base/guard.h"
#include "base/log_capture.h"
#include "base/mapped_file.h"
#include "base/try.h"
#include "curdkv/text.h"
#include "text/tokenizer_impl.h"

namespace curdkv {

Result<Tokenizer> Tokenizer::load(const std::string& path) {
  return guarded([&]() -> Result<Tokenizer> {
    CURDKV_TRY([[maybe_unused]] const MappedFile readable, MappedFile::open(path));
    capture_logs();
    take_log_error();
    llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    auto impl = std::make_shared<Impl>();
    const auto loaded = guarded([&] { impl->model.reset(llama_model_load_from_file(path.c_str(), params)); });
    if (!loaded || !impl->model) {
      const std::string why = loaded ? take_log_error() : loaded.error().message;
      if (is_about_memory(why))
        return Error{ErrorCode::out_of_memory, path + ": there is not enough memory to read its vocabulary"};
      // "unknown tokenizer: ...", "unknown pre-tokenizer type: ...", "unknown model architecture: ..."
      const bool unknown = why.find("unknown ") != std::string::npos;
      return Error{unknown ? ErrorCode::unsupported : ErrorCode::corrupt,
                   path + ": the vocabulary cannot be read: " + why};
    }
    impl->vocab = llama_model_get_vocab(impl->model.get());
    if (llama_vocab_type(impl->vocab) == LLAMA_VOCAB_TYPE_NONE) {
      return Error{ErrorCode::unsupported, path + ": the vocabulary cannot be read: there is none"};
    }
    impl->special.emplace(impl->vocab);
    CURDKV_CHECK(impl->find_lead());
    return Tokenizer(std::move(impl));
  });
}

namespace {

constexpr const char* kBlanks = " \t\n\v\f\r";

// Text alone: no token that is named in it is taken for one, but for the user-defined ones, which libllama
// always takes.
Result<void> append_plain(const llama_vocab* vocab, std::string_view text, std::vector<Token>& out) {
  if (text.size() > static_cast<size_t>(INT32_MAX)) {
    return Error{ErrorCode::bad_input, "a text of more than 2 GiB cannot be tokenised"};
  }
  const size_t before = out.size();
  int32_t n = 0;
  const auto done = guarded([&] {
    const auto run = [&](size_t n_tokens) {
      out.resize(before + n_tokens);
      return llama_tokenize(vocab, text.data(), static_cast<int32_t>(text.size()), out.data() + before,
                            static_cast<int32_t>(n_tokens), false, false);
    };
    n = run(text.size() + 2);
    if (n < 0 && n != INT32_MIN)
      n = run(static_cast<size_t>(-n));  // more tokens than bytes: it says how many
  });
  if (!done || n < 0) {
    if (!done && done.error().code == ErrorCode::out_of_memory) return done.error();
    return Error{ErrorCode::bad_input,
                 "the text cannot be tokenised" + (done ? "" : ": " + done.error().message)};
  }
  out.resize(before + static_cast<size_t>(n));
  return {};
}

std::string piece_of(const llama_vocab* vocab, Token token, bool with_specials) {
  std::string out(64, '\0');
  const auto run = [&] {
    return llama_token_to_piece(vocab, token, out.data(), static_cast<int32_t>(out.size()), 0, with_specials);
  };
  int32_t n = 0;
  const auto done = guarded([&] {
    n = run();
    if (n < 0) {
      out.resize(static_cast<size_t>(-n));
      n = run();
    }
  });
  if (!done && done.error().code == ErrorCode::out_of_memory) throw std::bad_alloc();  // as any string may
  out.resize(done && n > 0 ? static_cast<size_t>(n) : 0);
  return out;
}

void sort_unique(std::vector<size_t>& list) {
  std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
}

}  // namespace

void Tokenizer::Impl::Fragment::strip_right() {
  text.erase(text.find_last_not_of(kBlanks) + 1);
  for (auto& [begin, end] : from_user) {
    begin = std::min(begin, text.size());
    end = std::min(end, text.size());
  }
}

// SentencePiece vocabularies put a space in front of every text. Where a text goes on, one goes in front of
// it that no piece of the vocabulary contains, and its tokens are taken off again.
Result<void> Tokenizer::Impl::find_lead() {
  if (llama_vocab_type(vocab) != LLAMA_VOCAB_TYPE_SPM) return {};
  for (const char* candidate : {"\x01", "\x02", "\x03"}) {
    std::vector<Token> alone, with;
    const auto done = append_plain(vocab, candidate, alone);
    const auto followed = append_plain(vocab, candidate + std::string("a"), with);
    for (const auto* each : {&done, &followed}) {
      if (!*each && each->error().code == ErrorCode::out_of_memory) return each->error();
    }
    if (!done || !followed) continue;  // it cannot be said in this vocabulary
    if (alone.empty() || with.size() <= alone.size() || !std::equal(alone.begin(), alone.end(), with.begin()))
      continue;
    lead = candidate;
    lead_tokens = std::move(alone);
    break;
  }
  return {};
}

Result<void> Tokenizer::Impl::append(std::string_view text, bool goes_on, std::vector<Token>& out) const {
  if (text.empty()) return {};
  if (!goes_on || lead.empty()) return append_plain(vocab, text, out);
  std::vector<Token> tokens;
  CURDKV_CHECK(append_plain(vocab, lead + std::string(text), tokens));
  if (tokens.size() < lead_tokens.size() ||
      !std::equal(lead_tokens.begin(), lead_tokens.end(), tokens.begin())) {
    return append_plain(vocab, text, out);
  }
  out.insert(out.end(), tokens.begin() + std::ssize(lead_tokens), tokens.end());
  return {};
}

// The tokens of text between special ones, none of them special themselves where users wrote: the text is cut
// inside every special token's name that reaches into theirs, and again where merging makes one.
Result<void> Tokenizer::Impl::append(const Fragment& fragment, bool goes_on, std::vector<Token>& out) const {
  if (fragment.from_user.empty()) return append(fragment.text, goes_on, out);
  std::vector<size_t> cuts;
  for (const auto& [begin, end] : fragment.from_user) {
    const auto more = special->cuts(fragment.text, begin, end);
    cuts.insert(cuts.end(), more.begin(), more.end());
  }
  sort_unique(cuts);
  while (true) {
    std::vector<Token> tokens;
    size_t from = 0;
    for (size_t i = 0; i <= cuts.size(); ++i) {
      const size_t to = i < cuts.size() ? cuts[i] : fragment.text.size();
      CURDKV_CHECK(
          append(std::string_view(fragment.text).substr(from, to - from), goes_on || from > 0, tokens));
      from = to;
    }
    std::set<Token> made;
    for (const Token t : tokens) {
      if (special->is_forbidden(t)) made.insert(t);
    }
    if (made.empty()) {
      out.insert(out.end(), tokens.begin(), tokens.end());
      return {};
    }
    const size_t n_cuts = cuts.size();
    std::string name;
    for (const Token t : made) {
      name = piece_of(vocab, t, true);
      const size_t first = name.empty() ? 0 : utf8_length(name[0]);
      for (size_t at = 0; !name.empty() && (at = fragment.text.find(name, at)) != std::string::npos; ++at) {
        if (first < name.size()) cuts.push_back(at + first);  // a single character cannot be cut
      }
    }
    sort_unique(cuts);
    if (cuts.size() == n_cuts) {
      return Error{ErrorCode::bad_input, "the text cannot be tokenised: '" + name +
                                             "' is a special token of the model's vocabulary"};
    }
  }
}

Result<std::vector<Token>> Tokenizer::Impl::tokenize(std::span<const PromptPart> parts, bool begin,
                                                     bool goes_on) const {
  std::vector<Token> out;
  if (begin && llama_vocab_get_add_bos(vocab) && llama_vocab_bos(vocab) != LLAMA_TOKEN_NULL) {
    out.push_back(llama_vocab_bos(vocab));
  }
  Fragment fragment;
  bool swallow = false;  // blanks at the left of what comes next
  const auto add_text = [&](std::string_view text, bool from_user) {
    if (swallow) text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
    if (text.empty()) return;
    swallow = false;
    if (from_user) fragment.from_user.emplace_back(fragment.text.size(), fragment.text.size() + text.size());
    fragment.text += text;
  };
  const auto end_fragment = [&]() -> Result<void> {
    if (!fragment.text.empty()) {
      CURDKV_CHECK(append(fragment, goes_on, out));
      goes_on = true;
    }
    fragment = {};
    return {};
  };
  for (const PromptPart& part : parts) {
    if (part.from_user) {
      add_text(part.text, true);
      continue;
    }
    for (const SpecialTokens::Piece& piece : special->split(part.text)) {
      if (piece.token < 0) {
        add_text(piece.text, false);
        continue;
      }
      if (piece.strip_left) fragment.strip_right();
      CURDKV_CHECK(end_fragment());
      out.push_back(piece.token);
      goes_on = false;
      swallow = piece.strip_right;
    }
  }
  CURDKV_CHECK(end_fragment());
  return out;
}

Result<std::vector<Token>> Tokenizer::tokenize(const std::string& text, bool specials, bool begin) const {
  return guarded([&] { return impl_->tokenize(std::vector<PromptPart>{{text, !specials}}, begin, false); });
}

Result<std::vector<Token>> Tokenizer::tokenize(std::span<const PromptPart> parts, bool begin) const {
  return guarded([&] { return impl_->tokenize(parts, begin, !begin); });
}

std::string Tokenizer::piece(Token token, bool specials) const {
  return piece_of(impl_->vocab, token, specials);
}

std::string Tokenizer::text(std::span<const Token> tokens) const {
  std::string out;
  for (Token t : tokens) out += piece(t);
  return out;
}

bool Tokenizer::ends_generation(Token token) const {
  return llama_vocab_is_eog(impl_->vocab, token);
}
int64_t Tokenizer::n_vocab() const {
  return llama_vocab_n_tokens(impl_->vocab);
}

std::string Tokenizer::chat_template() const {
  const char* source = llama_model_chat_template(impl_->model.get(), nullptr);
  return source == nullptr ? "" : source;
}

}  // namespace curdkv
