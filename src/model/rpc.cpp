#include "model/rpc.h"

#include <ggml-rpc.h>

#include "base/guard.h"
#include "base/log_capture.h"

namespace curdkv {
namespace {

bool is_endpoint(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == 0 || colon == text.npos || text.size() - colon > 6) return false;
  int port = 0;
  for (const char c : text.substr(colon + 1)) {
    if (c < '0' || c > '9') return false;
    port = 10 * port + (c - '0');
  }
  return port > 0 && port < 65536;
}

}  // namespace

Result<std::vector<ggml_backend_dev_t>> rpc_devices(std::span<const std::string> servers) {
  std::vector<ggml_backend_dev_t> devices;
  if (servers.empty()) return devices;
  capture_logs();
  for (const std::string& server : servers) {
    if (!is_endpoint(server))
      return Error{ErrorCode::bad_argument,
                   "'" + server + "' is no RPC server's address: host:port is meant"};
    const auto added = guarded(
        [&]() -> Result<ggml_backend_reg_t> {
          ggml_backend_reg_t reg = ggml_backend_rpc_add_server(server.c_str());
          if (reg == nullptr) return Error{ErrorCode::io, "the RPC server " + server + " has no devices"};
          return reg;
        },
        ErrorCode::io);
    if (!added) return added.error();
    for (size_t i = 0; i < ggml_backend_reg_dev_count(*added); ++i)
      devices.push_back(ggml_backend_reg_dev_get(*added, i));
  }
  return devices;
}

}  // namespace curdkv
