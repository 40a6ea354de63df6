// curdkv report: results as a page people look at.
#include "report/report.h"

#include "base/try.h"
#include "command.h"
#include "io/output_file.h"

namespace curdkv::app {
namespace {

struct ReportOptions {
  std::vector<std::string> inputs;
  std::string out;
};

Result<void> run(const ReportOptions& o) {
  CURDKV_CHECK(check_output(o.out, o.inputs));
  CURDKV_TRY(const std::string page, curdkv::report::make_report(o.inputs));
  return write_file(o.out, page);
}

}  // namespace

Command add_report(CLI::App& program) {
  CLI::App* app =
      program.add_subcommand("report", "results of 'curdkv eval' and 'curdkv analyze' as one HTML page");
  auto o = std::make_shared<ReportOptions>();
  app->add_option("inputs", o->inputs, "files of results, in any order")->type_name("FILE")->required();
  app->add_option("-o,--output", o->out, "the page")->type_name("FILE")->required();
  return [o] {
    const auto done = run(*o);
    return done ? kOk : app::report(done.error());
  };
}

}  // namespace curdkv::app
