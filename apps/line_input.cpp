#include "line_input.h"

#include <histedit.h>
#include <langinfo.h>
#include <unistd.h>

#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstring>

namespace curdkv::app {
namespace {

constexpr int kMostRemembered = 1000;

// Characters, not bytes, are edited, whatever the language.
void use_utf8() {
  if (std::setlocale(LC_CTYPE, "") == nullptr || std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
    std::setlocale(LC_CTYPE, "C.UTF-8");
}

}  // namespace

// libedit's, whose C functions find it as their client data.
struct LineInput::Editor {
  EditLine* edit;
  History* history;
  const char* prompt = "";
  std::string interrupted_text;
  bool interrupted = false;

  Editor() {
    use_utf8();
    edit = el_init("curdkv", stdin, stdout, stderr);
    history = history_init();
    HistEvent event;
    ::history(history, &event, H_SETSIZE, kMostRemembered);
    ::history(history, &event, H_SETUNIQUE, 1);
    el_set(edit, EL_CLIENTDATA, this);
    el_set(edit, EL_PROMPT, shown_prompt);
    el_set(edit, EL_SIGNAL, 1);  // the terminal is put back before a signal ends the process
    el_set(edit, EL_EDITOR, "emacs");
    el_set(edit, EL_HIST, ::history, history);
    // Ctrl-C is a key here, and so must Ctrl-Z be.
    el_set(edit, EL_SETTY, "-d", "-isig", nullptr);
    el_set(edit, EL_ADDFN, "interrupt", "leave this line", interrupt);
    el_set(edit, EL_ADDFN, "suspend", "stop the program for a while", suspend);
    el_set(edit, EL_BIND, "^C", "interrupt", nullptr);
    el_set(edit, EL_BIND, "^Z", "suspend", nullptr);
    el_set(edit, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  }
  ~Editor() {
    el_end(edit);
    history_end(history);
  }

  static Editor* of(EditLine* e) {
    Editor* self = nullptr;
    el_get(e, EL_CLIENTDATA, &self);
    return self;
  }
  static char* shown_prompt(EditLine* e) { return const_cast<char*>(of(e)->prompt); }  // NOLINT: its type
  static unsigned char interrupt(EditLine* e, int) {
    const LineInfo* line = el_line(e);
    of(e)->interrupted = true;
    of(e)->interrupted_text.assign(line->buffer, line->lastchar);
    return CC_EOF;
  }
  static unsigned char suspend(EditLine*, int) {
    std::raise(SIGTSTP);
    return CC_REDISPLAY;
  }

  Line next() {
    interrupted = false;
    el_set(edit, EL_PREP_TERM, 1);  // before the prompt is seen, so that keys are keys from there on
    int n = 0;
    const char* typed = el_gets(edit, &n);
    if (interrupted) return {Kind::interrupt, interrupted_text};
    if (typed == nullptr || n <= 0) return {Kind::end};
    std::string text(typed, static_cast<size_t>(n));
    if (text.ends_with('\n')) text.pop_back();
    HistEvent event;
    if (!text.empty()) ::history(history, &event, H_ENTER, text.c_str());
    return {Kind::line, std::move(text)};
  }
};

LineInput::LineInput() {
  if (isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0) editor_ = std::make_unique<Editor>();
}
LineInput::~LineInput() = default;

bool LineInput::edits() const {
  return editor_ != nullptr;
}

LineInput::Line LineInput::next(const char* prompt) {
  if (editor_ != nullptr) {
    editor_->prompt = prompt;
    return editor_->next();
  }
  Line line = {Kind::line};
  int c = std::getc(stdin);
  if (c == EOF) return {Kind::end};
  for (; c != EOF && c != '\n'; c = std::getc(stdin)) {
    if (line.text.size() < kMostBytes) {
      line.text += static_cast<char>(c);
    } else {
      line.too_long = true;
    }
  }
  if (line.text.ends_with('\r')) line.text.pop_back();
  return line;
}

}  // namespace curdkv::app
