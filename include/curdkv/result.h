// Errors as values. Every fallible call of the library returns a Result<T>; the library never prints, exits,
// or reads the environment, and a call that returns a Result throws nothing, not even when memory runs out.
// (What returns a plain value, such as Sequence::mark(), may throw std::bad_alloc, as copying a string may.)
// A Result must be looked at ([[nodiscard]]).
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace curdkv {

enum class ErrorCode {
  bad_argument,   // the caller asked for something that makes no sense (a ratio of 1.5)
  bad_input,      // a text or a file that is of no use here (empty, too long, of another run)
  io,             // a file that cannot be read or written (missing, not permitted, a full disk)
  unsupported,    // well-formed, and yet nothing that can be run or read (an architecture, a kind of file)
  corrupt,        // malformed, truncated or inconsistent
  out_of_memory,  // an allocation failed
  cancelled,      // the caller's stop flag was raised
  internal,       // a backend failed; please report it
};

struct Error {
  ErrorCode code;
  std::string message;  // names the thing and the mend; one line, no full stop needed
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit by design
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT

  explicit operator bool() const { return state_.index() == 0; }
  T& value() { return *std::get_if<0>(&state_); }
  const T& value() const { return *std::get_if<0>(&state_); }
  T& operator*() { return value(); }
  const T& operator*() const { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const { return *std::get_if<1>(&state_); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT: implicit by design

  explicit operator bool() const { return !error_; }
  const Error& error() const { return *error_; }

 private:
  std::optional<Error> error_;
};

}  // namespace curdkv
