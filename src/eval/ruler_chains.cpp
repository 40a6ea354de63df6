// vt, variable tracking (variable_tracking.py): one value, and the variables it is handed on to, in lines of
// noise. In front of it stands an example, which is made like it, smaller.
#include <algorithm>
#include <random>

#include "base/try.h"
#include "eval/ruler_tasks.h"

namespace curdkv::eval {
namespace {

constexpr size_t kVariables = 5;  // in a chain, of which the first has the value
constexpr int64_t kExampleTokens = 500;
constexpr const char* kExampleValue = "12345";  // v2 puts another one in its place, sample by sample
constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

// numpy.random.randint(10000, 99999). NumPy seeds its Mersenne Twister as the standard library does.
std::string draw_value(std::mt19937& random) {
  uint_fast32_t above = 0;
  do above = random() & 0x1ffff;
  while (above >= 89999);
  return std::to_string(10000 + above);
}

void replace_all(std::string& text, const std::string& what, const std::string& by) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size())) {
    text.replace(at, what.size(), by);
  }
}

class ChainGenerator : public SizedGenerator {
 public:
  ChainGenerator(const RulerSettings& settings, CountTokens count)
      : SizedGenerator("vt", settings, std::move(count)), random_(settings.seed), values_(settings.seed) {}

  Result<void> find_size() override {
    CURDKV_CHECK(make_example());
    CURDKV_TRY(sizing_.example_tokens, count_(example_));
    sizing_.max_tokens = settings_.max_tokens;
    sizing_.answer_tokens = answer_tokens_;
    sizing_.step = v1() || settings_.max_tokens >= 4096 ? 10 : 5;
    return SizedGenerator::find_size();
  }

 private:
  bool v1() const { return settings_.rules == RulerRules::v1; }
  bool is_example() const { return example_.empty(); }

  Result<void> make_example() {
    sizing_.max_tokens = kExampleTokens;
    sizing_.answer_tokens = v1() ? answer_tokens_ : 0;
    sizing_.step = 5;
    sizing_.least = kVariables;  // v2 puts each in front of a line of its own
    const Result<void> found = SizedGenerator::find_size();
    if (!found && found.error().code == ErrorCode::bad_argument) {
      return Error{ErrorCode::bad_argument, "the example in front of vt has more than the " +
                                                std::to_string(kExampleTokens) +
                                                " tokens that RULER allows, by this model's vocabulary"};
    }
    CURDKV_CHECK(found);
    CURDKV_TRY(const Sample sample, next());
    example_ = prompt_of(sample) + " " + join(sample.references, " ") + (v1() ? "\n\n" : "\n");
    example_answers_ = sample.references;
    n_made_ = size_ = 0;
    return {};
  }

  Sample make(int64_t size, int64_t) override {
    Sample out;
    out.references = draw_names(is_example() ? 3 : 5);
    const std::string value = is_example() && !v1() ? kExampleValue : draw_value(values_);
    std::vector<std::string> chain = {"VAR " + out.references[0] + " = " + value};
    for (size_t i = 1; i < kVariables; ++i) {
      chain.push_back("VAR " + out.references[i] + " = VAR " + out.references[i - 1] + " ");
    }
    // v1 leaves blanks for line breaks in its example's template, and the last word of the question out.
    const bool shortened = is_example() && v1();
    out.context = "Memorize and track the chain(s) of variable assignment hidden in the following text." +
                  std::string(shortened ? " " : "\n\n") + hide(chain, size) + (shortened ? " " : "\n");
    out.question = "Question: Find all variables that are assigned the value " + value + " in the text " +
                   (shortened ? "" : "above. ");
    out.answer_prefix = "Answer: According to the chain(s) of variable assignment in the text above, " +
                        std::to_string(kVariables) + " variables are " + (v1() ? "assgined" : "assigned") +
                        " the value " + value + ", they are: ";
    return out;
  }

  // Another name in place of one that was drawn before; the original has no answer to that.
  std::vector<std::string> draw_names(size_t n_letters) {
    std::vector<std::string> out;
    while (out.size() < kVariables) {
      const std::string name = random_.choices(kLetters, n_letters);
      if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
    }
    return out;
  }

  std::string hide(const std::vector<std::string>& chain, int64_t size) {
    std::vector<std::string> lines(static_cast<size_t>(size), kNoise + std::string(v1() ? "\n" : ""));
    if (v1() && lines.size() <= kVariables) lines = sentences_of(lines);
    std::vector<size_t> before = random_.sample(lines.size(), kVariables);
    std::sort(before.begin(), before.end());
    for (size_t i = 0; i < kVariables; ++i) {
      lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(before[i] + i), chain[i]);
    }
    std::string out = join(lines, v1() ? " " : "\n");
    replace_all(out, ". \n", ".\n");
    return out;
  }

  // Too few lines for the chain are taken apart at each full stop; the line break is a piece of its own.
  static std::vector<std::string> sentences_of(const std::vector<std::string>& lines) {
    std::vector<std::string> out;
    for (const std::string& line : lines) {
      for (size_t at = 0; at < line.size();) {
        const size_t end = std::min(line.find('.', at), line.size() - 1) + 1;
        out.push_back(line.substr(at, end - at));
        at = end;
      }
    }
    return out;
  }

  std::string counted_answers(const Sample& sample) const override { return python_list(sample.references); }

  // v1: the same in front of every sample; v2: with names and a value of its own.
  void add_example(Sample& sample) override {
    if (is_example()) return;
    if (v1()) {
      sample.context = " " + example_ + "\n\n" + sample.context;
      return;
    }
    std::string example = example_;
    for (const std::string& name : example_answers_) {
      replace_all(example, name, random_.choices(kLetters, name.size()));
    }
    replace_all(example, kExampleValue, draw_value(values_));
    sample.context = example + "\n" + sample.context;
  }

  PythonRandom random_;
  std::mt19937 values_;
  std::string example_;  // "" while it is made
  std::vector<std::string> example_answers_;
};

}  // namespace

std::unique_ptr<RulerGenerator> make_chains(const RulerSettings& settings, CountTokens count) {
  return std::make_unique<ChainGenerator>(settings, std::move(count));
}

}  // namespace curdkv::eval
