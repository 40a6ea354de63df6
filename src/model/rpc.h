// Devices of other machines, by ggml's RPC backend.
#pragma once

#include <ggml-backend.h>

#include <span>
#include <string>
#include <vector>

#include "curdkv/result.h"

namespace curdkv {

// The devices of the servers ("host:port" each), in order. Errors: io, naming the server that cannot be
// reached or speaks another version of the protocol; bad_argument if it is none; out_of_memory.
Result<std::vector<ggml_backend_dev_t>> rpc_devices(std::span<const std::string> servers);

}  // namespace curdkv
