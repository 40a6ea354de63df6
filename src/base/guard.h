// The border between what throws and what returns Errors. Three things throw below it: the standard library
// when memory is out, ggml and libllama when an assertion of theirs fails on the thread at hand (which would
// end the process otherwise), and libraries that report by exceptions. Public functions run their work in
// guarded(); nothing else catches, but for Compute: exceptions of custom operations must not pass through a
// graph, and with an RPC server some of the weights are lost for good.
//
// An exception leaves ggml's objects half made. Who holds some of them over a call marks them as in use and
// lets go of them when the mark is still there the next time: see Compute.
#pragma once

#include <string_view>
#include <type_traits>
#include <utility>

#include "curdkv/result.h"

namespace curdkv {

// While one lives, assertions of ggml that fail on this thread throw. They may be nested.
class ThrowingAssertions {
 public:
  ThrowingAssertions();
  ~ThrowingAssertions();
  ThrowingAssertions(const ThrowingAssertions&) = delete;
  ThrowingAssertions& operator=(const ThrowingAssertions&) = delete;

 private:
  bool outer_;
};

// What the exception being handled says. out_of_memory if memory was short, which takes none to say; else
// `otherwise`. Rethrows what is no std::exception.
Error current_exception_as_error(ErrorCode otherwise);

// Whether what ggml or libllama asserted or logged says that memory was short.
bool is_about_memory(std::string_view text);

// Runs the call, which returns a Result or nothing, and turns what it throws into an Error.
template <typename Call>
auto guarded(Call&& call, ErrorCode otherwise = ErrorCode::internal) {
  using Returned = std::invoke_result_t<Call>;
  using R = std::conditional_t<std::is_void_v<Returned>, Result<void>, Returned>;
  const ThrowingAssertions throwing;
  try {
    if constexpr (std::is_void_v<Returned>) {
      std::forward<Call>(call)();
      return R();
    } else {
      return R(std::forward<Call>(call)());
    }
  } catch (...) {
    return R(current_exception_as_error(otherwise));
  }
}

}  // namespace curdkv
