#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "ops/math.hpp"
#include "ops/reference.hpp"
#include "ops/rules.hpp"
#include "ops/window.hpp"

// The reductions along whole dimensions: one operator a function below, all under one type rule.
namespace heddle::ops {
namespace {

using Halide::Expr;

/// Sums and products of integers wrap, which C++ allows unsigned ones only.
template <class T>
T wrapping(T a, T b, char operation) {
  if constexpr (std::is_integral_v<T>) {
    using Bits = std::make_unsigned_t<T>;
    const auto x = static_cast<Bits>(a), y = static_cast<Bits>(b);
    return static_cast<T>(operation == '+' ? x + y : x * y);
  } else {
    return operation == '+' ? a + b : a * b;
  }
}

// A function: where the accumulator starts, how it takes an element, what becomes of it. Once in Halide, once in plain
// C++ for the reference, which runs in double for floats and in 64-bit integers for integers.
struct Plain {
  static constexpr bool floats_only = false;
  static constexpr bool selects = false;  ///< the result is one of the elements
  static ValueDomain domain() { return {}; }
  static Expr start(Halide::Type type) { return Halide::cast(type, 0); }
  static Expr finish(const Expr& acc, const Expr&) { return acc; }
  template <class T>
  static T first() {
    return 0;
  }
  template <class T>
  static T last(T acc, std::int64_t) {
    return acc;
  }
};

struct Sum : Plain {
  static constexpr auto name = "reduce_sum";
  static constexpr auto summary = "sum of the elements";
  static Expr step(const Expr& acc, const Expr& x) { return acc + x; }
  template <class T>
  static T add(T acc, T x) {
    return wrapping(acc, x, '+');
  }
};

struct Mean : Sum {
  static constexpr auto name = "reduce_mean";
  static constexpr auto summary = "mean of the elements; integers round toward zero";
  static Expr finish(const Expr& acc, const Expr& count) {
    if (!acc.type().is_float()) return Halide::div_round_to_zero(acc, Halide::cast(acc.type(), count));
    return acc * (1 / Halide::cast(acc.type(), count));
  }
  template <class T>
  static T last(T acc, std::int64_t count) {
    return acc / static_cast<T>(count);
  }
};

struct Max : Plain {
  static constexpr auto name = "reduce_max";
  static constexpr auto summary = "largest element";
  static constexpr bool selects = true;
  static Expr start(Halide::Type type) { return type.min(); }
  static Expr step(const Expr& acc, const Expr& x) { return Halide::max(acc, x); }
  template <class T>
  static T first() {
    return std::is_floating_point_v<T> ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::min();
  }
  template <class T>
  static T add(T acc, T x) {
    return x > acc || x != x ? x : acc;
  }
};

struct Min : Plain {
  static constexpr auto name = "reduce_min";
  static constexpr auto summary = "smallest element";
  static constexpr bool selects = true;
  static Expr start(Halide::Type type) { return type.max(); }
  static Expr step(const Expr& acc, const Expr& x) { return Halide::min(acc, x); }
  template <class T>
  static T first() {
    return std::is_floating_point_v<T> ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max();
  }
  template <class T>
  static T add(T acc, T x) {
    return x < acc || x != x ? x : acc;
  }
};

struct Product : Plain {
  static constexpr auto name = "reduce_prod";
  static constexpr auto summary = "product of the elements";
  static ValueDomain domain() { return {-2, 2, {}}; }
  static Expr start(Halide::Type type) { return Halide::cast(type, 1); }
  static Expr step(const Expr& acc, const Expr& x) { return acc * x; }
  template <class T>
  static T first() {
    return 1;
  }
  template <class T>
  static T add(T acc, T x) {
    return wrapping(acc, x, '*');
  }
};

struct L1 : Plain {
  static constexpr auto name = "reduce_l1";
  static constexpr auto summary = "sum of the magnitudes";
  static Expr step(const Expr& acc, const Expr& x) { return acc + Halide::cast(x.type(), Halide::abs(x)); }
  template <class T>
  static T add(T acc, T x) {
    return wrapping(acc, x < 0 ? wrapping<T>(x, static_cast<T>(-1), '*') : x, '+');
  }
};

struct SumSquare : Plain {
  static constexpr auto name = "reduce_sum_square";
  static constexpr auto summary = "sum of the squares";
  static Expr step(const Expr& acc, const Expr& x) { return acc + x * x; }
  template <class T>
  static T add(T acc, T x) {
    return wrapping(acc, wrapping(x, x, '*'), '+');
  }
};

struct L2 : SumSquare {
  static constexpr auto name = "reduce_l2";
  static constexpr auto summary = "square root of the sum of the squares";
  static constexpr bool floats_only = true;
  static Expr finish(const Expr& acc, const Expr&) { return Halide::sqrt(acc); }
  template <class T>
  static T last(T acc, std::int64_t) {
    return std::sqrt(acc);
  }
};

struct LogSum : Sum {
  static constexpr auto name = "reduce_log_sum";
  static constexpr auto summary = "logarithm of the sum";
  static constexpr bool floats_only = true;
  static ValueDomain domain() { return {1.5, 8, {}}; }
  static Expr finish(const Expr& acc, const Expr&) {
    return acc.type().bits() == 64 ? Halide::log(acc) : math::log(acc);
  }
  template <class T>
  static T last(T acc, std::int64_t) {
    return std::log(acc);
  }
};

struct Attributes {
  BOOST_HANA_DEFINE_STRUCT(Attributes, (std::vector<std::int64_t>, axes), (bool, keepdims));
  Attributes() : keepdims(true) {}
};

/// Which dimensions a reduction runs over: no axes mean all.
std::vector<bool> reduced_dimensions(const Attributes& at, int rank) {
  std::vector<bool> reduced(static_cast<std::size_t>(rank), at.axes.empty());
  for (const std::int64_t axis : at.axes) {
    const auto d = static_cast<std::size_t>(normalized_axis(axis, rank, "axes"));
    require(!reduced[d], "axes name dimension {} twice", d);
    reduced[d] = true;
  }
  return reduced;
}

TensorType reduced_type(const Attributes& at, const TensorType& x) {
  const auto reduced = reduced_dimensions(at, x.rank());
  TensorType out{x.dtype, {}, {}};
  for (std::size_t d = 0; d < reduced.size(); ++d) {
    if (!reduced[d]) out.shape.push_back(x.shape[d]);
    else if (at.keepdims) out.shape.emplace_back(1);
  }
  return out;
}

/// The remaining dimensions keep the operand's names.
std::vector<std::string> remaining_dimensions(const Attributes& at, const TensorType& x) {
  const auto reduced = reduced_dimensions(at, x.rank());
  const auto names = default_dimensions(x.rank());
  std::vector<std::string> remaining;
  for (std::size_t d = 0; d < reduced.size(); ++d)
    if (!reduced[d] || at.keepdims) remaining.push_back(names[d]);
  return remaining;
}

/// What a reduction's stages are made of. The reduced dimensions of x are named r and their name: rx, ry...
struct Frame {
  std::vector<Halide::Var> kept;  ///< in the order of x's memory, innermost first
  std::vector<Reduction::Dimension> reduced;
  std::vector<Expr> index;  ///< of x: loops where it is kept
  std::vector<bool> is_reduced;
  std::vector<std::string> names;
  Extent count = 1;

  Frame(const Attributes& at, const Algorithm& a) {
    const Operand& x = a.in[0];
    is_reduced = reduced_dimensions(at, x.type.rank());
    names = default_dimensions(x.type.rank());
    std::vector<Halide::Var> loops;
    std::size_t next = 0;
    for (std::size_t d = 0; d < is_reduced.size(); ++d) {
      if (is_reduced[d]) count = count * x.type.shape[d];
      const bool has_loop = !is_reduced[d] || at.keepdims;
      loops.push_back(has_loop ? a.loops[next++] : Halide::Var());
    }
    for (const int dim : innermost_first(x.type)) {
      const auto d = static_cast<std::size_t>(dim);
      if (is_reduced[d]) reduced.push_back({"r" + names[d], x.extents[d]});
      else kept.push_back(loops[d]);
    }
    index.assign(loops.begin(), loops.end());
  }

  std::vector<Expr> along(const Reduction& r) const {
    auto result = index;
    for (std::size_t d = 0; d < result.size(); ++d)
      if (is_reduced[d]) result[d] = r["r" + names[d]];
    return result;
  }
};

/// Calls f(position in x, position in out) for every element of x.
template <class F>
void for_each_pair(const Attributes& at, const Shape& shape, F f) {
  const auto reduced = reduced_dimensions(at, static_cast<int>(shape.size()));
  std::int64_t position = 0;
  for_each(shape, [&](const std::vector<std::int64_t>& index) {
    std::int64_t to = 0;
    for (std::size_t d = 0; d < shape.size(); ++d)
      if (!reduced[d]) to = to * shape[d] + index[d];
    f(position++, static_cast<std::size_t>(to));
  });
}

std::vector<Case> cases_of(const ValueDomain& domain, const std::vector<std::string>& other_types) {
  const std::vector<SymbolValues> images = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 7}}, {{"N", 2}, {"W", 37}}};
  std::vector<Case> cases = {
      {{{"axes", {-1}}}, types({"f32[N,W]"}), images, {domain}},
      {{{"axes", {1}}, {"keepdims", false}}, types({"f32[N,5,W]"}), images, {domain}},
      {{{"axes", {2, 3}}}, types({"f32[N,3,2,W]"}), images, {domain}},
      {{{"axes", {0, 2}}, {"keepdims", false}}, types({"f32[N,3,W]"}), images, {domain}},
      {{{"keepdims", false}}, types({"f32[N,W]"}), images, {domain}},
  };
  for (const auto& type : other_types) cases.push_back({{{"axes", {1}}}, types({type}), {}, {domain}});
  return cases;
}

template <class F>
struct Reduce {
  static constexpr auto name = F::name;
  static constexpr auto summary = F::summary;
  static constexpr auto kind = OperatorKind::reduction;
  using Attributes = ops::Attributes;
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, acc), (Halide::Func, out));
  };

  static std::vector<std::string> dimensions(const Attributes& at, std::span<const TensorType> in) {
    return remaining_dimensions(at, in[0]);
  }
  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }

  static TensorType infer(const Attributes& at, std::span<const TensorType> in) {
    require_operands(in, 1, 1, "x");
    const DType type = in[0].dtype;
    const bool integers = !F::floats_only && (F::selects ? is_integer(type) || type == DType::boolean
                                                         : is_integer(type) && size_of(type) >= 4);
    require(is_float(type) || integers, "x is {}, which {} does not take", to_string(type), name);
    return reduced_type(at, in[0]);
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const Frame frame(at, a);
    const Halide::Type given = a.in[0].func.type();
    const Halide::Type type = F::selects ? given : accumulator(given);
    if (frame.reduced.empty()) {  // a scalar: nothing to run over
      s.acc(frame.kept) = F::step(F::start(type), Halide::cast(type, a.in[0].at(frame.index)));
    } else {
      const Reduction r = a.reduce(frame.reduced);
      s.acc(frame.kept) = F::start(type);
      s.acc(frame.kept) = F::step(s.acc(frame.kept), Halide::cast(type, a.in[0].at(frame.along(r))));
    }
    s.out(a.arguments()) = Halide::cast(given, F::finish(s.acc(frame.kept), a.extent(frame.count)));
  }

  template <class T, class Get, class Set>
  static void fold(const Attributes& at, const Array& in, Array& out, Get get, Set set) {
    std::vector<T> acc(static_cast<std::size_t>(out.size()), F::template first<T>());
    for_each_pair(at, in.shape(), [&](std::int64_t from, std::size_t to) { acc[to] = F::add(acc[to], get(from)); });
    const std::int64_t count = in.size() / std::max<std::int64_t>(1, out.size());
    for (std::size_t i = 0; i < acc.size(); ++i) set(i, F::last(acc[i], count));
  }

  /// Integers in their own type: they wrap at its width, and double loses bits of the widest.
  template <class T>
  static void fold_integers(const Attributes& at, const Array& in, Array& out) {
    const auto from = in.as<T>();
    const auto to = out.as<T>();
    fold<T>(
        at, in, out, [&](std::int64_t i) { return from[static_cast<std::size_t>(i)]; },
        [&](std::size_t i, T value) { to[i] = value; });
  }

  static void reference(const Attributes& at, std::span<const Array> in, Array& out) {
    const Array& x = in[0];
    if constexpr (!F::floats_only) {
      switch (x.dtype()) {
        case DType::i32: return fold_integers<std::int32_t>(at, x, out);
        case DType::u32: return fold_integers<std::uint32_t>(at, x, out);
        case DType::i64: return fold_integers<std::int64_t>(at, x, out);
        case DType::u64: return fold_integers<std::uint64_t>(at, x, out);
        default: break;  // double holds the narrower ones, of which one is selected
      }
    }
    fold<double>(
        at, x, out, [&](std::int64_t i) { return x.at(i); },
        [&](std::size_t i, double value) { out.set(static_cast<std::int64_t>(i), value); });
  }

  static Tolerance tolerance(const Attributes& at, std::span<const TensorType> in) {
    if (!is_float(in[0].dtype)) return {.reason = "integers wrap alike in any order"};
    if (F::selects)
      return {.special_values = SpecialValues::ignored,
              .reason =
                  "an element of the input. Infinities are right; a NaN may be dropped, since keeping it triples the "
                  "cost of an element"};
    Extent length = 1;
    const auto reduced = reduced_dimensions(at, in[0].rank());
    for (std::size_t d = 0; d < reduced.size(); ++d)
      if (reduced[d]) length = length * in[0].shape[d];
    Tolerance t = sum_tolerance(in[0].dtype, length);
    if (std::is_same_v<F, Product>) {
      t.relative += static_cast<double>(length.constant().value_or(4096)) *
                    unit_roundoff(in[0].dtype == DType::f64 ? DType::f64 : DType::f32);
      t.reason = "a rounding a factor; large and small factors overflow in another order than in the reference";
    }
    return t;
  }
  static Extent flops(const Attributes&, std::span<const TensorType> in, std::span<const TensorType>) {
    return in[0].element_count();
  }

  static std::vector<Case> cases() {
    if (F::selects) return cases_of(F::domain(), {"i8[3,5]", "u8[3,5]", "i64[2,3]", "bool[2,3]", "f16[3,5]"});
    if (F::floats_only) return cases_of(F::domain(), {"f64[3,5]", "f16[3,5]"});
    return cases_of(F::domain(), {"i32[3,5]", "i64[2,3,2]", "f64[3,5]", "bf16[3,5]"});
  }
};

/// log(sum(exp(x))), with the largest element taken out first or it would overflow.
struct ReduceLogSumExp {
  static constexpr auto name = "reduce_log_sum_exp";
  static constexpr auto summary = "logarithm of the sum of the exponentials";
  static constexpr auto kind = OperatorKind::reduction;
  using Attributes = ops::Attributes;
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, max), (Halide::Func, acc), (Halide::Func, out));
  };

  static std::vector<std::string> dimensions(const Attributes& at, std::span<const TensorType> in) {
    return remaining_dimensions(at, in[0]);
  }
  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }
  static TensorType infer(const Attributes& at, std::span<const TensorType> in) {
    require_operands(in, 1, 1, "x");
    require(is_float(in[0].dtype), "x is {}, expected a float", to_string(in[0].dtype));
    require(in[0].rank() >= 1, "x is a scalar: there is nothing to sum");
    return reduced_type(at, in[0]);
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const Frame frame(at, a);
    const Halide::Type type = accumulator(a.in[0].func.type());
    const bool wide = type.bits() == 64;
    const Reduction largest = a.reduce(frame.reduced), r = a.reduce(frame.reduced);
    s.max(frame.kept) = type.min();
    s.max(frame.kept) = Halide::max(s.max(frame.kept), Halide::cast(type, a.in[0].at(frame.along(largest))));
    const Expr difference = Halide::cast(type, a.in[0].at(frame.along(r))) - s.max(frame.kept);
    s.acc(frame.kept) = Halide::cast(type, 0);
    s.acc(frame.kept) += wide ? Halide::exp(difference) : math::exp(difference);
    const Expr sum = s.acc(frame.kept);
    s.out(a.arguments()) =
        Halide::cast(a.in[0].func.type(), s.max(frame.kept) + (wide ? Halide::log(sum) : math::log(sum)));
  }

  static void reference(const Attributes& at, std::span<const Array> in, Array& out) {
    std::vector<double> largest(static_cast<std::size_t>(out.size()), -std::numeric_limits<double>::infinity());
    std::vector<double> sums(largest.size(), 0);
    for_each_pair(at, in[0].shape(),
                  [&](std::int64_t from, std::size_t to) { largest[to] = std::fmax(largest[to], in[0].at(from)); });
    for_each_pair(at, in[0].shape(),
                  [&](std::int64_t from, std::size_t to) { sums[to] += std::exp(in[0].at(from) - largest[to]); });
    for (std::size_t i = 0; i < sums.size(); ++i) out.set(static_cast<std::int64_t>(i), largest[i] + std::log(sums[i]));
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType> in) {
    const double own = in[0].dtype == DType::f64 ? unit_roundoff(DType::f64) : unit_roundoff(DType::f32);
    return {.relative = 2 * unit_roundoff(in[0].dtype),
            .of_largest = 64 * own,
            .special_values = SpecialValues::ignored,
            .reason =
                "the sum's relative error becomes an absolute one of the logarithm; the maximum of a row of -inf is "
                "-inf and its difference NaN, as in the reference, but an infinite one is not"};
  }
  static Extent flops(const Attributes&, std::span<const TensorType> in, std::span<const TensorType>) {
    return Extent(4) * in[0].element_count();
  }
  static std::vector<Case> cases() { return cases_of({-100, 100, {}}, {"f64[3,5]", "f16[3,5]"}); }
};

}  // namespace

const Operator& reduce_sum() {
  static const Erased<Reduce<Sum>> op;
  return op;
}
const Operator& reduce_mean() {
  static const Erased<Reduce<Mean>> op;
  return op;
}
const Operator& reduce_max() {
  static const Erased<Reduce<Max>> op;
  return op;
}
const Operator& reduce_min() {
  static const Erased<Reduce<Min>> op;
  return op;
}
const Operator& reduce_prod() {
  static const Erased<Reduce<Product>> op;
  return op;
}
const Operator& reduce_l1() {
  static const Erased<Reduce<L1>> op;
  return op;
}
const Operator& reduce_l2() {
  static const Erased<Reduce<L2>> op;
  return op;
}
const Operator& reduce_sum_square() {
  static const Erased<Reduce<SumSquare>> op;
  return op;
}
const Operator& reduce_log_sum() {
  static const Erased<Reduce<LogSum>> op;
  return op;
}
const Operator& reduce_log_sum_exp() {
  static const Erased<ReduceLogSumExp> op;
  return op;
}

}  // namespace heddle::ops
