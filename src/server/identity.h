// Names that nobody chooses: of contexts, by what they are made of, and of name spaces, by the API key.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "curdkv/engine.h"

namespace curdkv::server {

std::string sha256(std::string_view bytes);  // 64 hexadecimal digits

// What every context of an engine and an executor has in common: to begin a chain of ids with.
std::string root_of(const Engine& engine, const ExecutorParams& params);
// Of the context that `tokens`, read with the press behind the context `before`, end in: 32 hexadecimal
// digits.
std::string context_id(std::string_view before, const Press& press, std::span<const Token> tokens);

// 16 hexadecimal digits. key: "" where the server has none.
std::string space_of(std::string_view key);
// Whether the key is one of those; takes as long whichever it is, and if it is none.
bool is_one_of(std::string_view key, std::span<const std::string> keys);

std::string random_hex_id();                // of a context whose making nobody knows
std::string random_id(const char* prefix);  // "chatcmpl-" and 24 random letters and digits

}  // namespace curdkv::server
