// Whether ggml was built with a backend for GPUs and finds a device.
#pragma once

#include <ggml-backend.h>

namespace curdkv::testing {

inline bool has_gpu() {
  for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
    const auto type = ggml_backend_dev_type(ggml_backend_dev_get(i));
    if (type == GGML_BACKEND_DEVICE_TYPE_GPU || type == GGML_BACKEND_DEVICE_TYPE_IGPU) return true;
  }
  return false;
}

}  // namespace curdkv::testing
