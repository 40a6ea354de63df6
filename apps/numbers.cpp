#include "numbers.h"

#include <charconv>
#include <cmath>
#include <random>
#include <string>

namespace curdkv::app {
namespace {

template <typename T>
std::errc read(const std::string& text, T& value) {
  const char* begin = text.data() + (text.size() > 1 && text[0] == '+' && text[1] != '-' ? 1 : 0);
  const auto [end, wrong] = std::from_chars(begin, text.data() + text.size(), value);
  if (wrong == std::errc() && end != text.data() + text.size()) return std::errc::invalid_argument;
  return wrong;
}

bool is_negative(const std::string& text) {
  return text.starts_with('-');
}

}  // namespace

CLI::Validator whole_number(int64_t low, int64_t high) {
  return {[low, high](std::string& text) {
            int64_t value = 0;
            const std::errc wrong = read(text, value);
            if (wrong == std::errc::invalid_argument) return "'" + text + "' is not a whole number";
            const bool small = wrong == std::errc() ? value < low : is_negative(text);
            if (small) return text + " is too small: it must be at least " + std::to_string(low);
            if (wrong != std::errc() || value > high) {
              return text + " is too large: it must be at most " + std::to_string(high);
            }
            text = std::to_string(value);
            return std::string();
          },
          ""};
}

CLI::Validator real_number(const std::string& what) {
  return {[what](std::string& text) {
            double value = 0;
            const std::errc wrong = read(text, value);
            if (wrong == std::errc::invalid_argument || !std::isfinite(value)) {
              return "'" + text + "' is not " + what;
            }
            if (wrong != std::errc()) return text + " is out of range";
            if (text.starts_with('+')) text.erase(0, 1);
            return std::string();
          },
          ""};
}

CLI::Validator seed_number() {
  return {[](std::string& text) {
            if (text == "-1") text = std::to_string(std::random_device()());
            uint64_t value = 0;
            const std::errc wrong = read(text, value);
            if (wrong == std::errc::invalid_argument) {
              return "'" + text + "' is not a whole number from 0 on (-1 draws one)";
            }
            if (wrong != std::errc()) return text + " is too large: it must be below 2^64";
            text = std::to_string(value);
            return std::string();
          },
          ""};
}

}  // namespace curdkv::app
