// make_tiny_model FILE [N_CTX]: writes a tiny random llama model, for tests that are not C++.
#include <cstdlib>

#include "support/tiny_model.h"

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  curdkv::testing::TinyModel model;
  if (argc > 2) model.n_ctx = std::atoll(argv[2]);
  curdkv::testing::write_tiny_model(model, argv[1]);
  return 0;
}
