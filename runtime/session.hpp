#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/array.hpp"
#include "runtime/executor.hpp"
#include "runtime/gpu/replay.hpp"
#include "runtime/model.hpp"
#include "runtime/pool.hpp"

namespace heddle::runtime {

struct SessionOptions {
  int threads = 0;       ///< that work on one run; 0: one a physical core of the process's affinity mask
  int spin_us = -1;      ///< how long idle workers spin before they sleep; -1: HEDDLE_SPIN_US or 200
  bool pin = false;      ///< the thread that calls run() stays on its processor while it runs
  bool flush = true;     ///< subnormal numbers count as zero during a run
  bool poison = false;   ///< intermediates and outputs start as NaNs: what a kernel forgot to write shows
  bool profile = false;  ///< measure every step
  /// Memory for intermediates that sessions share which never run at the same time; none: of the session's own.
  std::shared_ptr<Pages> arena = {};
};

/// A tensor of the caller: dense, row-major.
struct HostTensor {
  DType dtype = DType::f32;
  Shape shape;
  void* data = nullptr;
};

/// One client of a model: its inputs, outputs, intermediates and the plans of the shapes seen last, on a device each
/// with its recording. Each function may be called from any thread; they exclude one another. Models are shared by any
/// number of sessions.
class Session {
 public:
  /// Shapes whose plan is kept.
  static constexpr std::size_t most_plans = 8;

  explicit Session(std::shared_ptr<const Model> model, const SessionOptions& options = {});
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const Model& model() const { return *model_; }

  /// The memory is read in place by every run until the input is set again, if it is aligned to 64 bytes; other memory
  /// is copied by every run. Throws Error{invalid_argument} for a wrong dtype or rank; shapes are checked by run().
  void set_input(std::size_t index, const HostTensor& tensor);

  /// Where an output is to be written, in place if aligned to 64 bytes; data == nullptr: in memory of the session,
  /// which is the default. The shape is checked by run(), before anything is written.
  void set_output(std::size_t index, const HostTensor& tensor);

  /// Computes the outputs. The first run with other input shapes makes their plan: Error{invalid_argument} for shapes
  /// that do not fit, Error{unsupported} for what the device cannot do, Error{out_of_memory}. Error{device}: the device
  /// failed; inputs, and what earlier runs have written, are as they were.
  void run();

  /// After a run: valid until the next one, or until set_output.
  HostTensor output(std::size_t index) const;

  /// Of the latest run, one a step of main; empty if the session does not profile.
  std::vector<StepTime> profile() const;

  // For tests and tools: steps in isolation. Steps and values are indices into model().main().

  /// Makes the plan for these values current. Inputs are memory of the session until they are set again.
  void prepare(const SymbolValues& symbols);

  /// Executes one step on what its values hold now. Needs prepare() or run() before, and no run since of another
  /// session that shares its arena.
  void run_step(std::size_t step);

  /// The logical tensor that a value holds.
  Array read(std::size_t value) const;

  /// Writes a value with its layout, the border filled with the border's value. Throws Error{invalid_argument} for a
  /// wrong dtype or shape, and for constants, which are read-only.
  void write(std::size_t value, const Array& array);

  SymbolValues symbols() const;  ///< of the current plan
  std::int64_t flops(std::size_t step) const;
  std::int64_t bytes(std::size_t step) const;
  std::uint64_t arena_bytes() const;  ///< of the current plan

 private:
  struct Plan {
    SymbolValues symbols;
    std::unique_ptr<BoundFunction> main;
    std::unique_ptr<gpu::Replay> replay;  ///< on a device; after main, which it refers to
    std::vector<std::byte*> resolved;     ///< addresses that its arguments hold: arena, inputs, outputs
  };

  const plan::Value& input_value(std::size_t index) const;
  const plan::Value& output_value(std::size_t index) const;
  void select_plan(const SymbolValues& symbols);
  std::unique_ptr<gpu::Replay> record(const BoundFunction& main);
  void poison();
  /// Whether kernels take a value's memory as an argument: it has to be aligned then.
  bool works_on(int value) const;
  void place_outputs();
  void resolve();
  Plan& current() const;

  std::shared_ptr<const Model> model_;
  SessionOptions options_;
  Pool& pool_;
  mutable std::mutex mutex_;
  KernelCall call_;
  Scratch scratch_;
  std::shared_ptr<Pages> arena_;

  struct Input {
    std::optional<HostTensor> tensor;
    Pages copy;
    std::byte* address = nullptr;  ///< that kernels read
  };
  struct Output {
    std::optional<HostTensor> given;
    Pages own;
    std::byte* address = nullptr;  ///< that kernels write
    Shape shape;
  };
  std::vector<Input> inputs_;
  std::vector<Output> outputs_;
  std::optional<gpu::Workspace> workspace_;   ///< of a model on a device
  std::vector<std::unique_ptr<Plan>> plans_;  ///< the latest first
  std::vector<std::byte*> addresses_;         ///< that the current plan is to have
  std::vector<StepTime> times_;
  bool shapes_known_ = false;  ///< the first plan is the one of the inputs' shapes
  bool ran_ = false;
};

}  // namespace heddle::runtime
