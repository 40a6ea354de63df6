#include "measure/bench.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "base/stopwatch.h"
#include "base/try.h"
#include "cache/cache_type.h"
#include "measure/cost.h"
#include "measure/engine.h"
#include "measure/machine.h"
#include "measure/memory.h"

namespace curdkv::measure {
namespace {

constexpr std::pair<Test, const char*> kTests[] = {{Test::prefill, "prefill"},
                                                   {Test::compress, "compress"},
                                                   {Test::extend, "extend"},
                                                   {Test::decode, "decode"}};

std::optional<size_t> difference(std::optional<size_t> a, std::optional<size_t> b) {
  if (!a || !b) return std::nullopt;
  return *a > *b ? *a - *b : 0;
}
std::optional<size_t> sum(std::optional<size_t> a, std::optional<size_t> b) {
  if (!a || !b) return std::nullopt;
  return *a + *b;
}

// An engine, and what it is known to hold.
struct Contestant {
  std::unique_ptr<Engine> engine;
  std::optional<size_t> rss_loaded;   // the process with it alone, while it holds no tokens
  std::optional<size_t> rss_context;  // of the context it has read
  size_t kv_bytes = 0;                // likewise
  std::vector<double> ts, compress_ts;
  std::optional<size_t> rss_peak;
};

class Bench {
 public:
  Bench(const Model& model, const BenchOptions& options, const std::function<Result<void>(const Row&)>& sink)
      : model_(model), o_(options), sink_(sink), cost_(model) {}

  Result<void> run() {
    CURDKV_CHECK(check());
    std::mt19937_64 rng(o_.seed);
    for (int64_t i = 0; i < longest(); ++i) {
      tokens_.push_back(static_cast<Token>(rng() % static_cast<uint64_t>(model_.info().n_vocab)));
    }
    CURDKV_CHECK(load());
    for (const int64_t depth : o_.depths) CURDKV_CHECK(run_depth(depth));
    return {};
  }

 private:
  bool wants(Test test) const { return o_.tests.count(test) != 0; }
  bool wants_reading() const { return wants(Test::prefill) || wants(Test::compress); }
  bool wants_extend(int64_t depth) const { return wants(Test::extend) && o_.n_prompt > 0 && depth > 0; }
  bool wants_decode() const { return wants(Test::decode) && o_.n_gen > 0; }
  int64_t n_read(int64_t depth) const { return depth > 0 ? depth : o_.n_prompt; }
  int64_t longest() const {
    return *std::max_element(o_.depths.begin(), o_.depths.end()) + o_.n_prompt + o_.n_gen + 1;
  }

  Result<void> check() {
    if (o_.depths.empty() || o_.presses.empty() || o_.n_repeat < 1) {
      return Error{ErrorCode::bad_argument, "a benchmark needs a depth, a press and a repetition"};
    }
    for (const int64_t depth : o_.depths) {
      if (wants_reading() && n_read(depth) > 0) n_total_ += o_.n_repeat;
      if (wants_extend(depth)) n_total_ += o_.n_repeat;
      if (wants_decode()) n_total_ += o_.n_repeat;
    }
    if (n_total_ == 0) {
      return Error{ErrorCode::bad_argument, "no test is left to do: see the depths, -p, -n and --tests"};
    }
    return {};
  }

  Result<void> load() {
    ExecutorParams params = o_.executor;
    params.n_ctx = std::max<int64_t>(longest(), params.n_ctx);
    CURDKV_TRY(Executor executor, Executor::create(model_, params));
    executor_.emplace(std::move(executor));
    for (const Press& press : o_.presses) {
      if (press.needs_repeats()) {
        return Error{ErrorCode::bad_argument,
                     "press '" + press.name() + "' repeats its context's text, and a benchmark has none"};
      }
      Contestant c;
      c.engine = make_curdkv(*executor_, press);
      if (all_.empty()) CURDKV_CHECK(warm_up(*c.engine));
      c.rss_loaded = all_.empty() ? resident_bytes() : all_[0].rss_loaded;
      all_.push_back(std::move(c));
    }
    if (o_.against_llama_cpp) {
      const auto before = resident_bytes();
      Contestant c;
      CURDKV_TRY(c.engine, make_llama_cpp(model_, params));
      CURDKV_CHECK(warm_up(*c.engine));
      c.rss_loaded = difference(resident_bytes(), before);
      all_.push_back(std::move(c));
    }
    const double weights = cost_.decode_bytes(0, 0);
    machine_.emplace(o_.executor.n_threads, static_cast<size_t>(weights));
    return {};
  }

  // A few tokens, for whatever is only done once, such as bringing the weights in.
  Result<void> warm_up(Engine& engine) const {
    const auto n = std::min<size_t>(tokens_.size(), 64);
    CURDKV_TRY([[maybe_unused]] const ReadTimes times, engine.read(std::span(tokens_).first(n)));
    engine.clear();
    return {};
  }

  Result<void> run_depth(int64_t depth) {
    const std::span<const Token> context = std::span(tokens_).first(static_cast<size_t>(depth));
    for (Contestant& c : all_) {
      c.engine->clear();
      c.rss_context = 0;
    }
    if (wants_reading() && n_read(depth) > 0) {
      CURDKV_CHECK(read(std::span(tokens_).first(static_cast<size_t>(n_read(depth))), depth));
    } else if (depth > 0) {
      doing("reading " + std::to_string(depth) + " tokens");
      std::vector<Engine*> engines;
      for (Contestant& c : all_) engines.push_back(c.engine.get());
      CURDKV_CHECK(read_untimed(*executor_, engines, context));
      for (Contestant& c : all_) c.rss_context = std::nullopt;  // shares of one reading are not told apart
    }
    if (depth == 0) {  // a context of one token, as there must be something to see
      for (Contestant& c : all_) {
        c.engine->clear();
        CURDKV_CHECK(c.engine->append(std::span(tokens_).first(1)));
      }
    }
    for (Contestant& c : all_) {
      c.engine->rest();
      c.engine->remember();
      c.kv_bytes = c.engine->kv_bytes();  // before it grows for more tokens
    }
    const size_t n_before = static_cast<size_t>(std::max<int64_t>(depth, 1));
    if (wants_extend(depth)) {
      CURDKV_CHECK(continue_with(Test::extend, depth,
                                 std::span(tokens_).subspan(n_before, static_cast<size_t>(o_.n_prompt))));
    }
    if (wants_decode()) {
      CURDKV_CHECK(continue_with(Test::decode, depth,
                                 std::span(tokens_).subspan(n_before, static_cast<size_t>(o_.n_gen))));
    }
    return {};
  }

  // Every engine reads the tokens, n_repeat times; the last time they stay.
  Result<void> read(std::span<const Token> tokens, int64_t depth) {
    doing("prefill of " + std::to_string(tokens.size()) + " tokens");
    start_over();
    const auto once = [&](Contestant& c, int) -> Result<void> {
      c.engine->clear();
      const auto before = resident_bytes();
      const bool counted = reset_peak();
      CURDKV_TRY(const ReadTimes times, c.engine->read(tokens));
      if (counted) c.rss_peak = sum(c.rss_loaded, difference(peak_resident_bytes(), before));
      c.rss_context = difference(resident_bytes(), before);
      const auto n = static_cast<double>(tokens.size());
      c.kv_bytes = c.engine->kv_bytes();
      c.ts.push_back(1e3 * n / times.ms);
      if (times.compress_ms > 0) c.compress_ts.push_back(1e3 * n / times.compress_ms);
      return {};
    };
    CURDKV_CHECK(rounds(once));
    const auto n = static_cast<int64_t>(tokens.size());
    for (const Contestant& c : all_) {
      if (wants(Test::prefill)) {
        Row row = start_row(c, Test::prefill, depth, n, c.ts);
        row.gflops = cost_.operations(n, 0) / static_cast<double>(n) * row.median_ts() / 1e9;
        row.limit = median(gflops_);
        row.rss_peak_bytes = c.rss_peak;
        add_ratios(row);
        CURDKV_CHECK(sink_(row));
      }
      if (wants(Test::compress) && !c.engine->press().is_none()) {
        CURDKV_CHECK(sink_(start_row(c, Test::compress, depth, n, c.compress_ts)));
      }
    }
    return {};
  }

  // Every engine takes the tokens behind its context: at once, or one by one.
  Result<void> continue_with(Test test, int64_t depth, std::span<const Token> tokens) {
    const bool decoding = test == Test::decode;
    doing(std::string(to_string(test)) + " at " + std::to_string(depth) + " tokens");
    start_over();
    const auto once = [&](Contestant& c, int repeat) -> Result<void> {
      CURDKV_CHECK(c.engine->rewind());
      if (repeat == 0) {
        CURDKV_CHECK(c.engine->append(tokens.first(1)));
        CURDKV_CHECK(c.engine->rewind());
      }
      const auto before = resident_bytes();
      const bool counted = reset_peak();
      const Stopwatch watch;
      for (size_t i = 0; i < tokens.size(); i += decoding ? 1 : tokens.size()) {
        CURDKV_CHECK(c.engine->append(decoding ? tokens.subspan(i, 1) : tokens));
      }
      c.ts.push_back(1e3 * static_cast<double>(tokens.size()) / watch.ms());
      if (counted)
        c.rss_peak = sum(sum(c.rss_loaded, c.rss_context), difference(peak_resident_bytes(), before));
      return {};
    };
    CURDKV_CHECK(rounds(once));
    const auto n = static_cast<int64_t>(tokens.size());
    for (Contestant& c : all_) {
      CURDKV_CHECK(c.engine->rewind());
      Row row = start_row(c, test, depth, n, c.ts);
      const int64_t n_rows = c.engine->n_rows();
      if (decoding) {
        // Rows of ours may be packed; a peer's are fewer than it has room for.
        const double held = c.engine->sequence() != nullptr ? static_cast<double>(c.kv_bytes)
                                                            : static_cast<double>(n_rows) * row_bytes();
        const double bytes = held + cost_.decode_bytes(n / 2 * cost_.n_heads_kv(), row_bytes());
        row.gbytes_per_s = bytes * row.median_ts() / 1e9;
        row.limit = median(gb_);
      } else {
        row.gflops = cost_.operations(n, n_rows) / static_cast<double>(n) * row.median_ts() / 1e9;
        row.limit = median(gflops_);
      }
      row.rss_peak_bytes = c.rss_peak;
      add_ratios(row);
      CURDKV_CHECK(sink_(row));
    }
    return {};
  }

  template <typename F>
  Result<void> rounds(const F& once) {
    for (int repeat = 0; repeat < o_.n_repeat; ++repeat) {
      gb_.push_back(machine_->read_gb_s());
      gflops_.push_back(machine_->products_gops(cost_, o_.executor.prefill_kernel));
      for (size_t i = 0; i < all_.size(); ++i) {
        Contestant& c = all_[repeat % 2 == 0 ? i : all_.size() - 1 - i];
        CURDKV_CHECK(once(c, repeat));
        c.engine->rest();
      }
      ++n_done_;
      progress();
    }
    return {};
  }

  void start_over() {
    for (Contestant& c : all_) {
      c.ts.clear();
      c.compress_ts.clear();
      c.rss_peak = std::nullopt;
    }
    gb_.clear();
    gflops_.clear();
  }

  Row start_row(const Contestant& c, Test test, int64_t depth, int64_t n_tokens,
                const std::vector<double>& ts) const {
    Row row;
    row.engine = c.engine->name();
    row.press = c.engine->press().spec();
    row.test = test;
    row.compression_ratio = c.engine->press().removed(std::max<int64_t>(n_read(depth), 1));
    row.depth = depth;
    row.n_tokens = n_tokens;
    row.ts = ts;
    row.kv_bytes = c.kv_bytes;
    return row;
  }

  void add_ratios(Row& row) const {
    if (!o_.against_llama_cpp) return;
    const std::vector<double>& theirs = all_.back().ts;
    for (size_t i = 0; i < row.ts.size(); ++i) row.ratios.push_back(row.ts[i] / theirs[i]);
  }

  double row_bytes() const {
    const auto of = [](CacheType type, int64_t d) {
      return static_cast<double>(ggml_row_size(to_ggml(type), d));
    };
    return of(o_.executor.type_k, model_.info().d_head_k) + of(o_.executor.type_v, model_.info().d_head_v);
  }

  void doing(const std::string& what) {
    doing_ = what;
    progress();
  }
  void progress() {
    if (o_.progress) o_.progress(doing_, n_done_, n_total_);
  }

  const Model& model_;
  const BenchOptions& o_;
  const std::function<Result<void>(const Row&)>& sink_;
  Cost cost_;
  std::optional<Executor> executor_;
  std::optional<Machine> machine_;
  std::vector<Contestant> all_;  // llama.cpp the last, if at all
  std::vector<Token> tokens_;
  std::string doing_;
  std::vector<double> gb_, gflops_;  // the machine's, of the test in hand
  int64_t n_done_ = 0, n_total_ = 0;
};

}  // namespace

const char* to_string(Test test) {
  return kTests[static_cast<size_t>(test)].second;
}

std::optional<Test> test_named(const std::string& name) {
  for (const auto& [test, text] : kTests) {
    if (name == text) return test;
  }
  return std::nullopt;
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.size() % 2 ? v[v.size() / 2] : (v[v.size() / 2 - 1] + v[v.size() / 2]) / 2;
}

double Row::avg_ts() const {
  return std::accumulate(ts.begin(), ts.end(), 0.0) / static_cast<double>(ts.size());
}
double Row::median_ts() const {
  return median(ts);
}
double Row::stddev_ts() const {
  if (ts.size() < 2) return 0;
  double squares = 0;
  for (double x : ts) squares += (x - avg_ts()) * (x - avg_ts());
  return std::sqrt(squares / static_cast<double>(ts.size() - 1));
}

Result<void> run(const Model& model, const BenchOptions& options,
                 const std::function<Result<void>(const Row&)>& sink) {
  return Bench(model, options, sink).run();
}

}  // namespace curdkv::measure
