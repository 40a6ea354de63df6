// What a context depends on, in hashes: a context is continued only where all of them are as they were.
#pragma once

#include <string>

#include "curdkv/result.h"
#include "curdkv/text.h"
#include "model/gguf_file.h"
#include "model/hparams.h"

namespace curdkv {

// Each in 16 hexadecimal digits.
struct Fingerprint {
  std::string sizes;      // of the model, layer by layer
  std::string rope;       // RoPE's settings
  std::string tensors;    // names, types and shapes of all tensors
  std::string weights;    // small tensors whole; of others eight pieces of 4 KiB each, evenly spread
  std::string tokenizer;  // all metadata of it, but for chat templates
  std::string prompt;     // the chat template, and what it puts behind a question
};

// One of them by name.
struct FingerprintPart {
  const char* name;
  std::string Fingerprint::*value;
};
inline constexpr FingerprintPart kFingerprintParts[] = {
    {"sizes", &Fingerprint::sizes},         {"rope", &Fingerprint::rope},
    {"tensors", &Fingerprint::tensors},     {"weights", &Fingerprint::weights},
    {"tokenizer", &Fingerprint::tokenizer}, {"prompt", &Fingerprint::prompt}};

// Errors: io or corrupt if the model's file can no longer be read.
Result<Fingerprint> fingerprint_of(const GgufFile& model, const HParams& hp, const Prompt& prompt);

}  // namespace curdkv
