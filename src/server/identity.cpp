#include "server/identity.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <array>
#include <new>
#include <random>

#include "base/format.h"

namespace curdkv::server {
namespace {

using Digest = std::array<unsigned char, SHA256_DIGEST_LENGTH>;

Digest digest(std::string_view bytes) {
  Digest out;
  // It allocates what it works in.
  if (SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), out.data()) == nullptr)
    throw std::bad_alloc();
  return out;
}

// Lengths in front, so that no two lists of texts look alike.
void add(std::string& to, std::string_view text) {
  to += std::to_string(text.size()) + ":";
  to += text;
}

}  // namespace

std::string sha256(std::string_view bytes) {
  std::string out;
  for (const unsigned char byte : digest(bytes)) out += format("%02x", byte);
  return out;
}

std::string root_of(const Engine& engine, const ExecutorParams& params) {
  const ModelInfo& m = engine.info();
  std::string all;
  for (const std::string& text : {m.architecture, m.name, m.quantization, engine.prompt().chat_template()})
    add(all, text);
  for (const int64_t n : {m.n_params, m.weights_bytes, m.n_layer, m.n_vocab,
                          static_cast<int64_t>(params.type_k), static_cast<int64_t>(params.type_v)}) {
    add(all, std::to_string(n));
  }
  return sha256(all);
}

std::string context_id(std::string_view before, const Press& press, std::span<const Token> tokens) {
  std::string all;
  add(all, before);
  add(all, press.spec());
  add(all, format("%.17g", press.compression_ratio()));
  add(all, press.budget() ? std::to_string(*press.budget()) : "");
  add(all, press.budget_bytes() ? std::to_string(*press.budget_bytes()) : "");
  add(all, std::to_string(press.seed()));
  add(all, {reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes()});
  return sha256(all).substr(0, 32);
}

std::string space_of(std::string_view key) {
  return sha256("name space of " + std::string(key)).substr(0, 16);
}

bool is_one_of(std::string_view key, std::span<const std::string> keys) {
  const Digest given = digest(key);
  bool found = false;
  for (const std::string& k : keys) {
    const Digest known = digest(k);
    found |= CRYPTO_memcmp(given.data(), known.data(), known.size()) == 0;
  }
  return found;
}

std::string random_hex_id() {
  std::random_device random;
  std::string out;
  for (int i = 0; i < 4; ++i) out += format("%08x", random());
  return out;
}

std::string random_id(const char* prefix) {
  static constexpr char kLetters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::random_device random;
  std::string out = prefix;
  for (int i = 0; i < 24; ++i) out += kLetters[random() % 62];
  return out;
}

}  // namespace curdkv::server
