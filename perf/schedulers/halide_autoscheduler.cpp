#include "perf/schedulers/halide_autoscheduler.hpp"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"
#include "dsl/halide_error.hpp"

namespace heddle::perf {

const std::vector<std::string>& halide_autoschedulers() {
  static const std::vector<std::string> names = {"Mullapudi2016", "Adams2019", "Li2018", "Anderson2021"};
  return names;
}

std::map<std::string, std::string> autoscheduler_parameters(const std::string& name, const Machine& machine,
                                                            int threads) {
  std::map<std::string, std::string> parameters = {{"parallelism", std::to_string(threads)}};
  if (name == "Mullapudi2016") {
    parameters["last_level_cache_size"] = std::to_string(std::max(machine.l3_bytes, machine.l2_bytes));
    parameters["balance"] = "40";  // its own default: the cost of a load from that cache in operations
  }
  return parameters;
}

std::string schedule_automatically(const BarePipeline& bare, const std::string& name, const Target& target,
                                   int threads) {
  const auto& known = halide_autoschedulers();
  if (std::find(known.begin(), known.end(), name) == known.end())
    throw Error(ErrorCode::not_found,
                fmt::format("Halide has no autoscheduler '{}'; it has {}", name, fmt::join(known, ", ")));
  if (name == "Anderson2021")
    throw Error(ErrorCode::unsupported,
                "Anderson2021 schedules for GPUs alone, with CUDA as the only one that it knows");
  std::string file = name;
  std::transform(file.begin(), file.end(), file.begin(), [](unsigned char c) { return std::tolower(c); });
  return translate_halide_errors(name, [&] {
    Halide::load_plugin(fmt::format("{}/libautoschedule_{}.so", HEDDLE_HALIDE_LIBRARIES, file));
    Halide::AutoschedulerParams parameters(name, autoscheduler_parameters(name, target.machine, threads));
    return Halide::Pipeline(bare.outputs).apply_autoscheduler(target.halide, parameters).schedule_source;
  });
}

}  // namespace heddle::perf
