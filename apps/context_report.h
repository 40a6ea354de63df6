// What there is to say of a saved context.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "curdkv/context.h"

namespace curdkv::app {

std::string context_label(const ContextInfo& c);  // "adacurdkv 0.80"

// The line that says that it is there again, as no document is read.
std::string restored_as_text(const ContextInfo& c, double ms);

// A table, and beneath it a line per layer: a character for each KV head, the darker the more rows it keeps.
std::string context_as_text(const ContextInfo& c);

// With the keys that 'run --json' has for what is the same.
nlohmann::ordered_json context_json(const ContextInfo& c);

}  // namespace curdkv::app
