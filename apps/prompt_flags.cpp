#include "prompt_flags.h"

#include "base/try.h"
#include "document.h"
#include "io/input_file.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

constexpr size_t kMostBytes = size_t{1} << 20;

}  // namespace

void PromptFlags::add_to(CLI::App& app) {
  auto* system =
      app.add_option("--system-prompt", system_,
                     "the system turn's text (-sys TEXT; default: what the model's chat template says)")
          ->type_name("TEXT");
  app.add_option("--system-prompt-file", system_file_, "the same from a file (-sysf FILE)")
      ->type_name("FILE")
      ->excludes(system);
  auto* chat_template =
      app.add_option(
             "--chat-template", template_,
             "chat template instead of the model's own, in Jinja or by a name that llama.cpp knows (chatml)")
          ->type_name("JINJA|NAME");
  auto* file = app.add_option("--chat-template-file", template_file_, "the same from a file")
                   ->type_name("FILE")
                   ->excludes(chat_template);
  app.add_flag("--raw", raw, "no chat template: document and question follow each other as they are")
      ->excludes(system)
      ->excludes(chat_template)
      ->excludes(file);
}

std::vector<std::string> PromptFlags::files() const {
  std::vector<std::string> out;
  for (const std::string* file : {&system_file_, &template_file_}) {
    if (!file->empty()) out.push_back(*file);
  }
  return out;
}

Result<PromptOptions> PromptFlags::options() const {
  PromptOptions o;
  if (raw) o.chat = false;
  o.system = system_;
  if (!system_file_.empty()) {
    CURDKV_TRY(o.system, read_text(system_file_, kMostBytes));
    if (o.system.ends_with('\n')) o.system.pop_back();  // as llama.cpp
  }
  o.chat_template.source = template_;
  if (!template_file_.empty()) {
    CURDKV_TRY(o.chat_template.source, read_text(template_file_, kMostBytes));
    if (o.chat_template.source.find_first_not_of(" \t\r\n") == std::string::npos) {
      return Error{ErrorCode::bad_input, template_file_ + ": is empty"};
    }
  }
  return o;
}

Result<Engine> PromptFlags::open(const std::string& path, const ModelParams& params) const {
  CURDKV_TRY(const PromptOptions prompt, options());
  CURDKV_TRY(Engine engine, Engine::open(path, {params, prompt}));
  if (!raw && !engine.prompt().is_chat()) {
    note("the model has no chat template; document and question are used as they are");
  }
  return engine;
}

std::vector<std::string> inputs_of(const std::string& model, const DocumentOptions& document,
                                   const PromptFlags& prompt) {
  std::vector<std::string> all = document.files();
  all.push_back(model);
  for (const std::string& file : prompt.files()) all.push_back(file);
  return all;
}

}  // namespace curdkv::app
