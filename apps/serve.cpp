// curdkv serve: OpenAI's API over compressed contexts.
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <ctime>

#include "base/format.h"
#include "base/try.h"
#include "command.h"
#include "io/input_file.h"
#include "numbers.h"
#include "prompt_flags.h"
#include "sampling_flags.h"
#include "server/server.h"
#include "terminal.h"

namespace curdkv::app {
namespace {

struct ServeOptions {
  ModelOptions model;
  ExecutorOptions executor;
  PressOptions press;
  PromptFlags prompt;
  GenerateOptions generate;
  server::ServerOptions server;
  std::string key_file;
  std::vector<std::string> keys;
  int64_t context_memory_mib = 4096, context_disk_mib = 32768, max_body_mib = 64;
  bool quiet = false;
};

// One key a line. Errors: as of read_text(); bad_input if there is none.
Result<std::vector<std::string>> read_keys(const std::string& path) {
  CURDKV_TRY(const std::string text, read_text(path, size_t{1} << 20));
  std::vector<std::string> keys;
  for (std::string_view line : lines_of(text)) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
    if (!line.empty() && line.front() != '#') keys.emplace_back(line);
  }
  if (keys.empty()) return Error{ErrorCode::bad_input, path + ": there is no key in it (one a line)"};
  return keys;
}

// The socket that systemd listens on for us (sd_listen_fds(3)), or -1.
Result<int> inherited_socket() {
  const char *pid = std::getenv("LISTEN_PID"), *n = std::getenv("LISTEN_FDS");
  if (pid == nullptr || n == nullptr || std::to_string(::getpid()) != pid) return -1;
  if (std::string(n) != "1")
    return Error{ErrorCode::bad_argument, std::string("LISTEN_FDS is ") + n + ": one socket can be served"};
  return 3;
}

void write_log(const server::LogLine& l) {
  char when[32] = "";
  const std::time_t now = std::time(nullptr);
  std::tm utc = {};
  if (gmtime_r(&now, &utc) != nullptr) std::strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
  const nlohmann::ordered_json line = {{"time", when},       {"remote", l.remote},
                                       {"method", l.method}, {"path", l.path},
                                       {"status", l.status}, {"ms", std::round(l.ms * 10) / 10}};
  write_err(line.dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

Result<void> serve(const ServeOptions& o) {
  server::ServerOptions s = o.server;
  CURDKV_TRY(const std::string path, o.model.resolve());
  if (!o.key_file.empty()) {
    CURDKV_TRY(s.api_keys, read_keys(o.key_file));
  }
  s.api_keys.insert(s.api_keys.end(), o.keys.begin(), o.keys.end());
  CURDKV_TRY(s.socket, inherited_socket());
  CURDKV_TRY(const Press press, o.press.resolve(o.executor));
  s.press = o.press.asked(o.executor);
  s.sampling = o.generate.sampling;
  s.n_predict = o.generate.n_predict;
  s.context_memory = o.context_memory_mib << 20;
  s.context_disk = o.context_disk_mib << 20;
  s.max_body = static_cast<size_t>(o.max_body_mib) << 20;
  CURDKV_TRY([[maybe_unused]] const Sampler possible, Sampler::create(s.sampling));
  CURDKV_TRY(const Engine engine, o.prompt.open(path, o.model.params));
  ExecutorParams params = o.executor.resolve();
  params.in_company = true;
  params.stop = nullptr;  // answers under way end before the server does
  const InterruptScope scope(InterruptScope::Then::takes_its_time);
  const auto ready = [&](const std::string& host, int port) {
    const bool v6 = host.find(':') != std::string::npos;
    write_err(format("serving %s with %s at http://%s%s%s:%d\n", engine.info().path.c_str(),
                     press_label(press).c_str(), v6 ? "[" : "", host.c_str(), v6 ? "]" : "", port));
    if (s.api_keys.empty() && host != "127.0.0.1" && host != "localhost" && host != "::1")
      note(
          "no API key is asked for: whoever reaches this address can use the server (--api-key-file asks for "
          "one)");
  };
  const auto log = [&](const server::LogLine& line) {
    if (!o.quiet) write_log(line);
  };
  return server::serve(engine, params, s, interrupted(), ready, log);
}

void add_limits(CLI::App& app, ServeOptions& o) {
  server::ServerOptions& s = o.server;
  const auto number = [&](const char* name, auto& value, int64_t min, int64_t max, const char* what,
                          const char* type) {
    app.add_option(name, value, what)
        ->type_name(type)
        ->transform(whole_number(min, max))
        ->capture_default_str();
  };
  number("--parallel", s.n_parallel, 1, 256, "answers that go on at once (-np N)", "N");
  number("--queue", s.n_queue, 1, 100000, "requests that wait at most; more are refused (429)", "N");
  number("--max-connections", s.n_connections, 1, 100000, "connections served at once", "N");
  number("--max-body", o.max_body_mib, 1, 1 << 20, "largest body of a request", "MIB");
  number("--timeout", s.timeout_s, 1, 1 << 30, "longest that a request may take, reading included",
         "SECONDS");
  number("--client-timeout", s.client_timeout_s, 1, 1 << 30,
         "longest that a client may neither send nor take anything", "SECONDS");
  number("--context-memory", o.context_memory_mib, 1, int64_t{1} << 40,
         "memory for contexts' keys and values", "MIB");
  number("--context-disk", o.context_disk_mib, 1, int64_t{1} << 40, "room for contexts in --contexts", "MIB");
  number("--compress-above", s.worth_compressing, 0, kMostTokens,
         "tokens at the beginning of a prompt that are worth a context (0: only what is sent as a document)",
         "N");
}

}  // namespace

Command add_serve(CLI::App& program) {
  CLI::App* app = program.add_subcommand(
      "serve", "answer over HTTP, by OpenAI's API and on a page, from compressed contexts");
  auto o = std::make_shared<ServeOptions>();
  o->generate.n_predict = -1;
  o->model.add_to(*app);
  app->add_option("--host", o->server.host, "address to listen at")->capture_default_str();
  app->add_option("--port", o->server.port, "port; 0: one that is free")
      ->transform(whole_number(0, 65535))
      ->capture_default_str();
  app->add_option("--contexts", o->server.contexts,
                  "folder in which contexts are kept, to be found after a restart")
      ->type_name("DIR")
      ->check(check_name);
  auto* key_file =
      app->add_option("--api-key-file", o->key_file, "API keys, one a line; each has contexts of its own")
          ->type_name("FILE")
          ->check(check_name);
  app->add_option("--api-key", o->keys,
                  "an API key (other users of the machine may see it; better in a file)")
      ->type_name("KEY")
      ->delimiter(',')
      ->excludes(key_file);
  app->add_option("-a,--alias", o->server.alias, "the model's name for clients (default: its file's)")
      ->type_name("NAME");
  app->add_option("--allowed-host", o->server.hosts,
                  "a name by which the server is called, as behind a proxy; *: any")
      ->type_name("NAME")
      ->delimiter(',');
  app->add_option("--cors-origin", o->server.origins, "an origin whose pages may ask from a browser; *: any")
      ->type_name("ORIGIN")
      ->delimiter(',');
  add_limits(*app, *o);
  o->prompt.add_to(*app);
  o->press.add_to(*app, kRecommended, kRecommendedRatio);
  add_generation(*app, o->generate);
  o->executor.add_to(*app);
  app->add_flag("--quiet", o->quiet, "no line on standard error for every request");
  return [o] {
    settle_generation(o->generate, o->press.request.seed);
    o->press.choose(o->model, o->executor, false);
    const auto done = serve(*o);
    return done ? kOk : report(done.error());
  };
}

}  // namespace curdkv::app
