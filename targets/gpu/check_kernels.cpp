#include "targets/gpu/check_kernels.hpp"

#include <string>

#include <fmt/format.h>

#include "base/error.hpp"
#include "targets/gpu/kernels.hpp"

namespace heddle::targets {
namespace {

using namespace Halide::Internal;
using Halide::Expr;

class Check : public IRMutator {
 public:
  explicit Check(const Gpu& gpu) : gpu_(gpu) {}

  Expr mutate(const Expr& e) override {
    if (e.defined()) check_lanes(e);
    return IRMutator::mutate(e);
  }
  Stmt mutate(const Stmt& s) override { return IRMutator::mutate(s); }

  /// Of the kernel, which has been visited.
  void check_limits() const {
    if (threads_ > gpu_.block_threads)
      refuse(fmt::format("has {} threads in a block, and the device runs {} at most; use smaller thread loops",
                         threads_, gpu_.block_threads));
    if (shared_bytes_ > gpu_.shared_bytes)
      refuse(fmt::format("keeps {} bytes in shared memory, and the device has {}; use smaller tiles", shared_bytes_,
                         gpu_.shared_bytes));
  }

 protected:
  using IRMutator::visit;

  Stmt visit(const For* op) override {
    if (kernel_.empty()) kernel_ = op->name.substr(0, op->name.find(".s"));
    if (op->for_type == ForType::GPULane) refuse("uses gpu_lanes, which no device of Heddle's has; use gpu_threads");
    if (op->for_type == ForType::GPUThread)
      if (const auto extent = as_const_int(op->extent)) threads_ *= *extent;
    return IRMutator::visit(op);
  }

  Stmt visit(const Allocate* op) override {
    if (op->memory_type == Halide::MemoryType::GPUShared)
      shared_bytes_ += std::int64_t{op->constant_allocation_size()} * op->type.bytes();
    return IRMutator::visit(op);
  }

  Stmt visit(const Atomic* op) override {
    if (gpu_.api == DeviceApi::vulkan)
      refuse(fmt::format("updates {} atomically, which Halide cannot express for Vulkan", op->producer_name));
    return IRMutator::visit(op);
  }

  Expr visit(const Call* op) override {
    if (gpu_.api == DeviceApi::vulkan && op->is_intrinsic(Call::if_then_else) && op->args[0].type().is_vector() &&
        op->args[0].as<Broadcast>() == nullptr)
      refuse("chooses between values for each lane of a vector; do not vectorize it");
    return IRMutator::visit(op);
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const {
    throw Error(ErrorCode::unsupported, fmt::format("stage '{}' {}", kernel_, why));
  }

  void check_lanes(const Expr& e) const {
    const int lanes = e.type().lanes();
    const bool vulkan = gpu_.api == DeviceApi::vulkan;
    if (lanes <= 4 || (!vulkan && (lanes == 8 || lanes == 16))) return;
    refuse(fmt::format("has vectors of {} lanes, and {}; vectorize by 4 at most", lanes,
                       vulkan ? "SPIR-V has 2 to 4" : "OpenCL has 2, 3, 4, 8 and 16"));
  }

  Gpu gpu_;
  std::string kernel_;
  std::int64_t threads_ = 1, shared_bytes_ = 0;
};

}  // namespace

Stmt check_kernels(const Stmt& s, const Gpu& gpu) {
  return rewrite_kernels(s, [&](const Stmt& kernel) {
    Check check(gpu);
    check.mutate(kernel);
    check.check_limits();
    return kernel;
  });
}

}  // namespace heddle::targets
