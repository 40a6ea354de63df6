// Several sequences decoded in step: the weights are read once for all of them, each attends to its own
// cache.
#pragma once

#include <memory>
#include <span>

#include "curdkv/session.h"

namespace curdkv {

class BatchDecoder {
 public:
  // Threads and the stop flag are params'; the rest of it is the sessions' affair. Errors: as
  // Session::create.
  static Result<BatchDecoder> create(const Model& model, const SessionParams& params);
  BatchDecoder(BatchDecoder&&) noexcept;
  ~BatchDecoder();

  // Appends tokens[i] to *sessions[i], as Session::extend would. The result depends neither on the company
  // nor on threads, but it is rounded like a question's tokens rather than like a token decoded alone, for
  // which other matrix kernels serve. Models with layers on other devices than the CPU are decoded one
  // sequence after another. Errors: bad_argument (a session twice, or of another model), else as
  // Session::extend; nothing is then appended to any.
  Result<void> decode(std::span<Session* const> sessions, std::span<const Token> tokens);

  struct Impl;

 private:
  explicit BatchDecoder(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace curdkv
