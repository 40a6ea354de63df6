// Reference vectors to compare with.
#pragma once

#include <ggml.h>
#include <gguf.h>

#include <algorithm>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace curdkv::testing {

// A golden file (see tests/goldens/extract.py and tests/reference/), all tensors in memory.
class Golden {
 public:
  explicit Golden(const std::string& name) {
    const std::string path = std::string(CURDKV_TEST_DATA) + "/" + name;
    file_.reset(gguf_init_from_file(path.c_str(), {false, &context_}));
    if (!file_) throw std::runtime_error("cannot read " + path);
  }
  ~Golden() { ggml_free(context_); }

  std::vector<std::string> names(const std::string& prefix) const {
    std::vector<std::string> out;
    for (int64_t i = 0; i < gguf_get_n_tensors(file_.get()); ++i) {
      const std::string name = gguf_get_tensor_name(file_.get(), i);
      if (name.starts_with(prefix)) out.push_back(name.substr(prefix.size()));
    }
    return out;
  }
  bool has(const std::string& name) const { return ggml_get_tensor(context_, name.c_str()) != nullptr; }
  const ggml_tensor* tensor(const std::string& name) const { return ggml_get_tensor(context_, name.c_str()); }
  template <typename T>
  std::vector<T> data(const std::string& name) const {
    const ggml_tensor* t = tensor(name);
    const T* begin = static_cast<const T*>(t->data);
    return std::vector<T>(begin, begin + ggml_nelements(t));
  }
  float number(const char* key) const {
    return gguf_get_val_f32(file_.get(), gguf_find_key(file_.get(), key));
  }

 private:
  struct Free {
    void operator()(gguf_context* g) const { gguf_free(g); }
  };
  ggml_context* context_ = nullptr;
  std::unique_ptr<gguf_context, Free> file_;
};

// Kept tokens of wrapper presses were found in kvpress's output by their values: equal tokens have equal
// values in layer 0, and the first of them stands for all.
inline std::vector<int32_t> first_with_same_value(const std::vector<int32_t>& kept,
                                                  std::span<const float> values, size_t d) {
  std::vector<int32_t> out;
  for (int32_t t : kept) {
    const auto row = values.subspan(static_cast<size_t>(t) * d, d);
    int32_t same = 0;
    while (!std::equal(row.begin(), row.end(), values.begin() + same * static_cast<std::ptrdiff_t>(d)))
      ++same;
    out.push_back(same);
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace curdkv::testing
