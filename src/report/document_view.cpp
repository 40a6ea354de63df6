#include "base/format.h"
#include "base/try.h"
#include "report/html.h"
#include "report/sections.h"

namespace curdkv::report {

using namespace curdkv::eval;

namespace {

Result<void> check_kept(const JsonLine& figure) {
  CURDKV_TRY(const std::vector<JsonLine> kept, figure.items("kept"));
  for (const JsonLine& k : kept) {
    if (!k.text("press") || !k.number("compression_ratio") || !k.text("bits"))
      return figure.error("field 'kept' has an entry without press, compression_ratio or bits");
  }
  return {};
}

}  // namespace

Result<std::string> document_view(const JsonLine& figure) {
  CURDKV_TRY([[maybe_unused]] const auto tokens, figure.texts("tokens"));
  CURDKV_TRY([[maybe_unused]] const int64_t n_layer, figure.integer("n_layer"));
  CURDKV_TRY([[maybe_unused]] const int64_t n_head, figure.integer("n_head_kv"));
  CURDKV_CHECK(check_kept(figure));
  // Inside a script element nothing of the text may look like markup.
  std::string data = figure.object().dump(-1, ' ', true, Json::error_handler_t::replace);
  for (size_t at = 0; (at = data.find('<', at)) != std::string::npos;) data.replace(at, 1, "\\u003c");
  return "<div class=view>\n<div class=choose><label>press <select></select></label><label>layer "
         "<select></select></label><label>head <select></select></label></div>\n<p class=note><span "
         "class=told></span> Shade: share of the chosen heads that kept a token, none <span "
         "class=scale></span> all.</p>\n<div class=document></div>\n<noscript><p>This view needs "
         "JavaScript.</p></noscript>\n<script type=\"application/json\">" +
         data + "</script></div>\n";
}

}  // namespace curdkv::report
