#include "arguments.h"

#include <algorithm>

#include "base/nearest.h"
#include "base/try.h"
#include "llama_options.h"

namespace curdkv::app {
namespace {

Error wrong(const std::string& message) {
  return {ErrorCode::bad_argument, message};
}

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return text;
}

std::vector<std::string> commands_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(sub->get_name());
  return names;
}

std::vector<std::string> options_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* o : app.get_options()) {
    for (const std::string& name : o->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::string full_name(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name() : full_name(*app.get_parent()) + " " + app.get_name();
}

bool has_positionals(const CLI::App& app) {
  const auto options = app.get_options();
  return std::any_of(options.begin(), options.end(),
                     [](const CLI::Option* o) { return o->get_positional(); });
}

bool is_option(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && !(word[1] >= '0' && word[1] <= '9') && word[1] != '.';
}

class Reader {
 public:
  Reader(const CLI::App& program, const std::vector<std::string>& given)
      : program_(program), app_(&program), given_(given) {}

  Result<Arguments> read() {
    CURDKV_TRY(const bool done, words_for_help());
    while (!done && at_ < given_.size()) {
      const std::string word = given_[at_++];
      if (word == "--") {
        out_.words.push_back(word);
        while (at_ < given_.size()) out_.words.push_back(given_[at_++]);
      } else if (is_option(word)) {
        CURDKV_CHECK(option(word));
      } else {
        CURDKV_CHECK(plain_word(word));
      }
    }
    return std::move(out_);
  }

 private:
  // Whole command lines that ask for help or the version: true if this is one.
  Result<bool> words_for_help() {
    if (given_.empty()) return false;
    const std::string first = lower(given_[0]);
    if (first == "version" || given_[0] == "-v" || given_[0] == "-V" || given_[0] == "--version") {
      out_.version = true;
      return true;
    }
    const bool asks = first == "help" || given_[0] == "-h" || given_[0] == "--help" ||
                      given_[0] == "--usage" || given_[0] == "-?";
    if (!asks) return false;
    for (size_t i = 1; i < given_.size() && !is_option(given_[i]); ++i) CURDKV_CHECK(plain_word(given_[i]));
    out_.words.emplace_back("--help");
    return true;
  }

  // A command, or what a command takes without an option's name.
  Result<void> plain_word(const std::string& word) {
    if (const CLI::App* sub = subcommand(word); sub != nullptr) {
      app_ = sub;
      out_.words.push_back(word);
      return {};
    }
    if (app_ == &program_) {
      const std::string meant = did_you_mean(word, commands_of(program_));
      return wrong("there is no command '" + word + "'" +
                   (meant.empty() ? " ('curdkv help' lists them)" : meant));
    }
    if (lower(word) == "help" && out_.words.back() == app_->get_name()) {
      out_.words.emplace_back("--help");
      return {};
    }
    if (has_positionals(*app_)) {
      out_.words.push_back(word);
      return {};
    }
    if (const std::string command = did_you_mean(word, commands_of(*app_)); !command.empty())
      return wrong(full_name(*app_) + " has no command '" + word + "'" + command);
    std::string mend;
    if (app_->get_option_no_throw("--model") != nullptr) mend = ": the model is given with -m";
    if (app_->get_option_no_throw("--file") != nullptr) mend += ", a document with -f";
    if (app_->get_option_no_throw("--question") != nullptr) mend += ", a question with -q (in quotes)";
    return wrong("'" + word + "' stands alone, and " + full_name(*app_) + " takes options only" + mend);
  }

  Result<void> option(const std::string& word) {
    const size_t equals = word.starts_with("--") ? word.find('=') : std::string::npos;
    const std::string name = word.substr(0, equals);
    if (const CLI::Option* own = app_->get_option_no_throw(name); own != nullptr) {
      return own_option(*own, word, equals != std::string::npos);
    }
    if (const CLI::Option* own = app_->get_option_no_throw(std::string(long_name(name))); own != nullptr)
      return own_option(*own, own->get_name(), false);
    if (name == "-?" || name == "--usage") {
      out_.words.emplace_back("--help");
      return {};
    }
    if (app_ == &program_) return before_command(name);
    const LlamaOption* theirs = find_llama_option(name);
    const bool loads_models = app_->get_option_no_throw("--model") != nullptr;
    if (theirs != nullptr && loads_models) {
      return llama_option(*theirs, name, equals == std::string::npos ? nullptr : &word[equals + 1]);
    }
    // -n5, but no letters: "-fa" is not "-f a".
    const CLI::Option* shorter = app_->get_option_no_throw(word.substr(0, 2));
    const bool digits = word.size() > 2 && word.find_first_not_of("0123456789", 2) == std::string::npos;
    if (!word.starts_with("--") && digits && shorter != nullptr && shorter->get_items_expected_min() > 0) {
      out_.words.push_back(word);
      return {};
    }
    return wrong(full_name(*app_) + " has no option '" + name + "'" + did_you_mean(name, options_of(*app_)));
  }

  // An option's value is its own, whatever it looks like.
  Result<void> own_option(const CLI::Option& own, const std::string& word, bool has_value) {
    out_.words.push_back(word);
    if (has_value || own.get_items_expected_min() == 0) return {};
    if (at_ == given_.size()) return wrong("'" + word + "' needs a value behind it");
    out_.words.push_back(given_[at_++]);
    return {};
  }

  Result<void> before_command(const std::string& name) const {
    std::string mend = did_you_mean(name, options_of(program_));
    if (find_llama_option(name) != nullptr ||
        program_.get_subcommand("run")->get_option_no_throw(name) != nullptr) {
      mend = " (as in: curdkv run -m MODEL -f FILE -q QUESTION)";
    }
    return wrong("'" + name + "': options stand behind the command they are for" + mend);
  }

  Result<void> llama_option(const LlamaOption& theirs, const std::string& name, const char* attached) {
    std::string value = attached == nullptr ? "" : attached;
    const bool takes = theirs.takes == LlamaOption::Takes::value;
    const bool may_take = theirs.takes == LlamaOption::Takes::maybe_a_switch;
    if (theirs.fate == LlamaOption::Fate::renamed) return renamed(theirs, name, attached);
    const bool follows = at_ < given_.size();
    if (attached == nullptr && takes) {
      // What is refused is refused by its name, with or without a value.
      if (!follows && theirs.fate != LlamaOption::Fate::refused)
        return wrong("'" + name + "' needs a value behind it");
      if (follows) value = given_[at_++];
    }
    if (attached == nullptr && may_take) {
      value = "on";
      if (follows && is_switch_word(given_[at_])) {
        value = given_[at_++];
      } else if (follows && !is_option(given_[at_])) {
        return wrong(name + ": '" + given_[at_] + "' is none of on, off and auto");
      }
    }
    if (theirs.fate == LlamaOption::Fate::ignored || is_harmless(theirs, value)) return {};
    const std::string shown =
        value.empty() || theirs.fate == LlamaOption::Fate::refused ? name : name + " " + value;
    if (theirs.fate == LlamaOption::Fate::refused) {
      return wrong("'" + shown +
                   "' is llama.cpp's option and cannot be honoured: " + std::string(theirs.text));
    }
    out_.notes.push_back(shown + " has no effect: " + std::string(theirs.text));
    return {};
  }

  Result<void> renamed(const LlamaOption& theirs, const std::string& name, const char* attached) {
    const CLI::Option* own = app_->get_option_no_throw(std::string(theirs.text));
    if (own == nullptr) return wrong(full_name(*app_) + " has no option '" + name + "'");
    if (attached != nullptr) {
      out_.words.push_back(std::string(theirs.text) + "=" + attached);
      return {};
    }
    if (at_ == given_.size() && own->get_items_expected_min() > 0)
      return wrong("'" + name + "' needs a value behind it");
    return own_option(*own, std::string(theirs.text), false);
  }

  const CLI::App* subcommand(const std::string& word) const {
    const auto all = app_->get_subcommands([&](const CLI::App* s) { return s->get_name() == word; });
    return all.empty() ? nullptr : all[0];
  }

  const CLI::App& program_;
  const CLI::App* app_;
  const std::vector<std::string>& given_;
  size_t at_ = 0;
  Arguments out_;
};

}  // namespace

Result<Arguments> read_arguments(const CLI::App& program, const std::vector<std::string>& given) {
  return Reader(program, given).read();
}

}  // namespace curdkv::app
