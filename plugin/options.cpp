#include "plugin/options.hpp"

#include <charconv>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"

namespace heddle::plugin {
namespace {

template <class T>
T whole_number(const std::string& name, const std::string& text, T least, T most) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < least || value > most)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("autoscheduler.{}={}: expected a whole number from {} to {}", name, text, least, most));
  return value;
}

}  // namespace

Options parse_options(const std::map<std::string, std::string>& given) {
  Options options;
  const std::vector<std::string> names = {"trials", "seed", "records", "threads", "parallelism"};
  for (const auto& [name, value] : given) {
    if (name == "trials") options.trials = whole_number(name, value, 0, 1000000);
    else if (name == "seed") options.seed = whole_number<std::uint64_t>(name, value, 0, UINT64_MAX);
    else if (name == "records") options.records = value;
    // What Halide's own autoschedulers call it.
    else if (name == "threads" || name == "parallelism") options.threads = whole_number(name, value, 1, 4096);
    else
      throw Error(ErrorCode::invalid_argument, fmt::format("there is no parameter autoscheduler.{}{}; there are {}",
                                                           name, did_you_mean(name, names), fmt::join(names, ", ")));
  }
  return options;
}

}  // namespace heddle::plugin
