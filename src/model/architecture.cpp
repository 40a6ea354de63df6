#include "model/architecture.h"

#include <array>

namespace curdkv {
namespace {

constexpr std::array<const Architecture*, 4> kArchitectures = {&kLlama, &kDeci, &kQwen2, &kQwen3};

}  // namespace

std::vector<ggml_tensor*> Architecture::matrices_of(const LayerWeights& w) const {
  std::vector<ggml_tensor*> matrices;
  for (const TensorSpec& s : tensors) {
    if (s.ne1 != nullptr && w.*s.member != nullptr) matrices.push_back(w.*s.member);
  }
  return matrices;
}

std::span<const Architecture* const> architectures() {
  return kArchitectures;
}

const Architecture* find_architecture(const std::string& name) {
  for (const Architecture* a : kArchitectures) {
    if (name == a->name) return a;
  }
  return nullptr;
}

}  // namespace curdkv
