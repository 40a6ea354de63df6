// Two macros for passing errors up: CURDKV_CHECK for Result<void>, CURDKV_TRY to bind a value.
#pragma once

#include "curdkv/result.h"

#define CURDKV_CAT2(a, b) a##b
#define CURDKV_CAT(a, b) CURDKV_CAT2(a, b)

// Returns the error of a Result expression to the caller, if it has one.
#define CURDKV_CHECK(expr)                                          \
  do {                                                              \
    if (auto curdkv_r = (expr); !curdkv_r) return curdkv_r.error(); \
  } while (0)

// CURDKV_TRY(auto x, f()) declares x from f()'s value, or returns its error.
#define CURDKV_TRY(decl, expr)                                                        \
  auto CURDKV_CAT(curdkv_t, __LINE__) = (expr);                                       \
  if (!CURDKV_CAT(curdkv_t, __LINE__)) return CURDKV_CAT(curdkv_t, __LINE__).error(); \
  decl = std::move(*CURDKV_CAT(curdkv_t, __LINE__))
