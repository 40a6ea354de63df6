// A GGUF with its matrices as Q8_0, for engines that read no other quantised type, or as F32, to compute
// without quantised inputs.
#include <llama.h>

#include <cstdio>
#include <cstring>

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) {
    std::fprintf(stderr, "usage: requantise IN.gguf OUT.gguf [f32]\n");
    return 2;
  }
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_model_quantize_params params = llama_model_quantize_default_params();
  params.ftype =
      argc == 4 && std::strcmp(argv[3], "f32") == 0 ? LLAMA_FTYPE_ALL_F32 : LLAMA_FTYPE_MOSTLY_Q8_0;
  params.allow_requantize = true;
  if (llama_model_quantize(argv[1], argv[2], &params) == 0) return 0;
  std::fprintf(stderr, "error: %s cannot be requantised\n", argv[1]);
  return 1;
}
