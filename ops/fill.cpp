#include <cmath>

#include "ops/element.hpp"
#include "ops/math.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct Full {
  static constexpr auto name = "full";
  static constexpr auto summary = "one value everywhere";
  static constexpr auto kind = OperatorKind::movement;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (DType, dtype), (std::vector<Extent>, shape), (double, value));
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {}; }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require_operands(in, 0, 0, "none");
    require(a.dtype != DType::string, "kernels work on numbers, not strings; a host operator has to do this");
    return tensor(a.dtype, a.shape);
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    s.out(a.arguments()) =
        math::constant(halide_type(at.dtype), at.dtype == DType::boolean ? (at.value != 0 ? 1 : 0) : at.value);
  }

  static void reference(const Attributes& a, std::span<const Array>, Array& out) {
    for (std::int64_t i = 0; i < out.size(); ++i) out.set(i, a.value);
  }

  static Tolerance tolerance(const Attributes& a, std::span<const TensorType>) {
    return {.relative = 2 * unit_roundoff(a.dtype), .reason = "the value is rounded to the element type"};
  }

  static std::vector<Case> cases() {
    return {
        {{{"shape", {3, 1, 5}}, {"value", 0.1}}, {}},
        {{{"shape", {7}}, {"value", -3}, {"dtype", "i64"}}, {}},
        {{{"shape", {2}}, {"value", "-inf"}}, {}},
        {{{"shape", {2}}, {"value", 1}, {"dtype", "bool"}}, {}},
    };
  }
};

struct Iota {
  static constexpr auto name = "iota";
  static constexpr auto summary = "start, start + step, start + 2 step...";
  static constexpr auto kind = OperatorKind::movement;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (DType, dtype), (Extent, extent), (double, start), (double, step));
    Attributes() : dtype(DType::i64), start(0), step(1) {}
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {}; }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require_operands(in, 0, 0, "none");
    require(is_number(a.dtype), "dtype must be integers or floats, not {}", to_string(a.dtype));
    return tensor(a.dtype, {a.extent});
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const Halide::Type type = halide_type(at.dtype);
    const Halide::Type wide = is_float(at.dtype) ? Halide::Float(at.dtype == DType::f64 ? 64 : 32) : type;
    const Expr position = Halide::cast(wide, a.index()[0]);
    s.out(a.arguments()) =
        Halide::cast(type, math::constant(wide, at.start) + position * math::constant(wide, at.step));
  }

  static void reference(const Attributes& a, std::span<const Array>, Array& out) {
    for (std::int64_t i = 0; i < out.size(); ++i) out.set(i, a.start + static_cast<double>(i) * a.step);
  }

  static Tolerance tolerance(const Attributes& a, std::span<const TensorType>) {
    return {.relative = 4 * unit_roundoff(a.dtype),
            .of_largest = 4 * unit_roundoff(a.dtype),
            .reason = "start, step, product and sum are rounded"};
  }

  static std::vector<Case> cases() {
    return {
        {{{"extent", 9}}, {}},
        {{{"extent", 5}, {"start", 7}, {"step", -3}, {"dtype", "i32"}}, {}},
        {{{"extent", 17}, {"start", 0.5}, {"step", 0.1}, {"dtype", "f32"}}, {}},
    };
  }
};

}  // namespace

const Operator& full() {
  static const Erased<Full> op;
  return op;
}

const Operator& iota() {
  static const Erased<Iota> op;
  return op;
}

}  // namespace heddle::ops
