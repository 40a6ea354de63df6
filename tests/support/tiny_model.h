// Tiny models with random weights, written as GGUF files in the test: every architecture without a download.
#pragma once

#include <ggml.h>

#include <cstdint>
#include <string>
#include <vector>

namespace curdkv::testing {

struct TinyModel {
  std::string architecture = "llama";
  int64_t n_layer = 2;
  int64_t n_embd = 64;
  int64_t n_head = 4;
  int64_t n_head_kv = 2;
  int64_t d_head = 16;
  int64_t n_ff = 96;
  int64_t n_ctx = 4096;
  bool tied = true;                // no output.weight of its own
  bool rope_freqs = false;         // as Llama 3.x
  std::string rope_scaling;        // "", "linear" or "yarn"; by a factor of 4
  std::string pre = "smollm";      // libllama's name for how texts are cut before merging
  ggml_type type = GGML_TYPE_F32;  // of the matrices
  uint32_t seed = 1;
  std::string omit;     // a tensor to leave out
  std::string spoiled;  // a tensor whose first number (a quantised one's first scale) becomes `spoiled_with`
  float spoiled_with = 0;
  std::string extra_key;  // a metadata key to set to `extra_value`
  uint32_t extra_value = 0;
  // Of each layer, instead of the numbers above; empty: these are all layers'.
  std::vector<int64_t> n_head_of = {}, n_head_kv_of = {}, n_ff_of = {};
};

// Three layers of three KV heads with two query heads each: what most tests compute with.
inline TinyModel three_layers(ggml_type type = GGML_TYPE_F32) {
  TinyModel shape;
  shape.n_layer = 3;
  shape.n_embd = 96;
  shape.n_head = 6;
  shape.n_head_kv = 3;
  shape.d_head = 32;
  shape.type = type;
  return shape;
}

// Three layers that differ in their heads, in how many share a KV head, and in n_ff. libllama runs such
// models of architecture deci, a llama whose layers differ.
TinyModel unequal_layers(const std::string& architecture = "deci");

// The vocabulary is byte-level with a few merges and ChatML's control tokens. Returns the path written.
std::string write_tiny_model(const TinyModel& shape, const std::string& path);

// A path in a folder of this process's own that is removed at exit.
std::string temp_path(const std::string& name);

}  // namespace curdkv::testing
