// A GGUF with its matrices as Q8_0, for engines that read no other quantised type, or as F32, to compute
// without quantised inputs.
#include <llama.h>

#include <cstdio>
#include <map>
#include <string>

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) {
    std::fprintf(stderr, "usage: requantise IN.gguf OUT.gguf [TYPE]\n");
    return 2;
  }
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  llama_model_quantize_params params = llama_model_quantize_default_params();
  const std::map<std::string, llama_ftype> types = {
      {"f32", LLAMA_FTYPE_ALL_F32},      {"f16", LLAMA_FTYPE_MOSTLY_F16},
      {"q8_0", LLAMA_FTYPE_MOSTLY_Q8_0}, {"q4_0", LLAMA_FTYPE_MOSTLY_Q4_0},
      {"q4_1", LLAMA_FTYPE_MOSTLY_Q4_1}, {"iq4_nl", LLAMA_FTYPE_MOSTLY_IQ4_NL},
      {"q5_0", LLAMA_FTYPE_MOSTLY_Q5_0}, {"q4_K", LLAMA_FTYPE_MOSTLY_Q4_K_M},
      {"q6_K", LLAMA_FTYPE_MOSTLY_Q6_K}};
  const auto type = types.find(argc == 4 ? argv[3] : "q8_0");
  if (type == types.end()) {
    std::fprintf(stderr, "error: no type '%s'\n", argv[3]);
    return 2;
  }
  params.ftype = type->second;
  params.allow_requantize = true;
  if (llama_model_quantize(argv[1], argv[2], &params) == 0) return 0;
  std::fprintf(stderr, "error: %s cannot be requantised\n", argv[1]);
  return 1;
}
