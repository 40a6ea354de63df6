// llama.cpp's options that curdkv knows by another name, has no use for, or cannot honour. What both have by
// one name is not here: it is an option like any other.
#pragma once

#include <span>
#include <string_view>

namespace curdkv::app {

struct LlamaOption {
  enum class Takes { nothing, value, maybe_a_switch };  // the last: on, off, auto, 0 or 1 if that follows
  enum class Fate {
    renamed,  // text: our name for it
    ignored,  // changes nothing that is visible here
    noted,    // changes nothing here, which is said; text: why
    refused,  // would change the result; text: what to do instead
  };
  std::string_view names;  // as typed there, with blanks between
  Takes takes;
  Fate fate;
  std::string_view text = {};
  std::string_view harmless = {};  // values with which it changes nothing, with blanks between
};

// The long name of a short option that some commands have and the others know as llama.cpp's; "" for others.
std::string_view long_name(std::string_view name);

std::span<const LlamaOption> llama_options();
const LlamaOption* find_llama_option(std::string_view name);  // nullptr: none

// Whether it changes nothing when given this value.
bool is_harmless(const LlamaOption& option, std::string_view value);
// Whether the word is what a switch takes: on, off, auto, ...
bool is_switch_word(std::string_view word);

}  // namespace curdkv::app
