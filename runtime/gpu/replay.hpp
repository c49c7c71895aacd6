#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/executor.hpp"
#include "runtime/gpu/device_module.hpp"
#include "runtime/gpu/segments.hpp"
#include "runtime/gpu/workspace.hpp"

namespace heddle::runtime::gpu {

/// Main, bound to shapes, recorded for a device: its values' places there and the programs that its steps became. The
/// steps of the host run between them.
class Replay {
 public:
  /// Runs the host code of all kernels on the device. `main` and `module` must outlive it. `profile`: launches are
  /// timed. Throws Error{unsupported} if
  /// the device cannot do it, naming the step, Error{out_of_memory}, and what kernels throw.
  Replay(const DeviceModule& module, const BoundFunction& main, Workspace& workspace, KernelCall& call, bool profile);
  ~Replay();
  Replay(const Replay&) = delete;
  Replay& operator=(const Replay&) = delete;

  /// Where main's arena on the host has to be: on a device that shares the host's memory, the device's; elsewhere
  /// nullptr, and the caller provides one.
  std::byte* arena() const { return arena_; }
  /// Whether steps of the host work on a value's memory, instead of only copying it to or from the device.
  bool host_uses(std::size_t value) const { return host_uses_[main_.allocation(value).value]; }
  bool host_kernels() const { return host_kernels_; }  ///< whether there are any steps of the host at all
  std::uint64_t scratch_bytes() const { return scratch_bytes_; }

  /// Runs main on what its inputs on the host hold; main's addresses are resolved. Allocates nothing. Throws
  /// Error{device} if the device failed. `times`: as of BoundFunction::run.
  void run(KernelCall& call, std::span<StepTime> times);

  /// Fills all that is no input or constant with NaNs.
  void poison();

  // One step or value at a time.

  void run_step(std::size_t step, KernelCall& call);
  /// Whether what was last written to a value's memory is on the device only.
  bool only_on_device(std::size_t value) const { return device_has_[main_.allocation(value).value]; }
  /// The bytes of the memory that a value lies in, from the side that has them.
  std::vector<std::byte> read(std::size_t value) const;
  /// Puts bytes into all of that memory, on both sides.
  void write(std::size_t value, std::span<const std::byte> bytes);

 private:
  /// A copy between a value's memory on the host and where the device gets it from or puts it.
  struct Transfer {
    std::size_t value = 0;
    std::byte* other = nullptr;  ///< in staging memory, or the value's on the device where the host sees that
    std::uint64_t bytes = 0;
  };
  struct Part {
    Segment segment;
    std::vector<std::size_t> launches;  ///< of each step: how many are before it; and all, at the end
    std::vector<Transfer> in, out;
    std::unique_ptr<Program> program;  ///< nullptr: the device has nothing to do
    bool submitted = false;            ///< at least once
  };

  void mark_values();
  void place(std::uint64_t scratch_bytes, Workspace& workspace);
  void connect(Part& part, std::span<const Launch> launches);
  std::string describe_submission(const Part& part) const;
  void run_part(Part& part, std::span<StepTime> times, std::int64_t begin_ns);
  void run_host(std::size_t step, KernelCall& call, std::span<StepTime> times, std::int64_t begin_ns);
  Program& step_program(std::size_t step, KernelCall& call);
  void set_times(const Part& part, std::int64_t start_ns, std::span<StepTime> times) const;
  Recorder::Place place_of(std::size_t value) const;
  bool has_place(std::size_t value) const { return place_of(value).memory != nullptr; }

  const DeviceModule& module_;
  const BoundFunction& main_;
  const bool profile_;
  std::vector<std::uint64_t> memory_bytes_;  ///< of the recording's memories, by number; 0: not used
  std::vector<Recorder::Place> places_;      ///< of the same
  std::vector<std::shared_ptr<Memory>> memories_;
  std::shared_ptr<Memory> staging_;
  bool shared_ = false;  ///< the host works in the device's memory
  std::byte* arena_ = nullptr;
  std::uint64_t scratch_bytes_ = 0;
  bool host_kernels_ = false;
  int process_ = 0;
  // By value that has memory of its own.
  std::vector<bool> host_uses_;
  std::vector<bool> device_has_;  ///< the latest is on the device only
  std::vector<bool> device_has_after_run_;
  std::vector<Part> parts_;  ///< after the memories: destroyed before them
  std::map<std::size_t, std::unique_ptr<Program>> step_programs_;
};

}  // namespace heddle::runtime::gpu
