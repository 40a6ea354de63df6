// How much the rows of every KV head count where one budget of bytes goes over all of them (ByteShare): some
// heads find again what is asked for, and answers fail without them; of others nobody misses a row. It is the
// model's, not the document's, so it is measured once (analysis/head_losses.h) and kept in a file.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "curdkv/result.h"

namespace curdkv {

struct HeadWeights {
  std::string file;                        // where they came from, for messages
  std::vector<std::vector<float>> weight;  // [layer][KV head], positive
};

// Of a file of JSON with "weight": [layer][KV head]; what else it says is for people. Errors: io, corrupt.
Result<std::shared_ptr<const HeadWeights>> read_head_weights(const std::string& path);

}  // namespace curdkv
