#include "sha256.h"

#include <openssl/evp.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

namespace curdkv::app {

Result<std::string> sha256_of_file(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  const auto failed = [&] {
    return Error{ErrorCode::bad_input, "cannot read " + path + ": " + std::strerror(errno)};
  };
  if (!file) return failed();
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  std::vector<char> block(size_t{1} << 20);
  while (const size_t n = std::fread(block.data(), 1, block.size(), file.get())) {
    EVP_DigestUpdate(context.get(), block.data(), n);
  }
  if (std::ferror(file.get())) return failed();
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int n_bytes = 0;
  EVP_DigestFinal_ex(context.get(), digest, &n_bytes);
  std::string out;
  for (unsigned int i = 0; i < n_bytes; ++i) {
    char hex[3];
    std::snprintf(hex, sizeof hex, "%02x", digest[i]);
    out += hex;
  }
  return out;
}

}  // namespace curdkv::app
