// curdkv: one binary, subcommands; each parses, calls the library and prints.
#include <malloc.h>

#include <cstdio>
#include <exception>
#include <map>

#include "command.h"
#include "curdkv/version.h"
#include "faults.h"
#include "last_net.h"
#include "version.h"

namespace {

using namespace curdkv::app;

// llama.cpp's two-letter short options, which CLI11 has no room for.
std::vector<std::string> spell_out(int argc, char** argv) {
  static const std::map<std::string, std::string> long_names = {
      {"-ngl", "--n-gpu-layers"}, {"-ctk", "--cache-type-k"}, {"-ctv", "--cache-type-v"}};
  std::vector<std::string> args;
  for (int i = argc - 1; i > 0; --i) {  // CLI11 takes them in reverse
    const auto it = long_names.find(argv[i]);
    args.push_back(it == long_names.end() ? argv[i] : it->second);
  }
  return args;
}

int run(int argc, char** argv) {
  CLI::App program("curdkv answers questions about long documents from a compressed KV cache.", "curdkv");
  program.set_version_flag("--version", version_text,
                           "what this build is, and its kernels on this processor");
  program.require_subcommand(1);
  program.footer(
      "Exit codes: 0 fine, 1 failed at work, 2 wrong usage, 130 interrupted.\n"
      "Example: curdkv run -f report.txt -q 'What was decided?' --press adacurdkv --compression-ratio 0.7");
  const std::map<std::string, Command> commands = {
      {"run", add_run(program)},         {"presses", add_presses(program)},
      {"inspect", add_inspect(program)}, {"perplexity", add_perplexity(program)},
      {"eval", add_eval(program)},       {"analyze", add_analyze(program)},
      {"report", add_report(program)},   {"bench", add_bench(program)},
  };
  try {
    program.parse(spell_out(argc, argv));
  } catch (const CLI::ParseError& e) {
    return program.exit(e) == 0 ? kOk : kWrongUsage;
  }
  return commands.at(program.get_subcommands().front()->get_name())();
}

}  // namespace

int main(int argc, char** argv) {
  // Large blocks go back to the system as soon as they are freed, whatever was freed before: what the cache
  // gives up leaves the process.
  mallopt(M_MMAP_THRESHOLD, 256 * 1024);
  take_stack();
  install_signal_handlers();
  catch_mapped_file_faults();
  try {
    if (const auto able = curdkv::check_cpu(); !able) return report(able.error());
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    say_out_of_memory();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
  }
  return kFailed;
}
