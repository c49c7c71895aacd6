#include "targets/gpu/narrow_floats.hpp"

#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/error.hpp"
#include "targets/gpu/kernels.hpp"

namespace heddle::targets {
namespace {

using namespace Halide::Internal;
using Halide::cast;
using Halide::Expr;
using Halide::reinterpret;
using Halide::select;
using Halide::Type;

Type bits_of(Type type) { return Halide::UInt(16, type.lanes()); }
Type f32_of(Type type) { return Halide::Float(32, type.lanes()); }

/// A 32-bit constant with as many lanes as the expression.
Expr bits32(const Expr& like, std::uint32_t value) { return make_const(Halide::UInt(32, like.type().lanes()), value); }
Expr f32(const Expr& like, double value) { return make_const(f32_of(like.type()), value); }
Expr as_u32(const Expr& x) { return reinterpret(Halide::UInt(32, x.type().lanes()), x); }
Expr as_f32(const Expr& x) { return reinterpret(f32_of(x.type()), x); }

/// Every f16 is an f32. Multiplying by 2^112 moves the exponent, and makes denormals normal.
Expr widen_f16(const Expr& narrow) {
  return once(cast(Halide::UInt(32, narrow.type().lanes()), narrow), [](const Expr& bits) {
    const Expr sign = (bits & bits32(bits, 0x8000)) << bits32(bits, 16);
    return once((bits & bits32(bits, 0x7FFF)) << bits32(bits, 13), [&](const Expr& magnitude) {
      const Expr finite = as_u32(as_f32(magnitude) * f32(bits, 0x1p112));
      const Expr special = bits32(bits, 0x0F800000) <= magnitude;
      return as_f32(select(special, magnitude | bits32(bits, 0x7F800000), finite) | sign);
    });
  });
}

/// To the nearest even value: half of the last bit is added, less one if the last bit is 0.
Expr narrow_f16(const Expr& x) {
  return once(as_u32(x), [&](const Expr& bits) {
    const Expr sign = bits >> bits32(bits, 16) & bits32(bits, 0x8000);
    return once(bits & bits32(bits, 0x7FFFFFFF), [&](const Expr& magnitude) {
      const Expr last = magnitude >> bits32(bits, 13) & bits32(bits, 1);
      const Expr rounded = (magnitude - bits32(bits, 112U << 23) + bits32(bits, 0xFFF) + last) >> bits32(bits, 13);
      // From 65520 on this runs into the exponents beyond infinity's.
      const Expr normal = min(rounded, bits32(bits, 0x7C00));
      // The last bit of a float between 1/2 and 1 is the unit of f16's denormals, so the sum rounds as they do.
      const Expr denormal = as_u32(as_f32(magnitude) + f32(bits, 0.5)) - bits32(bits, 0x3F000000);
      const Expr number = select(magnitude < bits32(bits, 0x38800000), denormal, normal);
      const Expr value = select(bits32(bits, 0x7F800000) < magnitude, bits32(bits, 0x7E00), number);
      return cast(bits_of(bits.type()), value | sign);
    });
  });
}

Expr widen_bf16(const Expr& narrow) {
  const Expr bits = cast(Halide::UInt(32, narrow.type().lanes()), narrow);
  return as_f32(bits << bits32(bits, 16));
}

Expr narrow_bf16(const Expr& x) {
  return once(as_u32(x), [&](const Expr& bits) {
    const Expr last = bits >> bits32(bits, 16) & bits32(bits, 1);
    const Expr number = (bits + bits32(bits, 0x7FFF) + last) >> bits32(bits, 16);
    const Expr nan = (bits >> bits32(bits, 16)) | bits32(bits, 0x40);
    const Expr is_nan = bits32(bits, 0x7F800000) < (bits & bits32(bits, 0x7FFFFFFF));
    return cast(bits_of(bits.type()), select(is_nan, nan, number));
  });
}

Expr widen(const Expr& bits, Type type) { return type.is_bfloat() ? widen_bf16(bits) : widen_f16(bits); }
Expr narrow(const Expr& x, Type type) { return type.is_bfloat() ? narrow_bf16(x) : narrow_f16(x); }

/// Replaces every expression of such a type by its bits.
class NarrowFloats : public IRMutator {
 public:
  explicit NarrowFloats(DeviceApi api) : api_(api) {}
  using IRMutator::mutate;

  bool applies(Type type) const {
    return type.is_float() && type.bits() == 16 && (type.is_bfloat() || api_ == DeviceApi::opencl);
  }

 protected:
  using IRMutator::visit;

  Expr visit(const FloatImm* op) override {
    if (!applies(op->type)) return op;
    const std::uint16_t bits =
        op->type.is_bfloat() ? Halide::bfloat16_t(op->value).to_bits() : Halide::float16_t(op->value).to_bits();
    return make_const(Halide::UInt(16), bits);
  }

  Expr visit(const Variable* op) override {
    return applies(op->type) ? Variable::make(bits_of(op->type), op->name) : Expr(op);
  }

  Expr visit(const Cast* op) override {
    const Type from = op->value.type();
    if (!applies(from) && !applies(op->type)) return IRMutator::visit(op);
    const Expr wide = applies(from) ? widened(op->value) : cast(f32_of(from), mutate(op->value));
    return applies(op->type) ? narrow(wide, op->type) : cast(op->type, wide);
  }

  Expr visit(const Reinterpret* op) override {
    return reinterpret(applies(op->type) ? bits_of(op->type) : op->type, mutate(op->value));
  }

  Expr visit(const Add* op) override { return binary(op); }
  Expr visit(const Sub* op) override { return binary(op); }
  Expr visit(const Mul* op) override { return binary(op); }
  Expr visit(const Div* op) override { return binary(op); }
  Expr visit(const Mod* op) override { return binary(op); }
  Expr visit(const Min* op) override { return binary(op); }
  Expr visit(const Max* op) override { return binary(op); }
  Expr visit(const EQ* op) override { return binary(op); }
  Expr visit(const NE* op) override { return binary(op); }
  Expr visit(const LT* op) override { return binary(op); }
  Expr visit(const LE* op) override { return binary(op); }
  Expr visit(const GT* op) override { return binary(op); }
  Expr visit(const GE* op) override { return binary(op); }

  Expr visit(const Load* op) override {
    if (!applies(op->type)) return IRMutator::visit(op);
    return Load::make(bits_of(op->type), op->name, mutate(op->index), op->image, op->param, mutate(op->predicate),
                      op->alignment);
  }

  Stmt visit(const Allocate* op) override {
    if (!applies(op->type)) return IRMutator::visit(op);
    return Allocate::make(op->name, bits_of(op->type), op->memory_type, mutate(op->extents), mutate(op->condition),
                          mutate(op->body), op->new_expr, op->free_function, op->padding);
  }

  Expr visit(const VectorReduce* op) override {
    if (!applies(op->type)) return IRMutator::visit(op);
    return narrow(VectorReduce::make(op->op, widened(op->value), op->type.lanes()), op->type);
  }

  Expr visit(const Call* op) override {
    bool concerned = applies(op->type);
    for (const Expr& argument : op->args) concerned = concerned || applies(argument.type());
    if (!concerned) return IRMutator::visit(op);
    const bool moves = Call::as_tag(op) != nullptr ||
                       op->is_intrinsic({Call::if_then_else, Call::return_second, Call::mux, Call::undef});
    if (moves) {
      const Type type = applies(op->type) ? bits_of(op->type) : op->type;
      return Call::make(type, op->name, mutate(op->args), op->call_type);
    }
    std::vector<Expr> arguments;
    for (const Expr& argument : op->args)
      arguments.push_back(applies(argument.type()) ? widened(argument) : mutate(argument));
    std::string name = op->name;
    if (name.ends_with("_f16")) name.replace(name.size() - 2, 2, "32");
    const Type type = applies(op->type) ? f32_of(op->type) : op->type;
    const Expr result = Call::make(type, name, arguments, op->call_type);
    return applies(op->type) ? narrow(result, op->type) : result;
  }

 private:
  Expr widened(const Expr& e) { return widen(mutate(e), e.type()); }

  template <class Op>
  Expr binary(const Op* op) {
    if (!applies(op->a.type())) return IRMutator::visit(op);
    const Expr result = Op::make(widened(op->a), widened(op->b));
    return applies(op->type) ? narrow(result, op->type) : result;
  }

  DeviceApi api_;
};

}  // namespace

Stmt narrow_floats(const Stmt& s, DeviceApi api) {
  return rewrite_kernels(s, [&](const Stmt& kernel) {
    NarrowFloats pass(api);
    return pass.mutate(recode_arguments(
        kernel, [&](Type type) { return pass.applies(type); },
        [](const Expr& e) { return reinterpret(Halide::UInt(16), e); },
        [](const Expr& e, Type type) { return reinterpret(type, e); }));
  });
}

}  // namespace heddle::targets
