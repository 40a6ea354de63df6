#include "base/format.h"
#include "base/try.h"
#include "report/html.h"
#include "report/sections.h"

namespace curdkv::report {

using namespace curdkv::eval;

namespace {

Result<void> check_kept(const JsonLine& figure) {
  const Json kept = figure.has("kept") ? figure.object()["kept"] : Json();
  if (!kept.is_array() || kept.empty()) return figure.error("field 'kept' is no list of presses, or empty");
  for (const Json& k : kept) {
    const bool complete = k.is_object() && k.contains("press") && k["press"].is_string() &&
                          k.contains("compression_ratio") && k["compression_ratio"].is_number() &&
                          k.contains("bits") && k["bits"].is_string();
    if (!complete) return figure.error("field 'kept' has an entry without press, compression_ratio or bits");
  }
  return {};
}

}  // namespace

Result<std::string> document_view(const JsonLine& figure, int number) {
  CURDKV_TRY(const std::string model, figure.text("model"));
  CURDKV_TRY([[maybe_unused]] const auto tokens, figure.texts("tokens"));
  CURDKV_TRY([[maybe_unused]] const int64_t n_layer, figure.integer("n_layer"));
  CURDKV_TRY([[maybe_unused]] const int64_t n_head, figure.integer("n_head_kv"));
  CURDKV_CHECK(check_kept(figure));
  // Inside a script element nothing of the text may look like markup.
  std::string data = figure.object().dump(-1, ' ', true, Json::error_handler_t::replace);
  for (size_t at = 0; (at = data.find('<', at)) != std::string::npos;) data.replace(at, 1, "\\u003c");
  return format("<section class=view id=document%d><h2>What the presses kept: ", number) + escaped(model) +
         "</h2>\n<div class=choose><label>press <select></select></label><label>layer "
         "<select></select></label>"
         "<label>head <select></select></label></div>\n<p class=note><span class=told></span> Shade: share "
         "of the "
         "chosen heads that kept a token, none <span class=scale></span> all.</p>\n<div "
         "class=document></div>\n"
         "<noscript><p>This view needs JavaScript.</p></noscript>\n<script type=\"application/json\">" +
         data + "</script></section>\n";
}

}  // namespace curdkv::report
