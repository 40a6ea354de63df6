// The page at / and the description at /openapi.json, built in from page.html and openapi.json.
#pragma once

#include <string_view>

namespace curdkv::server {

extern const std::string_view kPage, kOpenApi;

}  // namespace curdkv::server
