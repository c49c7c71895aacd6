#pragma once
#include <HalideRuntime.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dsl/check.hpp"
#include "runtime/memory.hpp"
#include "runtime/tensor_view.hpp"

namespace heddle::autoscheduler {

/// The memory of one kernel's buffers, as the runtime would place it: one arena on huge pages, buffers at multiples of
/// `alignment` bytes, layouts and borders as the workload says and constants packed. Between the buffers lie guards of
/// NaNs, so that what a kernel reads or writes outside of them shows.
///
/// Kernels that are compared have their data and outputs in the same memory. Which pages those are changes the time of
/// what fills most of a second cache by a third, and is chance.
class KernelMemory {
 public:
  /// `beside`: of the same workload, symbols and alignment, whose memory this one shares except for constants. Filled
  /// with the same inputs, both may run in turns; outputs() and damage() are of what was filled and run last.
  /// `alignment`: 64 for processors, a device's own for devices.
  KernelMemory(const Workload& workload, const std::vector<Packing>& packings, const SymbolValues& symbols,
               const KernelMemory* beside = nullptr, std::size_t alignment = 64);
  KernelMemory(const KernelMemory&) = delete;  // the argument list points into it
  KernelMemory& operator=(const KernelMemory&) = delete;

  /// Lays the inputs out and poisons everything else.
  void fill(const std::vector<Array>& inputs);

  /// The outputs after a run; `damage` says which memory changed that must not.
  std::vector<Array> outputs();
  std::string damage();  ///< empty if nothing. Call outputs() before: it forgets them

  /// For a kernel's entry; `context` is what its user_context points to.
  void** arguments(void* context);

  /// All of it, as it has to be on a device too, where it is shared with none.
  std::span<std::byte> arena() const { return {data_.start, data_.bytes + constants_.bytes}; }
  /// From here on the arguments lie in a device's memory with this number, laid out as the arena is.
  void place_on_device(std::uint32_t memory);

 private:
  struct Region {
    std::string role;
    BufferView view;
    TensorType type;
    Shape shape;
    std::size_t begin = 0, bytes = 0;
    bool output = false;
    bool constant = false;
    const Packing* packing = nullptr;
    const OperandInfo* info = nullptr;
  };
  /// Buffers side by side, guards around them.
  struct Zone {
    std::byte* start = nullptr;
    std::size_t bytes = 0;
    std::vector<std::byte> image = {};  ///< as it must be after a run, outputs forgotten
  };
  void add(Region region);
  const Zone& zone(const Region& region) const { return region.constant ? constants_ : data_; }
  std::byte* start(const Region& region) const { return zone(region).start + region.begin; }
  std::string damage(const Zone& zone) const;
  runtime::TensorView logical(const Region& region) const;

  std::size_t aligned(std::size_t bytes) const { return (bytes + alignment_ - 1) / alignment_ * alignment_; }

  SymbolValues symbols_;
  std::size_t alignment_;
  std::size_t guard_;  ///< bytes between two buffers
  std::vector<Packing> packings_;
  std::vector<OperandInfo> infos_;
  std::vector<Region> regions_;
  std::shared_ptr<const runtime::Pages> arena_;
  runtime::Pages own_;     ///< the constants' beside another's data
  Zone data_, constants_;  ///< apart, since each kernel packs constants its own way

  void* context_ = nullptr;
  std::deque<int> scalars_;
  std::deque<std::vector<halide_dimension_t>> dimensions_;
  std::deque<halide_buffer_t> buffers_;
  std::vector<void*> arguments_;
};

}  // namespace heddle::autoscheduler
