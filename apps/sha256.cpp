#include "sha256.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <vector>

#include "base/mapped_file.h"
#include "base/try.h"

namespace curdkv::app {

Result<std::string> sha256_of_file(const std::string& path) {
  CURDKV_TRY(const MappedFile file, MappedFile::open(path));
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  std::vector<char> block(size_t{1} << 20);
  for (size_t at = 0; at < file.size(); at += block.size()) {
    const size_t n = std::min(block.size(), file.size() - at);
    CURDKV_CHECK(file.read(block.data(), at, n));
    EVP_DigestUpdate(context.get(), block.data(), n);
  }
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
