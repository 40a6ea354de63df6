// curdkv: one binary, subcommands; each parses, calls the library and prints.

#include <cstdio>
#include <exception>
#include <map>

#include "arguments.h"
#include "command.h"
#include "curdkv/version.h"
#include "faults.h"
#include "last_net.h"
#include "terminal.h"
#include "version.h"

namespace {

using namespace curdkv;
using namespace curdkv::app;

// An option that takes one value may be given again: the last one counts, as in llama.cpp.
void let_the_last_one_win(CLI::App& app) {
  for (CLI::Option* o : app.get_options()) {
    if (o->get_items_expected_max() == 1 && o->get_multi_option_policy() == CLI::MultiOptionPolicy::Throw) {
      o->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    }
  }
  for (CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) let_the_last_one_win(*sub);
}

int show(const std::string& text) {
  const auto written = write_out(text);
  return written ? kOk : report(written.error());
}

// What CLI11 found wrong, and where help is.
int report_usage(const CLI::App& program, const std::string& what) {
  std::string command = "curdkv";
  for (auto subs = program.get_subcommands(); !subs.empty(); subs = subs[0]->get_subcommands()) {
    command += " " + subs[0]->get_name();
  }
  return report({ErrorCode::bad_argument, what + " ('" + command + " --help' lists the options)"});
}

int run(int argc, char** argv) {
  CLI::App program("curdkv answers questions about long documents from a compressed KV cache.", "curdkv");
  program.add_flag("-v,-V,--version")->description("what this build is, and its kernels on this processor");
  program.require_subcommand(1);
  program.footer(
      "curdkv help COMMAND lists a command's options.\n"
      "Exit codes: 0 fine, 1 failed at work, 2 wrong usage, 130 interrupted.\n"
      "Example: curdkv run -m model.gguf -f report.txt -q 'What was decided?'");
  const std::map<std::string, Command> commands = {
      {"run", add_run(program)},
      {"chat", add_chat(program)},
      {"compress", add_compress(program)},
      {"serve", add_serve(program)},
      {"presses", add_presses(program)},
      {"inspect", add_inspect(program)},
      {"perplexity", add_perplexity(program)},
      {"eval", add_eval(program)},
      {"analyze", add_analyze(program)},
      {"report", add_report(program)},
      {"bench", add_bench(program)},
  };
  let_the_last_one_win(program);
  const auto arguments = read_arguments(program, {argv + 1, argv + argc});
  if (!arguments) return report(arguments.error());
  if (arguments->version) return show(version_text() + "\n");
  if (arguments->words.empty()) {
    write_err(program.help());
    return kWrongUsage;
  }
  for (const std::string& text : arguments->notes) note(text);
  try {
    program.parse(std::vector(arguments->words.rbegin(), arguments->words.rend()));  // in reverse, for CLI11
  } catch (const CLI::CallForHelp&) {
    return show(program.help());
  } catch (const CLI::ParseError& e) {
    return report_usage(program, e.what());
  }
  return commands.at(program.get_subcommands().front()->get_name())();
}

}  // namespace

int main(int argc, char** argv) {
  prepare_for_no_memory();
  install_signal_handlers();
  catch_mapped_file_faults();
  try {
    if (const auto able = curdkv::check_cpu(); !able) return report(able.error());
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    say_out_of_memory();
  } catch (const std::exception& e) {
    write_err(std::string("error: ") + e.what() + "\n");
  }
  return kFailed;
}
