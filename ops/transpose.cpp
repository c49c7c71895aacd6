#include <algorithm>

#include "ops/element.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct Transpose {
  static constexpr auto name = "transpose";
  static constexpr auto summary = "dimensions in another order: dimension i of the result is dimension perm[i] of x";
  static constexpr auto kind = OperatorKind::movement;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::vector<std::int64_t>, perm));
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  /// Without perm the order is reversed.
  static std::vector<std::size_t> permutation(const Attributes& a, std::size_t rank) {
    std::vector<std::size_t> perm;
    if (a.perm.empty())
      for (std::size_t d = rank; d-- > 0;) perm.push_back(d);
    else
      for (const std::int64_t d : a.perm)
        perm.push_back(static_cast<std::size_t>(normalized_axis(d, static_cast<int>(rank), "perm")));
    auto sorted = perm;
    std::sort(sorted.begin(), sorted.end());
    for (std::size_t d = 0; d < rank; ++d)
      require(sorted.size() == rank && sorted[d] == d, "perm must name each of the {} dimensions once", rank);
    return perm;
  }

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require_operands(in, 1, 1, "x");
    require_kernel_types(in);
    TensorType out = tensor(in[0].dtype, {});
    for (const std::size_t d : permutation(a, in[0].shape.size())) out.shape.push_back(in[0].shape[d]);
    return out;
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const auto perm = permutation(at, a.in[0].type.shape.size());
    const auto index = a.index();
    std::vector<Expr> from(index.size());
    for (std::size_t d = 0; d < perm.size(); ++d) from[perm[d]] = index[d];
    s.out(a.arguments()) = a.in[0].at(from);
  }

  static void reference(const Attributes& a, std::span<const Array> in, Array& out) {
    const auto perm = permutation(a, in[0].shape().size());
    std::int64_t i = 0;
    for_each(out.shape(), [&](const auto& index) {
      auto from = index;
      for (std::size_t d = 0; d < perm.size(); ++d) from[perm[d]] = index[d];
      copy_element(out, i++, in[0], flat(in[0].shape(), from));
    });
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) { return moved(); }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> sizes = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 17}}};
    const std::vector<ValueDomain> floats = {domain_with_extremes(-4, 4)};
    return {
        {Json::object(), types({"f32[N,W]"}), sizes, floats},
        {{{"perm", {0, 2, 3, 1}}}, types({"f32[N,5,W,2]"}), sizes, floats},
        {{{"perm", {0, 3, 1, 2}}}, types({"f32[N,5,W,2]{0,2,3,1}"}), sizes, floats},
        {{{"perm", {0, 2, 1, 3}}}, types({"f32[1,W,N,4]"}), sizes, floats},
        {{{"perm", {1, 0}}}, types({"i64[3,1]"})},
    };
  }
};

}  // namespace

const Operator& transpose() {
  static const Erased<Transpose> op;
  return op;
}

}  // namespace heddle::ops
