#pragma once
#include <memory>
#include <string>
#include <vector>

#include <Halide.h>

#include "dsl/workload.hpp"
#include "perf/apps/app.hpp"
#include "targets/target.hpp"

namespace heddle::perf {

/// The buffers that one kernel runs on.
class KernelBuffers {
 public:
  virtual ~KernelBuffers() = default;
  virtual void fill() = 0;  ///< inputs as the subject says, outputs forgotten
  /// For a kernel's entry; `context` is what its user_context points to.
  virtual void** arguments(void* context) = 0;
  virtual std::string difference() = 0;  ///< after a run: what is wrong; empty if nothing
};

/// A pipeline that nobody has scheduled yet, with estimates of its sizes: what Halide's autoschedulers take.
struct BarePipeline {
  std::vector<Halide::Func> outputs;
  std::vector<Halide::Argument> arguments;
};

/// What several schedules are compared on.
class Subject {
 public:
  virtual ~Subject() = default;
  virtual std::string name() const = 0;
  virtual BarePipeline bare() const = 0;
  virtual double flops() const { return 0; }  ///< of one run; 0: not known

  /// Compile the schedule by hand, or the one that a file's text holds, into the shared object that `module` will hold,
  /// and return its symbol.
  virtual std::string build_hand(int module) const = 0;
  virtual std::string build_found(const std::string& schedule, int module) const = 0;

  /// The text of the schedule by hand where it has one, and where it comes from.
  virtual std::string hand_schedule() const { return ""; }
  virtual std::string hand_source() const = 0;

  /// Buffers with the operands packed as that schedule says; an empty one packs nothing.
  virtual std::shared_ptr<KernelBuffers> buffers(const std::string& schedule) const = 0;
};

/// A workload of the catalog, checked against the operators' double references.
std::unique_ptr<Subject> workload_subject(Workload workload, const Target& target);
/// An app, checked against its plain form, which is compiled with all of Halide's checks.
/// `as_workload`: schedules from files are to be compared too, which need the app as heddle tune sees it.
std::unique_ptr<Subject> app_subject(const App& app, int width, int height, const Target& target, int threads,
                                     bool as_workload);

/// Compiles a pipeline that has its schedule as the runtime's kernels are compiled; writes the shared object.
void build_pipeline(const BarePipeline& pipeline, const std::string& symbol, const Target& target, bool asserts,
                    int module);

}  // namespace heddle::perf
