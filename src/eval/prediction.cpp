#include "eval/prediction.h"

#include "base/try.h"

namespace curdkv::eval {

Json to_json(const Prediction& p) {
  Json j = {{"task", p.task},
            {"sample", p.sample},
            {"press", p.press},
            {"compression_ratio", p.compression_ratio},
            {"prediction", p.prediction},
            {"references", p.references},
            {"score", p.score},
            {"n_context_tokens", p.n_context_tokens},
            {"kv_bytes", p.kv_bytes}};
  if (p.timings) {
    j["prefill_ms"] = p.timings->prefill_ms;
    j["compress_ms"] = p.timings->compress_ms;
  }
  j["press_params"] = p.press_params;
  j["run"] = p.run;
  return j;
}

Result<Prediction> from_json(const JsonLine& line) {
  Prediction p;
  CURDKV_TRY(p.task, line.text("task"));
  CURDKV_TRY(p.sample, line.integer("sample"));
  CURDKV_TRY(p.press, line.text("press"));
  CURDKV_TRY(p.compression_ratio, line.number("compression_ratio"));
  CURDKV_TRY(p.prediction, line.text("prediction"));
  CURDKV_TRY(p.references, line.texts("references"));
  CURDKV_TRY(p.score, line.number("score"));
  CURDKV_TRY(p.n_context_tokens, line.integer("n_context_tokens"));
  CURDKV_TRY(p.kv_bytes, line.integer("kv_bytes"));
  if (line.has("prefill_ms")) {
    p.timings.emplace();
    CURDKV_TRY(p.timings->prefill_ms, line.number("prefill_ms"));
    CURDKV_TRY(p.timings->compress_ms, line.number("compress_ms"));
  }
  if (!(p.compression_ratio >= 0 && p.compression_ratio < 1)) {
    return line.error("field 'compression_ratio' is not in [0, 1)");
  }
  if (!(p.score >= 0 && p.score <= 1)) return line.error("field 'score' is not in [0, 1]");
  if (line.has("press_params")) p.press_params = line.object()["press_params"];
  if (line.has("run")) p.run = line.object()["run"];
  return p;
}

PredictionKey key_of(const Prediction& p) {
  return {p.task, p.sample, p.press, p.compression_ratio};
}

}  // namespace curdkv::eval
