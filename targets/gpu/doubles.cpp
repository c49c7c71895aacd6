#include "targets/gpu/doubles.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <string_view>

#include <fmt/format.h>

#include "base/error.hpp"
#include "targets/gpu/kernels.hpp"

namespace heddle::targets {
namespace {

using namespace Halide::Internal;
using Halide::Expr;

constexpr std::string_view suffix = "_f64";
constexpr std::array<std::string_view, 5> takes_f64 = {"sqrt", "floor", "ceil", "trunc", "fast_inverse_sqrt"};
/// Of which Halide makes instructions without a function's name, or which special_values replaces.
constexpr std::array<std::string_view, 4> no_functions = {"is_nan", "is_inf", "is_finite", "fast_inverse"};

std::string_view stem(std::string_view function) { return function.substr(0, function.size() - suffix.size()); }

class Doubles : public IRMutator {
 public:
  explicit Doubles(DeviceApi api) : api_(api) {}
  using IRMutator::mutate;

 protected:
  using IRMutator::visit;

  Expr visit(const FloatImm* op) override {
    if (op->type != Halide::Float(64) || static_cast<double>(static_cast<float>(op->value)) == op->value) return op;
    return Halide::reinterpret(op->type, make_const(Halide::UInt(64), std::bit_cast<std::uint64_t>(op->value)));
  }

  Expr visit(const Call* op) override {
    if (api_ != DeviceApi::vulkan || !op->name.ends_with(suffix)) return IRMutator::visit(op);
    if (lacks_f64(op->name))
      throw Error(ErrorCode::unsupported,
                  fmt::format("Vulkan has no {} of doubles; compute it in f32, or on the processor", stem(op->name)));
    const bool renamed = std::find(takes_f64.begin(), takes_f64.end(), stem(op->name)) != takes_f64.end();
    return Call::make(op->type, renamed ? std::string(stem(op->name)) + "_f32" : op->name, mutate(op->args),
                      op->call_type);
  }

 private:
  DeviceApi api_;
};

}  // namespace

bool lacks_f64(const std::string& function) {
  if (!function.ends_with(suffix)) return false;
  const auto in = [&](const auto& names) {
    return std::find(names.begin(), names.end(), stem(function)) != names.end();
  };
  return !in(takes_f64) && !in(no_functions);
}

Stmt doubles(const Stmt& s, DeviceApi api) { return mutate_kernels<Doubles>(s, api); }

}  // namespace heddle::targets
