// Prefill and decode speed against libllama: same GGUF, same threads, alternating in one process.
// Prints a Markdown table; every ratio is the median of the ratios of neighbouring runs.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "base/stopwatch.h"
#include "curdkv/session.h"
#include "support/oracle.h"

using namespace curdkv;

namespace {

struct Options {
  std::string model;
  int n_threads = 2;
  int n_repeat = 5;
  int64_t n_decode = 32;
  std::vector<int64_t> depths = {0, 4096};
  std::string press = "none";
  double ratio = 0;
};

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "error: %s\n", what.c_str());
  std::exit(1);
}

template <typename T>
T must(Result<T> r) {
  if (!r) fail(r.error().message);
  return std::move(*r);
}
void must(const Result<void>& r) {
  if (!r) fail(r.error().message);
}

std::vector<Token> random_tokens(int64_t n, int64_t n_vocab) {
  std::mt19937 rng(7);
  std::vector<Token> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(static_cast<Token>(rng() % static_cast<uint64_t>(n_vocab)));
  return out;
}

struct Series {
  std::vector<double> ours, theirs, ratios;  // tokens per second; ours / theirs
  void add(double a, double b) {
    ours.push_back(a);
    theirs.push_back(b);
    ratios.push_back(a / b);
  }
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.size() % 2 ? v[v.size() / 2] : (v[v.size() / 2 - 1] + v[v.size() / 2]) / 2;
}

void print(const char* test, int64_t depth, const Series& s) {
  std::printf("| %s | %lld | %.1f | %.1f | %.3f | %.3f to %.3f |\n", test, (long long)depth, median(s.ours),
              median(s.theirs), median(s.ratios), *std::min_element(s.ratios.begin(), s.ratios.end()),
              *std::max_element(s.ratios.begin(), s.ratios.end()));
  std::fflush(stdout);
}

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i], value = argv[i + 1];
    if (flag == "-m")
      o.model = value;
    else if (flag == "-t")
      o.n_threads = std::atoi(value.c_str());
    else if (flag == "-r")
      o.n_repeat = std::atoi(value.c_str());
    else if (flag == "-n")
      o.n_decode = std::atoi(value.c_str());
    else if (flag == "--press")
      o.press = value;
    else if (flag == "--compression-ratio")
      o.ratio = std::atof(value.c_str());
    else if (flag == "-d") {
      o.depths.clear();
      for (char* p = std::strtok(argv[i + 1], ","); p; p = std::strtok(nullptr, ","))
        o.depths.push_back(std::atoll(p));
    } else
      fail("unknown option " + flag);
  }
  if (o.model.empty())
    fail(
        "usage: against_llama -m MODEL [-t N] [-r REPEATS] [-n DECODED] [-d DEPTH,...] [--press P "
        "--compression-ratio R]");
  return o;
}

}  // namespace

int main(int argc, char** argv) {
  const Options o = parse(argc, argv);
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  const int64_t deepest = *std::max_element(o.depths.begin(), o.depths.end());
  Model model = must(Model::load(o.model));
  SessionParams params;
  params.n_threads = o.n_threads;
  params.n_ctx = std::max<int64_t>(deepest, 512) + 1024;
  Session session = must(Session::create(model, params));
  auto oracle = testing::Oracle::load(o.model, o.n_threads, params.n_ctx);
  if (!oracle) fail("libllama cannot load the model");
  PressRequest request;
  request.name = o.press;
  request.compression_ratio = o.ratio;
  const Press press = must(Press::make(request));
  const std::vector<Token> tokens = random_tokens(params.n_ctx, model.info().n_vocab);
  const std::span<const Token> all(tokens);

  std::printf("%s, %d threads, press %s %.2f, %d repeats; tokens per second\n\n",
              o.model.substr(o.model.rfind('/') + 1).c_str(), o.n_threads, o.press.c_str(), o.ratio,
              o.n_repeat);
  std::printf(
      "| test | tokens | curdkv | llama.cpp | ratio (median) | ratio (range) |\n|---|---|---|---|---|---|\n");
  for (int64_t depth : o.depths) {
    const int64_t n_prefill = depth == 0 ? 512 : depth;
    Series prefill, decode;
    std::vector<double> share;
    for (int r = -1; r < o.n_repeat; ++r) {  // -1: warm-up
      session.clear();
      const Stopwatch ours;
      const PrefillReport report = must(session.prefill(all.first(static_cast<size_t>(n_prefill)), press));
      const double ours_ms = ours.ms();
      oracle->clear();
      const Stopwatch theirs;
      oracle->extend(all.first(static_cast<size_t>(n_prefill)), false);
      const double theirs_ms = theirs.ms();
      if (r < 0) continue;
      prefill.add(static_cast<double>(n_prefill) * 1e3 / ours_ms,
                  static_cast<double>(n_prefill) * 1e3 / theirs_ms);
      share.push_back(100 * report.compress_ms / report.prefill_ms);
      if (deepest > 8192 && r >= 1) break;
    }
    print("prefill", n_prefill, prefill);
    std::printf("| compression's share of prefill, %% | %lld | %.2f | | | |\n", (long long)n_prefill,
                median(share));
    if (depth == 0) {  // decode from (almost) nothing
      session.clear();
      oracle->clear();
      must(session.extend(all.first(1)));
      oracle->extend(all.first(1), false);
    }
    const Session::Mark mark = session.mark();
    const int64_t n_before = session.n_tokens();
    for (int r = -1; r < o.n_repeat; ++r) {
      must(session.rewind(mark));
      oracle->truncate(n_before);
      double ours_ms = 0, theirs_ms = 0;
      for (int64_t i = 0; i < o.n_decode; ++i) {
        const auto one = all.subspan(static_cast<size_t>(n_before + i), 1);
        const Stopwatch ours;
        must(session.extend(one));
        ours_ms += ours.ms();
      }
      for (int64_t i = 0; i < o.n_decode; ++i) {
        const auto one = all.subspan(static_cast<size_t>(n_before + i), 1);
        const Stopwatch theirs;
        oracle->extend(one, false);
        theirs_ms += theirs.ms();
      }
      if (r < 0) continue;
      decode.add(static_cast<double>(o.n_decode) * 1e3 / ours_ms,
                 static_cast<double>(o.n_decode) * 1e3 / theirs_ms);
    }
    print("decode", depth, decode);
  }
  return 0;
}
