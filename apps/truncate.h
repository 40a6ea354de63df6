// What is kept of a document that is too long for the context.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "curdkv/engine.h"

namespace curdkv::app {

enum class Truncate { none, head, tail, middle };
const std::map<std::string, Truncate>& truncations();  // by name

// Leaves out of a document's context, made by Prompt::context(), what is more than `most` tokens. Whole
// characters stay, and "[...]" where the middle was. Returns how many of the document's tokens are left out,
// which is said on stderr. Errors: bad_input if there is no room for any.
Result<int64_t> truncate(const Engine& engine, Truncate how, int64_t most, std::vector<Token>& context);

}  // namespace curdkv::app
