#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "dsl/machine.hpp"
#include "dsl/workload.hpp"

namespace heddle::testing {

/// A buffer in memory as a workload's view says: order, strides and borders, between guards of poison.
class Placed {
 public:
  /// Every byte poison: NaN in each float type, -1 in integers.
  Placed(const BufferView& view, const SymbolValues& symbols);

  void fill(const Array& logical, const TensorType& type);  ///< the elements, and the border with its value
  void fill_packed(const Array& packed);                    ///< as pack() orders them
  Array read(const TensorType& type, const Shape& shape) const;
  /// Whether everything but the elements is still poison: a kernel writes no border and nothing outside.
  bool poisoned_outside(const TensorType& type, const Shape& shape) const;

  Halide::Buffer<> buffer();

 private:
  std::vector<std::int64_t> positions(const TensorType& type, const Shape& shape) const;  ///< of elements, row-major

  DType dtype_;
  Halide::Type halide_type_;
  SymbolValues symbols_;
  std::vector<halide_dimension_t> dimensions_;
  std::int64_t offset_ = 0, elements_ = 0;
  std::vector<std::byte> bytes_;
};

/// A pipeline of a workload, compiled in this process with all of Halide's checks on.
class Kernel {
 public:
  /// Stages that the schedule leaves alone stay as they are in the pipeline.
  Kernel(const Workload& workload, Pipeline pipeline, std::vector<Packing> packings = {});
  Kernel(const Workload& workload, const Implementation& implementation);
  /// On a device, through OpenCL and Halide's own runtime, with the passes of targets/gpu; without one, here.
  Kernel(const Workload& workload, const Implementation& implementation, const std::optional<Gpu>& gpu);
  /// For another target that this process can run, a device's; `prepare` sees the scheduled pipeline before it is
  /// lowered.
  Kernel(const Workload& workload, const Implementation& implementation, const Halide::Target& target,
         const std::function<void(Halide::Pipeline&)>& prepare);

  /// Logical, row-major arrays in and out; packs, places and compares nothing. Throws Error{internal} if the kernel
  /// wrote outside of its outputs, and translates Halide's complaints.
  /// `symbols`: those that no input's shape gives away.
  std::vector<Array> run(const std::vector<Array>& inputs, const SymbolValues& symbols = {}) const;

 private:
  const Workload* workload_;
  std::vector<Packing> packings_;
  Halide::Target target_;
  mutable Pipeline pipeline_;
  mutable Halide::Pipeline compiled_;
};

/// The plainest schedule: every stage before the outputs computed once, the output in order. `vectors` > 1 vectorises
/// the outputs along their first argument, which reaches the code that real schedules run.
void schedule_plainly(Pipeline& pipeline, int vectors = 1);

/// Empty if every output agrees with the oracle; else which does not and where.
std::string compare(const Workload& workload, const std::vector<Array>& inputs, const std::vector<Array>& outputs,
                    const SymbolValues& symbols = {}, std::string_view variant = "direct");

}  // namespace heddle::testing
