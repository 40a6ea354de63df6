#include "truncate.h"

#include <algorithm>

#include "base/format.h"
#include "base/try.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

constexpr const char* kGap = "\n[...]\n";

}  // namespace

const std::map<std::string, Truncate>& truncations() {
  static const std::map<std::string, Truncate> names = {
      {"head", Truncate::head}, {"middle", Truncate::middle}, {"tail", Truncate::tail}};
  return names;
}

Result<int64_t> truncate(const Engine& engine, Truncate how, int64_t most, std::vector<Token>& context) {
  if (how == Truncate::none || std::ssize(context) <= most) return 0;

  CURDKV_TRY(const std::vector<Token> before, engine.prompt().context(""));
  std::vector<Token> gap;
  if (how == Truncate::middle) {
    CURDKV_TRY(gap, engine.tokenizer().tokenize(kGap, false, false));
  }
  const auto n_before =
      std::mismatch(before.begin(), before.end(), context.begin(), context.end()).first - before.begin();
  const auto document = std::span<const Token>(context).subspan(static_cast<size_t>(n_before));
  const int64_t room = most - std::ssize(before) - std::ssize(gap);
  const int64_t n_head = how == Truncate::head ? room : how == Truncate::tail ? 0 : (room + 1) / 2;
  if (room < 1) {
    return Error{
        ErrorCode::bad_input,
        "there is no room for a part of the document beside the question and the answer: raise -c, or "
        "ask for a shorter answer with -n"};
  }
  const auto begins_character = [&](size_t i) {
    const std::string piece = engine.tokenizer().piece(document[i]);
    return piece.empty() || (static_cast<unsigned char>(piece[0]) & 0xC0) != 0x80;
  };
  auto head = static_cast<size_t>(n_head);
  auto tail = document.size() - static_cast<size_t>(room - n_head);
  while (head > 0 && !begins_character(head)) --head;
  while (tail < document.size() && !begins_character(tail)) ++tail;

  const auto n_left_out = static_cast<int64_t>(tail - head);
  const std::string left_out = std::to_string(n_left_out);
  note(
      format("the document has %zu tokens, and with question and answer there is room for %lld: %s are left "
             "out",
             document.size(), (long long)room,
             (how == Truncate::head   ? "its last " + left_out
              : how == Truncate::tail ? "its first " + left_out
                                      : left_out + " in its middle")
                 .c_str()));
  // Where the template's last word runs on into the document's first, a head keeps the word and a tail does
  // not.
  std::vector<Token> kept = before;
  if (head > 0) kept.assign(context.begin(), context.begin() + n_before + static_cast<int64_t>(head));
  kept.insert(kept.end(), gap.begin(), gap.end());
  kept.insert(kept.end(), document.begin() + static_cast<int64_t>(tail), document.end());
  context = std::move(kept);
  return n_left_out;
}

}  // namespace curdkv::app
