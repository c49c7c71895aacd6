#include "schedules/families.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/file.hpp"
#include "schedules/records.hpp"
#include "schedules/support.hpp"

namespace heddle {

namespace schedules {
namespace {

const auto& all_families() {
  static const std::array all = {
      conv_winograd(), conv_matrix_tiles(), conv_dot(),
      conv_direct(),   conv_depthwise(),    conv_expanded(),
      conv_grouped(),  conv_transpose(),    matmul_matrix_tiles(),
      matmul_dot(),    matmul_packed(),     matmul_plain(),
      matmul_panels(), matmul_words(),      attention_fused(),
      rows(),          window_channels(),   elementwise(),
      any(),           gpu_matmul(),        gpu_conv(),
      gpu_depthwise(), gpu_rows(),          gpu_window(),
      gpu_transpose(), gpu_elementwise(),   gpu_any(),
  };
  return all;
}

}  // namespace
}  // namespace schedules

std::span<const Family> families() { return schedules::all_families(); }

bool matches(const Family& family, const Workload& workload, const Machine& machine) {
  return family.gpu == machine.gpu.has_value() && family.matches(workload, machine);
}

bool worth_sharing(const Workload& workload, const Machine& machine) {
  // Granite Rapids, PP-OCR's classifier on two threads: kernels with fewer of these cycles, up to some 12 us, take 1.2
  // to 3 times as long as on one, those with more 0.6 to 0.8 times.
  constexpr double least_cycles = 25000;
  const double flops_a_cycle = 4.0 * machine.lanes(4), bytes_a_cycle = 16;
  const auto count = [&](const Extent& extent) { return static_cast<double>(schedules::typical(extent, workload)); };
  return std::max(count(workload.flops()) / flops_a_cycle, count(workload.bytes()) / bytes_a_cycle) >= least_cycles;
}

Choice choose(const Workload& workload, const Machine& machine, const std::optional<std::filesystem::path>& file,
              const RecordStore* records) {
  return choose(workload, machine, file, records, records != nullptr ? machine_name() : "");
}

Choice choose(const Workload& workload, const Machine& machine, const std::optional<std::filesystem::path>& file,
              const RecordStore* records, const std::string& this_machine) {
  if (file) return {Implementation::parse(read_file(*file), file->string()), "file " + file->string(), {}};
  if (records != nullptr)
    if (auto found = choose_record(*records, workload, machine, this_machine)) return std::move(found->choice);
  for (const Family& family : families()) {
    if (!matches(family, workload, machine)) continue;
    const Json knobs = family.rule(workload, machine);
    std::vector<std::string> values;
    for (const auto& [name, value] : knobs.items()) values.push_back(fmt::format("{}={}", name, value.dump()));
    return {
        family.make(workload, machine, knobs),
        fmt::format("family {}{}", family.name, values.empty() ? "" : fmt::format(" ({})", fmt::join(values, ", "))),
        family.requirements(workload, machine, knobs)};
  }
  throw Error(ErrorCode::internal, fmt::format("no schedule family takes workload {}", workload.name()));
}

}  // namespace heddle
