#include "model/gguf_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/format.h"
#include "base/guard.h"
#include "base/log_capture.h"
#include "base/try.h"
#include "io/file_kind.h"

namespace curdkv {

Error GgufFile::corrupt(const std::string& what) const {
  return {ErrorCode::corrupt, path_ + ": " + what};
}
Error GgufFile::unsupported(const std::string& what) const {
  return {ErrorCode::unsupported, path_ + ": " + what};
}

namespace {

// The header is read in small pieces, which come from here: a window on the file.
class Window {
 public:
  explicit Window(const MappedFile& file) : file_(file) {}

  static size_t read(void* self, void* into, uint64_t offset, size_t n) {
    return static_cast<Window*>(self)->copy(static_cast<char*>(into), offset, n);
  }

 private:
  size_t copy(char* into, uint64_t offset, size_t n) {
    if (offset > file_.size() || n > file_.size() - offset) return 0;
    if (n > kBytes) return file_.read(into, offset, n) ? n : 0;
    if (offset < first_ || offset + n > first_ + bytes_.size()) {
      bytes_.resize(std::min<size_t>(kBytes, file_.size() - offset));
      first_ = offset;
      if (!file_.read(bytes_.data(), offset, bytes_.size())) {
        bytes_.clear();
        return 0;
      }
    }
    std::copy_n(bytes_.data() + (offset - first_), n, into);
    return n;
  }

  static constexpr size_t kBytes = size_t{1} << 18;
  const MappedFile& file_;
  uint64_t first_ = 0;
  std::vector<char> bytes_;
};

}  // namespace

Result<GgufFile> GgufFile::open(const std::string& path) {
  GgufFile file;
  file.path_ = path;
  CURDKV_TRY(file.bytes_, MappedFile::open(path));
  std::string start(std::min<size_t>(file.bytes_.size(), size_t{1} << 16), '\0');
  CURDKV_CHECK(file.bytes_.read(start.data(), 0, start.size()));
  if (!start.starts_with("GGUF")) {
    const auto kind = what_is(start);
    return file.corrupt("is not a GGUF file (it does not begin with 'GGUF')" +
                        (kind ? "; it " + *kind : std::string()));
  }
  Window window(file.bytes_);
  take_log_error();
  file.gguf_.reset(gguf_init_from_callback(Window::read, &window, 0, file.bytes_.size(), {true, nullptr}));
  CURDKV_CHECK(file.bytes_.check());
  if (!file.gguf_ && is_about_memory(take_log_error()))
    return Error{ErrorCode::out_of_memory, path + ": there is not enough memory to read its header"};
  if (!file.gguf_) return file.corrupt("is a truncated or malformed GGUF file: its header cannot be read");
  CURDKV_CHECK(file.read_tensors());
  return file;
}

Result<void> GgufFile::read_tensors() {
  const size_t data = gguf_get_data_offset(gguf_.get());
  const int64_t n = gguf_get_n_tensors(gguf_.get());
  for (int64_t i = 0; i < n; ++i) {
    GgufTensor t;
    t.name = gguf_get_tensor_name(gguf_.get(), i);
    t.type = gguf_get_tensor_type(gguf_.get(), i);
    for (int d = 0; d < 4; ++d) t.ne[d] = gguf_get_tensor_ne(gguf_.get(), i)[d];
    t.n_bytes = gguf_get_tensor_size(gguf_.get(), i);
    const size_t offset = gguf_get_tensor_offset(gguf_.get(), i);
    const size_t size = bytes_.size();
    if (data > size || offset > size - data || t.n_bytes > size - data - offset) {
      return corrupt(
          format("is truncated: tensor '%s' ends beyond the file's %zu bytes", t.name.c_str(), size));
    }
    t.offset = data + offset;
    tensors_.push_back(std::move(t));
  }
  return {};
}

const GgufTensor* GgufFile::find(const std::string& name) const {
  const int64_t i = gguf_find_tensor(gguf_.get(), name.c_str());
  return i < 0 ? nullptr : &tensors_[static_cast<size_t>(i)];
}

namespace {

// Element i of the type; nullopt if that is no integer.
std::optional<int64_t> integer_at(gguf_type type, const void* data, size_t i) {
  const auto as = [&]<typename T>(T value) {
    std::memcpy(&value, static_cast<const char*>(data) + i * sizeof value, sizeof value);
    return static_cast<int64_t>(value);
  };
  switch (type) {
    case GGUF_TYPE_UINT8:
      return as(uint8_t{});
    case GGUF_TYPE_INT8:
      return as(int8_t{});
    case GGUF_TYPE_UINT16:
      return as(uint16_t{});
    case GGUF_TYPE_INT16:
      return as(int16_t{});
    case GGUF_TYPE_UINT32:
      return as(uint32_t{});
    case GGUF_TYPE_INT32:
      return as(int32_t{});
    case GGUF_TYPE_UINT64:
      return as(uint64_t{});
    case GGUF_TYPE_INT64:
      return as(int64_t{});
    default:
      return std::nullopt;
  }
}

}  // namespace

Result<std::optional<uint64_t>> GgufFile::integer(const std::string& key) const {
  const int64_t id = gguf_find_key(gguf_.get(), key.c_str());
  if (id >= 0 && gguf_get_kv_type(gguf_.get(), id) == GGUF_TYPE_ARRAY)
    return corrupt(key + " is an array where a single number is expected");
  CURDKV_TRY(const auto all, integers(key, 1));
  return all ? std::optional<uint64_t>(all->front()) : std::nullopt;
}

Result<std::optional<std::vector<uint64_t>>> GgufFile::integers(const std::string& key, int64_t n) const {
  const gguf_context* g = gguf_.get();
  const int64_t id = gguf_find_key(g, key.c_str());
  if (id < 0) return std::optional<std::vector<uint64_t>>();
  const bool is_array = gguf_get_kv_type(g, id) == GGUF_TYPE_ARRAY;
  const gguf_type type = is_array ? gguf_get_arr_type(g, id) : gguf_get_kv_type(g, id);
  if (!integer_at(type, &id, 0))
    return corrupt(key + (is_array ? " holds no integers" : " is not an integer"));
  if (is_array && gguf_get_arr_n(g, id) != static_cast<size_t>(n)) {
    return corrupt(format("%s holds %zu values, not the %lld expected", key.c_str(), gguf_get_arr_n(g, id),
                          static_cast<long long>(n)));
  }
  const void* data = is_array ? gguf_get_arr_data(g, id) : gguf_get_val_data(g, id);
  std::vector<uint64_t> values;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t value = *integer_at(type, data, is_array ? static_cast<size_t>(i) : 0);
    if (value < 0)
      return corrupt(format("%s = %lld is out of range", key.c_str(), static_cast<long long>(value)));
    values.push_back(static_cast<uint64_t>(value));
  }
  return std::optional(std::move(values));
}

Result<std::optional<double>> GgufFile::real(const std::string& key) const {
  const int64_t id = gguf_find_key(gguf_.get(), key.c_str());
  if (id < 0) return std::optional<double>();
  double value = 0;
  switch (gguf_get_kv_type(gguf_.get(), id)) {
    case GGUF_TYPE_FLOAT32:
      value = gguf_get_val_f32(gguf_.get(), id);
      break;
    case GGUF_TYPE_FLOAT64:
      value = gguf_get_val_f64(gguf_.get(), id);
      break;
    default: {
      CURDKV_TRY(const auto whole, integer(key));
      value = static_cast<double>(*whole);
    }
  }
  if (!std::isfinite(value)) return corrupt(key + " is not a finite number");
  return std::optional<double>(value);
}

Result<std::optional<bool>> GgufFile::boolean(const std::string& key) const {
  const int64_t id = gguf_find_key(gguf_.get(), key.c_str());
  if (id < 0) return std::optional<bool>();
  if (gguf_get_kv_type(gguf_.get(), id) != GGUF_TYPE_BOOL) return corrupt(key + " is not a boolean");
  return std::optional<bool>(gguf_get_val_bool(gguf_.get(), id));
}

Result<std::optional<std::string>> GgufFile::string(const std::string& key) const {
  const int64_t id = gguf_find_key(gguf_.get(), key.c_str());
  if (id < 0) return std::optional<std::string>();
  if (gguf_get_kv_type(gguf_.get(), id) != GGUF_TYPE_STRING) return corrupt(key + " is not a string");
  return std::optional<std::string>(gguf_get_val_str(gguf_.get(), id));
}

Result<std::optional<std::vector<std::string>>> GgufFile::strings(const std::string& key) const {
  const gguf_context* g = gguf_.get();
  const int64_t id = gguf_find_key(g, key.c_str());
  if (id < 0) return std::optional<std::vector<std::string>>();
  if (gguf_get_kv_type(g, id) != GGUF_TYPE_ARRAY || gguf_get_arr_type(g, id) != GGUF_TYPE_STRING)
    return corrupt(key + " is not a list of strings");
  std::vector<std::string> all;
  for (size_t i = 0; i < gguf_get_arr_n(g, id); ++i) all.emplace_back(gguf_get_arr_str(g, id, i));
  return std::optional(std::move(all));
}

}  // namespace curdkv
