#include "autoscheduler/device_cost.hpp"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "autoscheduler/estimate.hpp"

namespace heddle::autoscheduler {
namespace {

// A multiprocessor: four schedulers that each start an instruction of 32 threads a cycle, 128 bytes of shared memory a
// cycle, 65536 registers, 2048 threads, 24 blocks, 100 KiB of shared memory; its share of the second-level cache about
// 24 bytes a cycle; some 700 cycles from a load to its use behind a barrier.
constexpr double clock_hz = 1.5e9, schedulers = 4, latency = 700, cache_bytes_a_cycle = 24;
constexpr double resident_threads = 2048, resident_blocks = 24, register_file = 65536, shared_file = 100e3;
constexpr double launch_cycles = 3e-6 * clock_hz;
/// A load of 16 bytes by 32 threads takes the path to shared memory four times, and that to the first cache twice as
/// long.
constexpr double shared_load_cycles = 4, memory_load_cycles = 8;

/// What a thread may have at all.
constexpr double most_registers = 255;
/// Blocks along the first dimension of a grid: what its number can say.
constexpr double most_blocks = 2147483647.0;

double resident(const DeviceLaunch& l) {
  const double threads = std::max(32.0, l.threads);
  return std::max(1.0, std::floor(std::min({resident_threads / threads, register_file / (l.registers * threads),
                                            l.shared_bytes > 0 ? shared_file / l.shared_bytes : resident_blocks,
                                            resident_blocks})));
}

double cycles(const DeviceLaunch& l, const Gpu& gpu) {
  const double warps = std::ceil(std::max(l.threads, 1.0) / 32);
  const double each = std::ceil(l.blocks / gpu.processors);  // blocks of one multiprocessor
  const double together = std::min(each, resident(l));
  // A result comes after four cycles at least: few warps leave schedulers idle unless a thread's sums are many.
  const double filled = std::min(1.0, warps * together * std::min(4.0, std::max(1.0, l.accumulators / 4)) / 16);
  const double issue = warps * l.instructions / schedulers / filled;
  const double loads = warps * (l.shared_loads * shared_load_cycles + l.memory_loads * memory_load_cycles);
  const double memory = l.bytes / cache_bytes_a_cycle;
  const double busy = std::max({issue, loads, memory}) + 30 * l.waits;
  return launch_cycles + each / together * (std::max(busy * together, l.waits * latency) + latency);
}

}  // namespace

std::string obstacle(const DeviceLaunch& l, const Gpu& gpu) {
  if (l.threads > gpu.block_threads)
    return fmt::format("threads: {:.0f} a block in {}, {} at most", l.threads, l.stage, gpu.block_threads);
  if (l.shared_bytes > gpu.shared_bytes)
    return fmt::format("shared memory: {:.0f} bytes a block in {}, {} at most", l.shared_bytes, l.stage,
                       gpu.shared_bytes);
  const double spills = static_cast<double>(gpu.tile_edge) * gpu.tile_edge;
  if (l.accumulators > spills)
    return fmt::format("registers: {:.0f} sums a thread in {}, and the device's compiler spills beyond {:.0f}",
                       l.accumulators, l.stage, spills);
  if (l.registers > most_registers)
    return fmt::format("registers: {:.0f} a thread in {}, {:.0f} at most", l.registers, l.stage, most_registers);
  if (l.blocks > most_blocks) return fmt::format("blocks: {:.0f} in {}", l.blocks, l.stage);
  return "";
}

double estimate_seconds(const std::vector<DeviceLaunch>& launches, const Gpu& gpu,
                        std::map<std::string, double>& features) {
  double total = 0, longest = 0;
  for (const DeviceLaunch& l : launches) {
    const double own = cycles(l, gpu);
    total += own;
    if (own <= longest) continue;
    // The model sees the launch that most of the time goes to.
    longest = own;
    features["device.blocks"] = log_feature(l.blocks);
    features["device.threads"] = log_feature(l.threads);
    features["device.instructions"] = log_feature(l.instructions * l.threads * l.blocks);
    features["device.loads"] = log_feature((l.shared_loads + l.memory_loads) * l.threads * l.blocks);
    features["device.bytes"] = log_feature(l.bytes * l.blocks);
    features["device.registers"] = l.registers;
    features["device.shared"] = log_feature(l.shared_bytes + 1);
    features["device.resident"] = resident(l);
    features["device.waits"] = log_feature(l.waits);
    features["device.accumulators"] = l.accumulators;
    features["device.rounds"] = log_feature(l.blocks / (gpu.processors * resident(l)));
  }
  features["device.launches"] = static_cast<double>(launches.size());
  const double seconds = total / clock_hz;
  features["estimate"] = log_feature(seconds);
  return seconds;
}

double device_seconds(const Gpu& gpu, double operations, double bytes) {
  const double instructions = operations / 2 / 32 / schedulers / gpu.processors;
  return (launch_cycles + std::max(instructions, bytes / cache_bytes_a_cycle / gpu.processors) + latency) / clock_hz;
}

}  // namespace heddle::autoscheduler
