#pragma once
#include <HalideRuntime.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/gpu/recorder.hpp"
#include "runtime/host/host.hpp"
#include "runtime/kernel_call.hpp"
#include "runtime/memory.hpp"
#include "runtime/model.hpp"
#include "runtime/tensor_view.hpp"

namespace heddle::runtime {

/// Time that one step of `main` took in the latest run.
struct StepTime {
  std::int64_t start_ns = 0;  ///< since the run's begin
  std::int64_t duration_ns = 0;
};

/// A function of the plan for one combination of symbol values: every expression evaluated, the arena laid out, every
/// argument list built. Executing it allocates nothing.
class BoundFunction {
 public:
  /// `arena_offset`: where this function's part of the arena begins. Throws Error{invalid_argument} if a kernel's
  /// precondition does not hold and Error{corrupt} if an argument leaves its value's memory.
  BoundFunction(const Model& model, const plan::Function& function, const SymbolValues& symbols,
                std::uint64_t arena_offset = 0);
  ~BoundFunction();
  BoundFunction(const BoundFunction&) = delete;
  BoundFunction& operator=(const BoundFunction&) = delete;

  const plan::Function& function() const { return function_; }
  std::uint64_t arena_end() const { return arena_end_; }  ///< bytes of the arena up to here, called functions included

  struct Memory {
    std::byte* arena = nullptr;
    std::span<std::byte* const> inputs, outputs;  ///< row-major, parallel to the function's
  };
  /// Puts addresses into all arguments. Needed before the first execution and whenever the memory has moved.
  void resolve(const Memory& memory);

  /// Executes all steps, none of which is on a device. Throws Error with the step's label. `times`: one a step, or
  /// empty.
  void run(KernelCall& call, std::span<StepTime> times) const;
  void run_step(std::size_t step, KernelCall& call) const;
  /// Gives the outputs that no step writes their elements; the last thing that run does.
  void copy_outputs() const;

  // Of main in a module for a device. A recording numbers the memories that it uses: gpu::Recorder::scratch_memory,
  // then these.
  static constexpr std::uint32_t arena_memory = 1;
  std::uint32_t input_memory(std::size_t input) const { return arena_memory + 1 + static_cast<std::uint32_t>(input); }
  std::uint32_t output_memory(std::size_t output) const { return input_memory(function_.inputs.size() + output); }
  /// The first of gpu::DeviceModule::memories().
  std::uint32_t constant_memory() const { return output_memory(function_.outputs.size()); }

  /// Runs the host code of a kernel on the device: what it launches goes to the call's recorder.
  void record(std::size_t step, KernelCall& call) const;

  const TensorView& view(std::size_t value) const { return values_[value].view; }

  /// The memory that a value lies in: its own, or that of the value which it shows.
  struct Allocation {
    std::size_t value = 0;    ///< whose memory it is
    std::uint64_t bytes = 0;  ///< of all of it
    std::byte* host = nullptr;
    std::int64_t first = 0;  ///< bytes from its start to the value's element (0, ..., 0)
    gpu::Address device;     ///< in a module for a device
  };
  Allocation allocation(std::size_t value) const;
  std::int64_t flops(std::size_t step) const;
  std::int64_t bytes(std::size_t step) const;

 private:
  struct Value {
    TensorView view;
    std::size_t root = 0;     ///< the value whose memory it is: itself unless an alias
    std::int64_t first = 0;   ///< bytes from the allocation's start to element (0, ..., 0)
    std::uint64_t bytes = 0;  ///< allocated; of the root
    std::uint64_t arena_offset = 0;
    std::byte* base = nullptr;  ///< the allocation's start
    gpu::Address device;        ///< the same on the device; of the root
  };
  struct Step;

  void bind_values(const SymbolValues& symbols, std::uint64_t arena_offset);
  void place_on_device();
  void bind_kernel(Step& bound, const SymbolValues& symbols);
  void run_kernel(Step& step, KernelCall& call) const;
  void bind_views(Step& bound);
  void bind_functions(Step& bound, const SymbolValues& symbols, std::uint64_t arena_offset);
  std::string step_name(std::size_t step) const;
  void run_loop(const Step& step, KernelCall& call) const;

  const Model& model_;
  const plan::Function& function_;
  std::vector<Value> values_;
  std::vector<std::unique_ptr<Step>> steps_;
  std::uint64_t arena_end_ = 0;
  /// Outputs that no step writes directly: their value is an intermediate, a constant, an input or another output.
  struct OutputCopy {
    std::size_t value, output;
    CopyPlan copy;
  };
  std::vector<OutputCopy> output_copies_;
  std::vector<std::byte*> outputs_;
};

}  // namespace heddle::runtime
