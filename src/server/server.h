// curdkv serve: OpenAI's API over compressed contexts.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "curdkv/engine.h"
#include "curdkv/press.h"

namespace curdkv::server {

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8080;  // 0: any that is free
  int socket = -1;  // one that is listened on already, instead of these
  std::vector<std::string> api_keys = {};
  std::string alias = {};                 // the model's name for clients; "": its file's
  std::vector<std::string> hosts = {};    // names the server may be called by, beside its own
  std::vector<std::string> origins = {};  // of web pages that may ask; "*": all
  std::string contexts = {};              // folder; "": none
  int64_t context_memory = int64_t{4} << 30, context_disk = int64_t{32} << 30;  // bytes
  int64_t worth_compressing = 1024;  // tokens at the beginning of a prompt; 0: never unasked
  int n_parallel = 4;
  size_t n_queue = 32;
  size_t n_connections = 512;
  size_t max_body = size_t{64} << 20;  // bytes
  int64_t n_predict = -1;              // most tokens of an answer; -1: what the context has room for
  int timeout_s = 600;                 // of a request, reading its context included
  int client_timeout_s = 30;           // of a client that neither reads nor writes
  PressRequest press = {};
  SamplingParams sampling = {};
};

// One thing that happened, for the log: no text of any request is in it.
struct LogLine {
  std::string method, path, remote;
  int status = 0;
  double ms = 0;
};

// Serves until `stop` turns true; then takes no more, lets answers end for some seconds, and returns.
// ready: is told where it listens. Errors: bad_argument for options that make no sense; io if it cannot
// listen; as of Engine::executor and Press::make.
Result<void> serve(const Engine& engine, const ExecutorParams& params, const ServerOptions& options,
                   const std::atomic<bool>& stop,
                   const std::function<void(const std::string& host, int port)>& ready,
                   const std::function<void(const LogLine&)>& log);

}  // namespace curdkv::server
