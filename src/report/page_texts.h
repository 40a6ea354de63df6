// The page's style and script, built in from page.css and document_view.js.
#pragma once

#include <string_view>

namespace curdkv::report {

extern const std::string_view kReportStyle, kReportScript;

}  // namespace curdkv::report
