#include "eval/result_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "base/try.h"
#include "eval/task.h"
#include "io/input_file.h"
#include "io/output_file.h"

namespace curdkv::eval {
namespace {

constexpr std::string_view kLineStart = R"({"task":")";

Result<std::vector<Prediction>> parse(const std::string& path, std::string_view text) {
  CURDKV_TRY(const std::vector<JsonLine> lines, parse_jsonl(path, text));
  std::vector<Prediction> out;
  for (const JsonLine& line : lines) {
    CURDKV_TRY(Prediction p, from_json(line));
    out.push_back(std::move(p));
  }
  return out;
}

Error differs(const std::string& path, const Json& a, const Json& b) {
  std::string what;
  for (const auto& [name, value] : b.items()) {
    if (!a.is_object() || !a.contains(name) || a[name] != value) {
      what += (what.empty() ? "" : ", ") + name + " " +
              (a.is_object() && a.contains(name) ? a[name].dump() : "?") + " instead of " + value.dump();
    }
  }
  return {ErrorCode::bad_input, path + " holds results of another run (" + what + "); name another file"};
}

// Lines are appended, and what a killed run left is cut off: neither is for what is no regular file.
Result<void> check_kind(const std::string& path, const struct stat& status) {
  if (S_ISREG(status.st_mode)) return {};
  const char* what = S_ISDIR(status.st_mode) ? "a folder" : S_ISFIFO(status.st_mode) ? "a pipe" : "a device";
  return Error{ErrorCode::io, "cannot write " + path + ": it is " + what +
                                  ", and results are kept in a file, to which a run can come back"};
}

}  // namespace

Error ResultFile::failed(const char* doing) const {
  return {ErrorCode::io, std::string("cannot ") + doing + " " + path_ + ": " + std::strerror(errno)};
}

Result<void> ResultFile::check(const std::string& path, std::span<const std::string> inputs) {
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) return check_output(path, inputs);
  CURDKV_CHECK(check_kind(path, status));
  return check_is_no_input(path, inputs);
}

Result<ResultFile> ResultFile::open(const std::string& path, const Json& run) {
  // Not blocking: a pipe is looked at, not waited for.
  constexpr int kHow = O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  ResultFile out(path, Descriptor(::open(path.c_str(), kHow, 0666)));
  struct stat status = {};
  if (!out.file_ || fstat(out.file_.get(), &status) != 0) return out.failed("write");
  CURDKV_CHECK(check_kind(path, status));
  if (flock(out.file_.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error{ErrorCode::io, path + " is being written by another process"};
  }
  CURDKV_CHECK(out.load(run));
  return out;
}

Result<void> ResultFile::load(const Json& run) {
  CURDKV_TRY(const std::string text, read_descriptor(file_.get(), path_, kMostDataBytes));
  const size_t end = text.rfind('\n') + 1;  // npos + 1 is 0
  CURDKV_TRY(predictions_, parse(path_, std::string_view(text).substr(0, end)));
  for (const Prediction& p : predictions_) {
    if (p.run != run) return differs(path_, p.run, run);
    done_.insert(key_of(p));
  }
  if (end == text.size()) return {};
  std::string_view torn = std::string_view(text).substr(end);
  torn = torn.substr(0, torn.find_last_not_of('\0') + 1);  // what a crash of the machine may leave
  if (!torn.starts_with(kLineStart.substr(0, torn.size()))) {
    return Error{ErrorCode::corrupt, path_ + " is no file of results; name another"};
  }
  if (ftruncate(file_.get(), static_cast<off_t>(end)) != 0) return failed("write");
  return {};
}

Result<void> ResultFile::append(const Prediction& prediction) {
  const std::string line = to_json(prediction).dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  const off_t before = lseek(file_.get(), 0, SEEK_END);
  size_t n_written = 0;
  while (n_written < line.size()) {
    const ssize_t n = ::write(file_.get(), line.data() + n_written, line.size() - n_written);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const Error error = failed("write");
      [[maybe_unused]] const int cut = ftruncate(file_.get(), before);
      return error;
    }
    n_written += static_cast<size_t>(n);
  }
  if (fdatasync(file_.get()) != 0 && errno != EINVAL && errno != ENOTSUP) return failed("write");
  predictions_.push_back(prediction);
  done_.insert(key_of(prediction));
  return {};
}

Result<std::vector<Prediction>> read_predictions(const std::string& path) {
  CURDKV_TRY(const std::string text, read_text(path));
  CURDKV_TRY(std::vector<Prediction> out, parse(path, text));
  if (out.empty()) return Error{ErrorCode::bad_input, path + " holds no predictions"};
  return out;
}

Result<std::vector<Prediction>> merge_predictions(std::span<const std::string> paths) {
  std::vector<Prediction> all;
  std::map<std::pair<std::string, double>, size_t> press_order;
  std::map<PredictionKey, Prediction> by_key;
  const Json* run = nullptr;
  for (const std::string& path : paths) {
    CURDKV_TRY(std::vector<Prediction> more, read_predictions(path));
    for (Prediction& p : more) {
      press_order.emplace(std::pair(p.press, p.compression_ratio), press_order.size());
      const PredictionKey key = key_of(p);
      const auto [it, added] = by_key.emplace(key, std::move(p));
      if (run == nullptr) run = &it->second.run;
      if (added ? it->second.run != *run : p.run != *run) {
        return differs(path, added ? it->second.run : p.run, *run);
      }
      if (!added && it->second.prediction != p.prediction) {
        return Error{ErrorCode::corrupt, path + " and a file before it answer sample " +
                                             std::to_string(key.sample) + " of " + key.task +
                                             " differently for " + key.press};
      }
    }
  }
  for (auto& [key, p] : by_key) all.push_back(std::move(p));
  const auto place = [&](const Prediction& p) {
    const TaskInfo* task = find_task(p.task);
    return std::tuple(task ? task - list_tasks().data() : 1000, p.task, p.sample,
                      press_order.at({p.press, p.compression_ratio}));
  };
  std::sort(all.begin(), all.end(),
            [&](const Prediction& a, const Prediction& b) { return place(a) < place(b); });
  return all;
}

}  // namespace curdkv::eval
