// HTTP by cpp-httplib: who may ask, what is refused before it is read, and the end in order.
#include "server/server.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <thread>

#include "base/format.h"
#include "base/try.h"
#include "server/api.h"
#include "server/identity.h"
#include "server/page_texts.h"

namespace curdkv::server {
namespace {

constexpr auto kGrace = std::chrono::seconds(10);  // for answers under way when the server is stopped

// A server that can take over a socket which somebody else listens on already.
class HttpServer : public httplib::Server {
 public:
  void adopt(int socket) { svr_sock_ = socket; }
};

std::string without_port(const std::string& host) {
  if (host.starts_with("[")) return host.substr(0, host.find(']') + 1);
  return host.substr(0, host.find(':'));
}

bool is_address(const std::string& host) {
  return host.starts_with("[") || host.find_first_not_of("0123456789.") == std::string::npos;
}

// A web page that a name leads here may not ask in its reader's name: the name must be one of the server's
// own.
bool is_known_host(const std::string& host, const ServerOptions& o) {
  const std::string name = without_port(host);
  const auto is = [&](const std::string& known) { return known == "*" || known == name || known == host; };
  return host.empty() || is_address(name) || name == "localhost" || is(o.host) ||
         std::any_of(o.hosts.begin(), o.hosts.end(), is);
}

bool is_known_origin(const std::string& origin, const std::string& host, const ServerOptions& o) {
  if (origin == "http://" + host || origin == "https://" + host) return true;
  return std::any_of(o.origins.begin(), o.origins.end(),
                     [&](const std::string& known) { return known == "*" || known == origin; });
}

bool is_open(const std::string& path) {
  return path == "/" || path == "/health" || path == "/v1/health" || path == "/openapi.json" ||
         path == "/favicon.ico";
}

void allow_origin(const std::string& origin, httplib::Response& response) {
  response.set_header("Access-Control-Allow-Origin", origin);
  response.set_header("Vary", "Origin");
}

// Whether a request may go on; otherwise it was answered.
bool admit(const ServerOptions& o, const httplib::Request& request, httplib::Response& response) {
  const auto refuse = [&](ApiError error) {
    response.set_header("Connection", "close");  // its body is not read
    answer(response, error);
    return false;
  };
  const std::string host = request.get_header_value("Host"), origin = request.get_header_value("Origin");
  if (!is_known_host(host, o)) {
    return refuse(
        {.status = 403,
         .message =
             "the server does not know itself by the name of the Host header (--allowed-host adds one)",
         .type = "permission_error"});
  }
  if (!origin.empty()) {
    if (!is_known_origin(origin, host, o)) {
      return refuse({.status = 403,
                     .message = "pages of this origin may not ask (--cors-origin allows one)",
                     .type = "permission_error"});
    }
    allow_origin(origin, response);
    if (request.method == "OPTIONS") {
      response.set_header("Access-Control-Allow-Methods", "GET, POST, DELETE");
      response.set_header("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Api-Key");
      response.set_header("Access-Control-Max-Age", "600");
      response.status = 204;
      return false;
    }
  }
  if (o.api_keys.empty() || is_open(request.path) || is_one_of(bearer_of(request), o.api_keys)) return true;
  response.set_header("WWW-Authenticate", "Bearer");
  return refuse({.status = 401,
                 .message = "the API key is missing or not one of the server's",
                 .type = "authentication_error",
                 .code = "invalid_api_key"});
}

// What cpp-httplib refuses of its own.
void tell_of_refusal(const httplib::Request& request, httplib::Response& response) {
  if (!response.body.empty()) return;
  const std::string& method = request.method;
  const bool known =
      method.empty() || method == "GET" || method == "POST" || method == "DELETE" || method == "HEAD";
  if (response.status == 400 && !known) {
    response.status = 405;
    response.set_header("Allow", "GET, POST, DELETE");
  }
  const int status = response.status;
  const std::string what = status == 404   ? "there is nothing at this path"
                           : status == 413 ? "the body is larger than the server takes (--max-body)"
                           : status == 405 ? "this path is not asked in this way"
                                           : httplib::status_message(status);
  answer(response, ApiError{.status = status,
                            .message = what,
                            .type = status >= 500 ? "server_error" : "invalid_request_error"});
}

void set_limits(HttpServer& http, const ServerOptions& o) {
  http.set_payload_max_length(o.max_body);
  http.set_read_timeout(o.client_timeout_s);
  http.set_write_timeout(o.client_timeout_s);
  http.set_keep_alive_timeout(5);
  http.set_keep_alive_max_count(10000);
  const size_t most = o.n_connections;
  http.new_task_queue = [most] { return new httplib::ThreadPool(std::min<size_t>(8, most), most, most); };
  http.set_tcp_nodelay(true);
}

// "/with/press=none&n=2/v1/completions" is "/v1/completions?press=none&n=2": for clients that are told where
// a server is and put paths of their own behind it.
void take_fields_of_path(httplib::Request& request) {
  constexpr std::string_view kWith = "/with/";
  if (!request.path.starts_with(kWith)) return;
  const size_t end = request.path.find('/', kWith.size());
  if (end == std::string::npos) return;
  const std::string fields = request.path.substr(kWith.size(), end - kWith.size());
  for (size_t at = 0; at < fields.size();) {
    const size_t next = std::min(fields.find('&', at), fields.size()), equals = fields.find('=', at);
    if (equals < next)
      request.params.emplace(fields.substr(at, equals - at), fields.substr(equals + 1, next - equals - 1));
    at = next + 1;
  }
  request.path.erase(0, end);
}

void set_handlers(HttpServer& http, const ServerOptions& o, const std::function<void(const LogLine&)>& log) {
  using Handled = httplib::Server::HandlerResponse;
  http.set_pre_routing_handler([&o](const httplib::Request& request, httplib::Response& response) {
    // Routes are chosen after this, by what the request says then; it is the server's own, and not constant.
    take_fields_of_path(const_cast<httplib::Request&>(request));
    return admit(o, request, response) ? Handled::Unhandled : Handled::Handled;
  });
  http.set_error_handler(tell_of_refusal);
  http.set_exception_handler(
      [](const httplib::Request&, httplib::Response& response, const std::exception_ptr& what) {
        std::string message = "the server could not do this";
        try {
          std::rethrow_exception(what);
        } catch (const std::bad_alloc&) {
          message = "there is not enough memory for this";
        } catch (...) {
        }
        answer(response, ApiError{.status = 500, .message = message, .type = "server_error"});
      });
  http.set_default_headers({{"X-Content-Type-Options", "nosniff"}});
  http.set_logger([log](const httplib::Request& request, const httplib::Response& response) {
    const double ms = std::chrono::duration<double, std::milli>(Clock::now() - request.start_time_).count();
    log({request.method, request.path, request.remote_addr, response.status, ms});
  });
}

void add_page(HttpServer& http) {
  http.Get("/", [](const httplib::Request&, httplib::Response& response) {
    response.set_header(
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    response.set_header("Referrer-Policy", "no-referrer");
    response.set_header("Cache-Control", "no-cache");
    response.set_content(std::string(kPage), "text/html; charset=utf-8");
  });
  http.Get("/openapi.json", [](const httplib::Request&, httplib::Response& response) {
    response.set_content(std::string(kOpenApi), "application/json");
  });
  http.Get("/favicon.ico",
           [](const httplib::Request&, httplib::Response& response) { response.status = 204; });
}

// The port of the socket. Errors: io if it cannot be listened on.
Result<int> listen_at(HttpServer& http, const ServerOptions& o) {
  if (o.socket >= 0) {
    sockaddr_storage address = {};
    socklen_t length = sizeof address;
    int listens = 0;
    socklen_t size = sizeof listens;
    if (::getsockopt(o.socket, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0 ||
        ::getsockname(o.socket, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
      return Error{ErrorCode::io, format("descriptor %d is no socket that is listened on", o.socket)};
    }
    http.adopt(o.socket);
    if (address.ss_family == AF_INET) return ntohs(reinterpret_cast<sockaddr_in*>(&address)->sin_port);
    if (address.ss_family == AF_INET6) return ntohs(reinterpret_cast<sockaddr_in6*>(&address)->sin6_port);
    return 0;
  }
  const int port = o.port == 0                         ? http.bind_to_any_port(o.host)
                   : http.bind_to_port(o.host, o.port) ? o.port
                                                       : -1;
  if (port > 0) return port;
  return Error{ErrorCode::io,
               format("cannot listen on %s:%d: is the port taken, or the address not this machine's?",
                      o.host.c_str(), o.port)};
}

}  // namespace

Result<void> serve(const Engine& engine, const ExecutorParams& params, const ServerOptions& options,
                   const std::atomic<bool>& stop,
                   const std::function<void(const std::string& host, int port)>& ready,
                   const std::function<void(const LogLine&)>& log) {
  CURDKV_TRY(Press press, Press::make(options.press));
  CURDKV_TRY(ContextFolder folder, ContextFolder::open(options.contexts));
  std::optional<ChatTemplate> chat_template;
  if (engine.prompt().is_chat()) {
    std::string source = engine.prompt().chat_template();
    if (source == engine.tokenizer().chat_template()) source.clear();  // the model's own
    CURDKV_TRY(chat_template, ChatTemplate::create(engine.tokenizer(), {.source = std::move(source)}));
  }
  HttpServer http;
  set_limits(http, options);
  CURDKV_TRY(const int port, listen_at(http, options));
  Metrics metrics;
  const SchedulerOptions scheduling = {.n_parallel = options.n_parallel,
                                       .n_queue = options.n_queue,
                                       .pool = {options.context_memory, options.context_disk}};
  CURDKV_TRY(const auto scheduler, Scheduler::start(engine, params, std::move(folder), scheduling, metrics));
  const Api api(engine, options, *scheduler, metrics, std::move(press), std::move(chat_template),
                root_of(engine, params));
  set_handlers(http, options, log);
  add_page(http);
  add_chat_routes(http, api);
  add_completion_routes(http, api);
  add_context_routes(http, api);
  add_info_routes(http, api);

  std::atomic<bool> over = false;
  std::thread watch([&] {
    while (!stop && !over) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    http.stop();
    scheduler->stop(kGrace);
  });
  ready(options.host, port);
  const bool listened = http.listen_after_bind();
  over = true;
  watch.join();
  if (!listened && !stop) return Error{ErrorCode::io, "the server stopped listening"};
  return {};
}

}  // namespace curdkv::server
