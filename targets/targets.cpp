#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"
#include "targets/host.hpp"
#include "targets/table.hpp"
#include "targets/target.hpp"

namespace heddle {

namespace targets {

Halide::Target linux_target(Halide::Target::Arch architecture, std::vector<Halide::Target::Feature> features) {
  features.push_back(Halide::Target::NoRuntime);
  features.push_back(Halide::Target::UserContext);
  return Halide::Target(Halide::Target::Linux, architecture, 64, features);
}

}  // namespace targets

std::string lacking_instruction(const BorrowedInstructions& borrowed, std::string_view assembly) {
  constexpr std::string_view blanks = " \t";
  while (!assembly.empty()) {
    const std::size_t end = std::min(assembly.find('\n'), assembly.size());
    std::string_view line = assembly.substr(0, end);
    assembly.remove_prefix(std::min(end + 1, assembly.size()));
    line.remove_prefix(std::min(line.find_first_not_of(blanks), line.size()));
    const std::string_view mnemonic = line.substr(0, line.find_first_of(blanks));
    if (mnemonic.ends_with(':')) continue;  // a label
    if (std::ranges::any_of(borrowed.lacking, [&](const auto& prefix) { return mnemonic.starts_with(prefix); }))
      return std::string(mnemonic);
  }
  return "";
}

std::span<const Target> all_targets() {
  static const std::array table = {
      targets::x86_64(),
      targets::x86_64_avx2(),
      targets::x86_64_avx512(),
      targets::x86_64_avx512_vnni(),
      targets::x86_64_avx512_zen4(),
      targets::x86_64_avx512_sapphirerapids(),
      targets::arm_64(),
      targets::opencl(),
      targets::vulkan(),
  };
  return table;
}

Target host_target() {
  const targets::HostProcessor host = targets::host_processor();
  const Target* best = nullptr;
  for (const Target& target : all_targets()) {
    const bool runs = !target.machine.gpu && target.architecture == host.architecture &&
                      std::ranges::all_of(target.features, [&](const auto& f) { return host.features.contains(f); });
    if (runs && (!best || target.rank > best->rank)) best = &target;
  }
  if (!best)
    throw Error(ErrorCode::unsupported,
                fmt::format("none of Heddle's targets runs on this machine ({} with the features {})",
                            host.architecture, fmt::join(host.features, " ")));
  Target measured = *best;
  targets::measure_caches(measured.machine);
  return measured;
}

Target companion_target(const Target& gpu) {
  for (const Target& target : all_targets())
    if (!target.is_gpu() && target.architecture == gpu.architecture && target.features == gpu.features) return target;
  throw Error(ErrorCode::internal, fmt::format("target '{}' has no processor target beside it", gpu.name));
}

Target find_target(std::string_view name) {
  if (name == "cpu" || name == "host") return host_target();
  std::vector<std::string> names = {"cpu"};
  for (const Target& target : all_targets()) {
    if (target.name == name) return target;
    names.push_back(target.name);
  }
  throw Error(ErrorCode::not_found, fmt::format("there is no target '{}'{}; targets are: {}", name,
                                                did_you_mean(name, names), fmt::join(names, ", ")));
}

}  // namespace heddle
