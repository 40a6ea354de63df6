#include "chat_loop.h"

#include <algorithm>

#include "base/format.h"
#include "base/nearest.h"
#include "base/try.h"
#include "base/utf8.h"
#include "io/output_file.h"
#include "questions.h"
#include "run_report.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

constexpr const char* kBlanks = " \t\r\n";

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(kBlanks);
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(kBlanks) + 1 - begin);
}

Error unusable(const std::string& what) {
  return {ErrorCode::bad_input, what};
}

// Of a reading that a command may call for: its bar is there from its first piece to its last.
class OwnBar {
 public:
  OwnBar(std::string label, int64_t n_tokens) {
    options_.progress = [this, label = std::move(label), n_tokens](int64_t done, int64_t total) {
      if (!bar_) bar_.emplace(label, n_tokens);
      bar_->update(done, total);
      if (done == total) bar_.reset();
    };
  }
  OwnBar(const OwnBar&) = delete;
  OwnBar& operator=(const OwnBar&) = delete;
  const ReadOptions& reading() const { return options_; }

 private:
  std::optional<ProgressBar> bar_;
  ReadOptions options_;
};

constexpr const char* kOlderTurns = "reading older turns";

}  // namespace

struct ChatLoop::Command {
  const char* name;
  const char* argument;  // "" for none
  const char* help;
  Result<void> (ChatLoop::*obey)(const std::string& argument);
};

const std::vector<ChatLoop::Command>& ChatLoop::commands() {
  static const std::vector<Command> all = {
      {"/ask-again", "", "the last question again, from the same point", &ChatLoop::ask_again},
      {"/forget", "", "forget the turns since the document", &ChatLoop::forget},
      {"/full", "", "answer the last question from the full cache, which is read when first asked for",
       &ChatLoop::ask_in_full},
      {"/read", "FILE", "read another document into the chat", &ChatLoop::read_file},
      {"/save", "FILE", "save what is there as a context, for --context", &ChatLoop::save},
      {"/stats", "", "tokens, rows, bytes and speed", &ChatLoop::show_size},
      {"/help", "", "this list", &ChatLoop::help},
      {"/exit", "", "end the chat, as Ctrl-D does", &ChatLoop::exit},
  };
  return all;
}

Result<int> ChatLoop::run() {
  if (input_.edits()) {
    CURDKV_CHECK(write_out("/help lists the commands; Ctrl-C stops an answer, Ctrl-D ends the chat.\n"));
  }
  int code = kOk;
  bool once_more_ends = false;
  // At a terminal Ctrl-C is a key while a line is typed, and never ends the program in between.
  std::optional<InterruptScope> throughout;
  if (input_.edits()) throughout.emplace(InterruptScope::Then::goes_on);
  while (!over_) {
    lower_interrupted();
    const LineInput::Line line = input_.next("> ");
    if (line.kind == LineInput::Kind::end) {
      if (input_.edits()) CURDKV_CHECK(write_out("\n"));
      break;
    }
    if (line.kind == LineInput::Kind::interrupt) {
      if (once_more_ends && line.text.empty()) break;
      once_more_ends = line.text.empty();
      CURDKV_CHECK(write_out(once_more_ends ? "\nCtrl-C once more, or Ctrl-D, ends the chat.\n" : "\n"));
      continue;
    }
    once_more_ends = false;
    std::optional<InterruptScope> meanwhile;
    if (!throughout) meanwhile.emplace(InterruptScope::Then::goes_on);
    const auto done =
        line.too_long
            ? Result<void>(unusable(format("the line is longer than %zu bytes", LineInput::kMostBytes)))
            : obey(trimmed(line.text));
    CURDKV_CHECK(written_);
    if (done) continue;
    if (done.error().code == ErrorCode::cancelled) {
      write_err("(stopped)\n");
    } else {
      write_err("error: " + done.error().message + "\n");
      if (!input_.edits()) code = kFailed;
    }
  }
  return code;
}

Result<void> ChatLoop::obey(const std::string& line) {
  if (line.empty()) return {};
  if (const size_t at = find_invalid_utf8(line); at != std::string::npos)
    return unusable("the line is not UTF-8 text: byte " + std::to_string(at) + " is malformed");
  if (line[0] != '/') return ask(line);
  const std::string name = line.substr(0, line.find_first_of(kBlanks));
  const std::string argument = trimmed(line.substr(name.size()));
  std::vector<std::string> names;
  for (const Command& c : commands()) {
    names.emplace_back(c.name);
    if (name != c.name) continue;
    if (argument.empty() != (c.argument[0] == '\0')) {
      return unusable(argument.empty() ? name + " needs a " + c.argument + " behind it"
                                       : name + " takes nothing behind it");
    }
    return (this->*c.obey)(argument);
  }
  return unusable("there is no command '" + name + "'" + did_you_mean(name, names) +
                  "; /help lists what there is");
}

Result<void> ChatLoop::answer(const std::function<Result<Generation>(const GenerateOptions&)>& ask) {
  GenerateOptions options = o_.generate;
  const Stopwatch watch;
  double first_ms = 0;
  bool ends_line = true;
  options.on_text = [&](const std::string& text) {
    if (first_ms == 0) first_ms = watch.ms();
    if (written_) written_ = write_out(text);
    ends_line = text.ends_with('\n');
  };
  const auto generation = ask(options);
  if (written_ && (generation || first_ms > 0)) written_ = write_out(ends_line ? "\n" : "\n\n");
  CURDKV_CHECK(written_);
  if (!generation) return generation.error();
  first_ms_ = first_ms;
  decode_ms_ = generation->decode_ms_per_token;
  if (generation->context_full) {
    note(format("the answer ends where the context of %lld tokens is full; /forget makes room",
                (long long)executor_.n_ctx()));
  }
  return {};
}

Result<void> ChatLoop::ask(const std::string& question) {
  n_asked_again_ = 0;
  OwnBar bar(kOlderTurns, chat_.size().n_turn_tokens);
  return answer([&](const GenerateOptions& options) { return chat_.ask(question, options, bar.reading()); });
}

// Sampled answers differ from one time to the next.
Result<void> ChatLoop::ask_again(const std::string&) {
  ++n_asked_again_;
  OwnBar bar(kOlderTurns, chat_.size().n_turn_tokens);
  return answer([&](GenerateOptions options) {
    options.sampling.seed += static_cast<uint32_t>(n_asked_again_);
    return chat_.ask_again(options, bar.reading());
  });
}

Result<void> ChatLoop::ask_in_full(const std::string&) {
  OwnBar bar("reading, full cache", chat_.size().n_tokens);
  return answer([&](const GenerateOptions& options) { return chat_.ask_in_full(options, bar.reading()); });
}

Result<void> ChatLoop::forget(const std::string&) {
  chat_.forget();
  return {};
}

Result<void> ChatLoop::read(const std::string& text, std::vector<ContextDocument> parts) {
  Reading r;
  std::optional<ProgressBar> bar;
  Press press;
  const auto choose = [&](int64_t n_tokens) -> Result<Press> {
    const int64_t n_held = chat_.size().n_tokens;
    if (n_held + n_tokens > executor_.n_ctx())
      CURDKV_CHECK(context_limit(engine_.info(), o_.executor.params.n_ctx, n_held + n_tokens, 0));
    press = o_.press.unless_short(press_, n_tokens, false);
    r.label = press_label(press);
    bar.emplace("reading, " + r.label, n_tokens);
    return press;
  };
  ReadOptions options;
  options.progress = [&](int64_t done, int64_t total) { bar->update(done, total); };
  CURDKV_TRY(r.prefill, chat_.read(text, choose, options));
  bar.reset();
  r.kv_bytes_peak = r.prefill.kv_bytes_peak;
  write_err(reading_as_text(r));
  if (!made_by) made_by = press;
  documents.insert(documents.end(), parts.begin(), parts.end());
  return {};
}

Result<void> ChatLoop::read_file(const std::string& path) {
  if (path == "-") return unusable("standard input has the questions; give a file");
  std::vector<ContextDocument> parts;
  CURDKV_TRY(const std::string text, DocumentOptions::of_file(path).read(&parts));
  return read(text, std::move(parts));
}

Result<void> ChatLoop::save(const std::string& path) {
  std::vector<std::string> inputs = o_.prompt.files();
  inputs.push_back(engine_.info().path);
  for (const ContextDocument& d : documents) inputs.push_back(d.name);
  CURDKV_CHECK(check_output(path, inputs));
  OwnBar bar(kOlderTurns, chat_.size().n_turn_tokens);
  CURDKV_TRY(const Conversation::Snapshot held, chat_.snapshot(bar.reading()));
  ContextOrigin origin;
  origin.documents = documents;
  origin.tokens = held.tokens;
  origin.press = made_by.value_or(Press());
  origin.logits = false;
  CURDKV_CHECK(save_context(path, engine_, held.sequence, origin));
  return write_out(format("%s: %lld tokens saved, %s\n", path.c_str(), (long long)held.sequence.n_tokens(),
                          human_bytes(held.sequence.kv_bytes()).c_str()));
}

Result<void> ChatLoop::show_size(const std::string&) {
  const ConversationSize s = chat_.size();
  std::string out = format("tokens  %lld, of which %lld since the document\n", (long long)s.n_tokens,
                           (long long)s.n_turn_tokens);
  out += format("rows    %lld in the longest head, at most %lld since the document\n", (long long)s.n_rows,
                (long long)s.n_turn_rows);
  out += format("bytes   %s of %s", human_bytes(s.kv_bytes).c_str(), human_bytes(s.kv_bytes_full).c_str());
  if (s.kv_bytes_beside > 0)
    out += format("; the full cache beside it %s", human_bytes(s.kv_bytes_beside).c_str());
  out += "\nspeed   ";
  out += first_ms_ > 0 ? format("first token after %.0f ms", first_ms_) : "nothing was answered yet";
  if (decode_ms_ > 0) out += format(", then %.1f t/s", 1e3 / decode_ms_);
  return write_out(out + "\n");
}

Result<void> ChatLoop::help(const std::string&) {
  std::string out;
  for (const Command& c : commands()) {
    out += format("%-16s%s\n", (std::string(c.name) + " " + c.argument).c_str(), c.help);
  }
  return write_out(out);
}

Result<void> ChatLoop::exit(const std::string&) {
  over_ = true;
  return {};
}

}  // namespace curdkv::app
