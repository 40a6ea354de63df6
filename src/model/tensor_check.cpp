// Presence, shape and type of every tensor, before anything is allocated.
#include <ggml-cpu.h>

#include <set>

#include "base/format.h"
#include "base/try.h"
#include "model/weights.h"

namespace curdkv {
namespace {

Result<void> check_shape(const GgufFile& file, const GgufTensor& t, int64_t ne0, int64_t ne1) {
  if (t.ne[0] != ne0 || t.ne[1] != ne1 || t.ne[2] != 1 || t.ne[3] != 1) {
    return file.corrupt(format("tensor '%s' has shape [%lld, %lld, %lld, %lld], expected [%lld, %lld]",
                               t.name.c_str(), (long long)t.ne[0], (long long)t.ne[1], (long long)t.ne[2],
                               (long long)t.ne[3], (long long)ne0, (long long)ne1));
  }
  return {};
}

Result<void> check_type(const GgufFile& file, const GgufTensor& t, bool is_vector) {
  if (is_vector && t.type != GGML_TYPE_F32) {
    return file.unsupported(
        format("tensor '%s' is %s, expected f32", t.name.c_str(), ggml_type_name(t.type)));
  }
  const bool multiplies = ggml_get_type_traits_cpu(t.type)->vec_dot != nullptr;
  const bool reads = t.type == GGML_TYPE_F32 || ggml_get_type_traits(t.type)->to_float != nullptr;
  if (!multiplies || !reads) {
    return file.unsupported(format("tensor '%s' has type %s, which cannot be multiplied", t.name.c_str(),
                                   ggml_type_name(t.type)));
  }
  return {};
}

// A tensor's name, its shape and whether it must be there.
Result<void> check_one(const GgufFile& file, std::set<std::string>& known, const std::string& name,
                       int64_t ne0, int64_t ne1, bool required) {
  known.insert(name);
  const GgufTensor* t = file.find(name);
  if (t == nullptr) {
    if (required) return file.corrupt("lacks the tensor '" + name + "'");
    return {};
  }
  CURDKV_CHECK(check_type(file, *t, ne1 == 1));
  return check_shape(file, *t, ne0, ne1);
}

}  // namespace

Result<void> check_tensors(const GgufFile& file, const HParams& hp, const Architecture& arch) {
  std::set<std::string> known;
  CURDKV_CHECK(check_one(file, known, "token_embd.weight", hp.n_embd, hp.n_vocab, true));
  CURDKV_CHECK(check_one(file, known, "output_norm.weight", hp.n_embd, 1, true));
  CURDKV_CHECK(check_one(file, known, "output.weight", hp.n_embd, hp.n_vocab, false));
  CURDKV_CHECK(check_one(file, known, "rope_freqs.weight", hp.rope.n_rot / 2, 1, false));
  for (int64_t il = 0; il < hp.n_layer; ++il) {
    const std::string prefix = format("blk.%lld.", (long long)il);
    for (const TensorSpec& s : arch.tensors) {
      const int64_t ne0 = s.ne0(hp, hp.layer(il)), ne1 = s.ne1 ? s.ne1(hp, hp.layer(il)) : 1;
      CURDKV_CHECK(check_one(file, known, prefix + s.name, ne0, ne1, s.required));
    }
  }
  for (const GgufTensor& t : file.tensors()) {
    if (!known.contains(t.name)) {
      return file.unsupported(format("holds the tensor '%s', which architecture '%s' has no use for here",
                                     t.name.c_str(), arch.name));
    }
  }
  return {};
}

}  // namespace curdkv
