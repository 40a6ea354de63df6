// The document with the tokens that every KV head kept of it.
#include <openssl/evp.h>

#include "analysis/figure.h"

namespace curdkv::analysis {
namespace {

std::string base64(const std::vector<unsigned char>& bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int n = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), bytes.data(),
                                static_cast<int>(bytes.size()));
  out.resize(static_cast<size_t>(n));
  return out;
}

class Document : public Figure {
 public:
  explicit Document(const Subject& subject) : Figure(subject), bits_(subject.presses.size()) {}

  bool looks_at(int64_t) const override { return false; }

  // A bit per token, lowest first; the heads of all layers one after another, each from a new byte on.
  Result<void> add(const Layer& layer, const std::function<void(double)>&) override {
    for (size_t i = 0; i < bits_.size(); ++i) {
      for (const auto& head : layer.kept[i]) {
        const size_t start = bits_[i].size();
        bits_[i].resize(start + (subject_.tokens.size() + 7) / 8);
        for (const int32_t t : head) {
          bits_[i][start + static_cast<size_t>(t) / 8] |= static_cast<unsigned char>(1 << (t % 8));
        }
      }
    }
    return {};
  }

  Json json() const override {
    Json out = head_of("document", subject_);
    out["tokens"] = subject_.tokens;
    out["kept"] = Json::array();
    for (size_t i = 0; i < bits_.size(); ++i) {
      Json press = label_of(subject_.presses[i], subject_);
      press["bits"] = base64(bits_[i]);
      out["kept"].push_back(std::move(press));
    }
    return out;
  }

 private:
  std::vector<std::vector<unsigned char>> bits_;  // of each press
};

}  // namespace

std::unique_ptr<Figure> make_document(const Subject& subject) {
  return std::make_unique<Document>(subject);
}

}  // namespace curdkv::analysis
