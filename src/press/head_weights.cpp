#include "press/head_weights.h"

#include <cmath>

#include "base/try.h"
#include "io/input_file.h"
#include "io/jsonl.h"

namespace curdkv {

Result<std::shared_ptr<const HeadWeights>> read_head_weights(const std::string& path) {
  constexpr size_t kMostBytes = size_t{16} << 20;
  CURDKV_TRY(const std::string text, read_text(path, kMostBytes));
  const Json json = parse_json(text);
  const auto no_weights = [&](const std::string& what) {
    return Error{ErrorCode::corrupt, path + ": " + what + "; 'curdkv calibrate' makes such files"};
  };
  if (!json.is_object() || !json.contains("weight") || !json["weight"].is_array() || json["weight"].empty())
    return no_weights("no JSON with \"weight\", a list of every layer's KV heads");
  auto heads = std::make_shared<HeadWeights>();
  heads->file = path;
  for (const Json& layer : json["weight"]) {
    std::vector<float>& of = heads->weight.emplace_back();
    for (const Json& weight : layer) {
      const float x = weight.is_number() ? weight.get<float>() : NAN;
      if (!(x > 0 && std::isfinite(x)))
        return no_weights("\"weight\" holds " + weight.dump() + " instead of a positive number");
      of.push_back(x);
    }
    if (!layer.is_array() || of.empty()) return no_weights("\"weight\" holds no list for every layer");
  }
  return std::shared_ptr<const HeadWeights>(std::move(heads));
}

}  // namespace curdkv
