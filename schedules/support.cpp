#include "schedules/support.hpp"

#include <fmt/format.h>

namespace heddle::schedules {

std::vector<Loop> loops_by_memory(const Workload& workload) {
  const TensorType out = workload.output_types()[0];
  std::vector<Loop> loops, single;
  const auto order = out.order();
  for (auto d = order.rbegin(); d != order.rend(); ++d) {
    const auto i = static_cast<std::size_t>(*d);
    (out.shape[i] == Extent(1) ? single : loops).push_back({workload.dimensions()[i], out.shape[i]});
  }
  loops.insert(loops.end(), single.begin(), single.end());
  return loops;
}

std::vector<std::string> stage_roles(const Workload& workload, const std::string& variant) {
  std::vector<std::string> roles;
  for (const auto& stage : workload.instantiate(variant).stages) roles.push_back(stage.role);
  return roles;
}

bool has_loop(const PipelineStage& stage, std::string_view name) {
  return std::ranges::any_of(stage.func.args(), [&](const Halide::Var& v) { return v.name() == name; });
}

bool has_role(const std::vector<std::string>& roles, std::string_view role) {
  return std::find(roles.begin(), roles.end(), role) != roles.end();
}

Extent extent_of(const Workload& workload, std::string_view loop) {
  const auto& names = workload.dimensions();
  const auto at = std::find(names.begin(), names.end(), loop);
  if (at == names.end())
    throw Error(ErrorCode::internal, fmt::format("workload {} has no loop '{}'", workload.name(), loop));
  return workload.output_types()[0].shape[static_cast<std::size_t>(at - names.begin())];
}

std::int64_t typical(const Extent& extent, const Workload& workload) {
  const Range range = extent.bounds(workload.composition().symbols);
  return range.min == range.max ? range.min : std::max<std::int64_t>(1, (range.min + range.max) / 2);
}

bool is_constant(const Workload& w, std::size_t operand) {
  const auto& operands = w.anchor().operands;
  const auto& inputs = w.composition().inputs;
  if (operand >= operands.size() || operands[operand] >= static_cast<int>(inputs.size())) return false;
  return inputs[static_cast<std::size_t>(operands[operand])].constant;
}

bool reads_memory(const Workload& w) {
  return w.anchor().operands.at(0) < static_cast<int>(w.composition().inputs.size());
}

bool sums_in_f32(DType type) { return is_float(type) && type != DType::f64; }

std::string expression(const Extent& extent) {
  struct Printer {
    std::string constant(std::int64_t v) const { return std::to_string(v); }
    std::string symbol(const std::string& name) const { return name; }
    std::string binary(char op, const std::string& a, const std::string& b) const {
      if (op == 'm') return fmt::format("min({}, {})", a, b);
      if (op == 'M') return fmt::format("max({}, {})", a, b);
      return fmt::format("({} {} {})", a, op, b);
    }
  };
  return extent.visit(Printer{});
}

Tail guarded_tail(const Extent& extent, std::int64_t tile) {
  return mod(extent, tile) == Extent(0) ? Tail::RoundUp : Tail::GuardWithIf;
}

Tail shifted_tail(const Extent& extent, std::int64_t tile) {
  return mod(extent, tile) == Extent(0) ? Tail::RoundUp : Tail::ShiftInwards;
}

std::int64_t filled_lanes(std::int64_t elements, const Machine& machine) {
  const auto filled = std::bit_floor(static_cast<std::uint64_t>(std::max<std::int64_t>(1, elements)));
  return std::min<std::int64_t>(machine.lanes(4), static_cast<std::int64_t>(filled));
}

Tiling tile_loop(const Extent& extent, std::int64_t tile, const Workload& workload) {
  if (tile <= 1) return {1, Tail::RoundUp, std::nullopt};
  if (const auto fixed = extent.constant()) {
    if (*fixed % tile == 0) return {tile, Tail::RoundUp, std::nullopt};
    if (*fixed >= tile) return {tile, Tail::ShiftInwards, std::nullopt};
    return {1, Tail::RoundUp, std::nullopt};
  }
  if (mod(extent, tile) == Extent(0)) return {tile, Tail::RoundUp, std::nullopt};
  if (extent.bounds(workload.composition().symbols).min >= tile) return {tile, Tail::ShiftInwards, std::nullopt};
  return {tile, Tail::ShiftInwards, fmt::format("{} >= {}", expression(extent), tile)};
}

double tile_efficiency(std::int64_t extent, std::int64_t tile) {
  const std::int64_t tiles = (extent + tile - 1) / tile;
  return static_cast<double>(extent) / static_cast<double>(tiles * tile);
}

bool fits_registers(std::int64_t vectors, std::int64_t broadcasts, const Machine& machine) {
  return vectors * broadcasts + vectors + 1 <= machine.vector_registers;
}

double register_tile_rate(std::int64_t vectors, std::int64_t broadcasts) {
  const double fmas = static_cast<double>(vectors * broadcasts);
  const double loads = static_cast<double>(vectors + broadcasts);
  return std::min(1.0, fmas / 8.0) * fmas / (fmas + 0.15 * loads);
}

double arriving_rate(std::int64_t broadcasts, std::int64_t bytes, const Machine& machine) {
  // A register tile and its results want some of a cache too.
  if (bytes <= machine.l1_bytes / 2) return 1;
  const double bytes_a_cycle = bytes <= machine.l2_bytes / 2 ? 26 : 16;
  constexpr double fmas_a_cycle = 2;
  return std::min(1.0, static_cast<double>(broadcasts) / fmas_a_cycle * bytes_a_cycle / machine.vector_bytes);
}

bool fits_registers_of_pairs(std::int64_t vectors, std::int64_t broadcasts, const Machine& machine) {
  // A product takes the place of the broadcast operand when it is the last to read it.
  const std::int64_t products = vectors > 1 ? 1 : 0;
  return vectors * broadcasts + vectors + 1 + products <= machine.vector_registers;
}

double pairs_tile_rate(std::int64_t vectors, std::int64_t broadcasts) {
  const double products = static_cast<double>(vectors * broadcasts);
  const double loads = static_cast<double>(vectors + broadcasts);
  // Each product is added by another instruction, which its port then lacks for a product; loads hardly count. Zen 3:
  // 2 x 4, 4 x 2 and 1 x 14 run alike, 3 x 3 a tenth slower.
  const double odd = vectors == 3 ? 0.9 : 1.0;
  return odd * std::min(1.0, products / 8) * products / (products + 0.2 * loads);
}

constexpr std::int64_t tasks_of_thread = 4;

std::int64_t task_count(int threads) { return threads <= 1 ? 1 : tasks_of_thread * threads; }

std::int64_t run_of_task(std::int64_t extent, std::int64_t tasks) {
  const std::int64_t threads = std::max<std::int64_t>(1, tasks / tasks_of_thread);
  const auto longest = [&](std::int64_t run) { return chunk(chunk(extent, run), threads) * run; };
  std::int64_t best = chunk(extent, tasks);
  if (tasks > 1)
    for (std::int64_t run = best - 1; run >= chunk(extent, 2 * tasks); --run)
      if (longest(run) < longest(best)) best = run;
  return best;
}

std::int64_t chunk(std::int64_t extent, std::int64_t pieces) {
  return std::max<std::int64_t>(1, (extent + pieces - 1) / std::max<std::int64_t>(1, pieces));
}

std::int64_t round_up(std::int64_t x, std::int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

}  // namespace heddle::schedules
