// What a call that fails says.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "curdkv/result.h"

namespace curdkv::testing {

template <typename R>
void expect_error(const R& r, ErrorCode code, const std::string& words) {
  ASSERT_FALSE(r) << "an error was expected: " << words;
  EXPECT_EQ(r.error().code, code) << r.error().message;
  EXPECT_NE(r.error().message.find(words), std::string::npos) << r.error().message;
}

template <typename R>
void expect_refused(const R& r, const std::string& words) {
  expect_error(r, ErrorCode::bad_argument, words);
}

}  // namespace curdkv::testing
