#include "sha256.h"

#include <openssl/evp.h>

#include <algorithm>
#include <memory>
#include <new>
#include <vector>

#include "base/format.h"
#include "base/mapped_file.h"
#include "base/try.h"

namespace curdkv::app {
namespace {

// OpenSSL allocates as it goes; nothing else can go wrong.
void check(int done) {
  if (done != 1) throw std::bad_alloc();
}

class Sha256 {
 public:
  Sha256() { check(context_ ? EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) : 0); }
  void add(std::string_view bytes) { check(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size())); }
  std::string hex() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int n_bytes = 0;
    check(EVP_DigestFinal_ex(context_.get(), digest, &n_bytes));
    std::string out;
    for (unsigned int i = 0; i < n_bytes; ++i) out += format("%02x", digest[i]);
    return out;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context_{EVP_MD_CTX_new(), EVP_MD_CTX_free};
};

}  // namespace

std::string sha256_of(std::string_view bytes) {
  Sha256 sum;
  sum.add(bytes);
  return sum.hex();
}

Result<std::string> sha256_of_file(const std::string& path) {
  CURDKV_TRY(const MappedFile file, MappedFile::open(path));
  Sha256 sum;
  std::vector<char> block(size_t{1} << 20);
  for (size_t at = 0; at < file.size(); at += block.size()) {
    const size_t n = std::min(block.size(), file.size() - at);
    CURDKV_CHECK(file.read(block.data(), at, n));
    sum.add({block.data(), n});
  }
  return sum.hex();
}

}  // namespace curdkv::app
