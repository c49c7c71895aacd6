#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.hpp"
#include "graph/compile.hpp"
#include "ops/catalog.hpp"
#include "runtime/session.hpp"
#include "tools/model.hpp"

namespace heddle::tools {

/// A single operator with fixed shapes, as `--shape` describes it.
struct OperatorRequest {
  const Operator* op = nullptr;
  Json attributes;
  std::vector<TensorType> inputs;  ///< logical, row-major
  /// Sums of bytes are made bytes again, as between the layers of a quantised network: each times these factors (f32,
  /// broadcast to the result), rounded and limited to u8. Empty: the operator alone.
  std::optional<Array> requantization = {};
};

/// conv: n, ci, h, w, co, k (or kh, kw), s, p, d, groups, bias, type. matmul: b, m, n, k, type. matmul_blocks: m, n, k,
/// bits, block. Types: f32; bf16, biases in f32; int8, u8 data times i8 weights, requantised. Every operator:
/// ROLE=f32[1,64,56,56] for each operand; `attributes` are NAME=JSON. Throws Error{invalid_argument} naming the key
/// that is wrong or missing.
OperatorRequest parse_shape(const Operator& op, const std::string& shape, const std::vector<std::string>& attributes);

/// Whether a command's argument is an operator rather than a model: it has a shape, or is a file of Halide's.
bool names_operator(const std::string& what, const std::string& shape);

/// `what`: an operator's name, with `shape` and `attributes` as parse_shape takes them; or a file that
/// Halide::serialize_pipeline wrote (*.hlpipe), whose shapes are its estimates and whose scalar parameters the
/// attributes give values.
OperatorRequest operator_request(const Operators& operators, const std::string& what, const std::string& shape,
                                 const std::vector<std::string>& attributes);

/// The kernel that the operator becomes within a model on that target, with the layouts and constants that the passes
/// give it. Throws Error{unsupported} if it becomes none.
Workload operator_workload(const OperatorRequest& request, const Target& target, int threads, bool exact = false,
                           DType precision = DType::f32);

/// The numbers whose products a kernel sums, see Peak::of; f32 where it does something else.
DType multiplied(const Workload& workload);

/// One operator compiled as it would be within a model (same passes, layouts, packing and files) and ready to be timed
/// on its own, the copies around it left out.
class OperatorBench {
 public:
  /// `schedule`: a .sched file, the name of a family with or without knobs ("conv_direct:vectors=2,pixels=14"), "hand"
  /// for the analytic choice, or "auto" for a record where the options name records that have one, else the analytic
  /// choice. `beside`: of the same request, that this one is timed in turns with, and whose memory for inputs,
  /// intermediates and outputs it shares: which pages those are changes the time of what fills most of a second cache
  /// by a third. run() before each one's turn.
  OperatorBench(const OperatorRequest& request, const ModelOptions& options, const std::string& schedule = "auto",
                const OperatorBench* beside = nullptr);

  void run() { session_->run(); }  ///< everything around the kernel too

  /// The kernel's result against the double reference: empty, or what differs.
  std::string check();

  double time_once();  ///< seconds of one execution of the kernel's step

  const Workload& workload() const { return *group_->workload; }
  const Choice& choice() const { return kernel_->choice; }
  const Target& target() const { return kernel_->request.target; }
  std::string device() const { return device_name(session_->model()); }
  std::string loops() const;  ///< the scheduled loop nest
  std::int64_t flops() const { return session_->flops(step_); }
  std::int64_t bytes() const { return session_->bytes(step_); }

 private:
  graph::Compiled compiled_;
  TemporaryDirectory directory_;
  std::unique_ptr<runtime::Session> session_;
  std::shared_ptr<std::vector<Array>> inputs_;
  std::shared_ptr<runtime::Pages> arena_;
  const graph::Group* group_ = nullptr;
  const graph::ChosenKernel* kernel_ = nullptr;
  std::size_t step_ = 0;
};

/// Calls `once` (seconds of one execution) until both `least_samples` and `least_seconds` are reached; samples of very
/// short kernels are means over as many executions as the clock needs.
std::vector<double> sample(const std::function<double()>& once, int least_samples, double least_seconds);

}  // namespace heddle::tools
