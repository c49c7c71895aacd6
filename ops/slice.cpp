#include <numeric>

#include "ops/element.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct Slice {
  static constexpr auto name = "slice";
  static constexpr auto summary =
      "every step-th element from start until end along some axes; positions count from the beginning and lie inside";
  static constexpr auto kind = OperatorKind::movement;

  /// Positions are resolved: nothing counts from the end. A backward slice that reaches element 0 ends at -1. No axes
  /// means the first ones, no steps means 1.
  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::vector<Extent>, starts), (std::vector<Extent>, ends),
                             (std::vector<std::int64_t>, axes), (std::vector<std::int64_t>, steps));
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  struct Cut {
    std::size_t axis;
    Extent start, end;
    std::int64_t step;
  };

  static std::vector<Cut> cuts(const Attributes& a, int rank) {
    require(a.ends.size() == a.starts.size(), "{} starts but {} ends", a.starts.size(), a.ends.size());
    require(a.axes.empty() || a.axes.size() == a.starts.size(), "{} starts but {} axes", a.starts.size(),
            a.axes.size());
    require(a.steps.empty() || a.steps.size() == a.starts.size(), "{} starts but {} steps", a.starts.size(),
            a.steps.size());
    require(static_cast<int>(a.starts.size()) <= rank, "{} axes to slice in a tensor of rank {}", a.starts.size(),
            rank);
    std::vector<Cut> all;
    for (std::size_t i = 0; i < a.starts.size(); ++i) {
      const auto axis = a.axes.empty() ? i : static_cast<std::size_t>(normalized_axis(a.axes[i], rank, "axes"));
      all.push_back({axis, a.starts[i], a.ends[i], a.steps.empty() ? 1 : a.steps[i]});
      require(all.back().step != 0, "a step of 0 goes nowhere");
    }
    return all;
  }

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require_operands(in, 1, 1, "x");
    require_kernel_types(in);
    TensorType out = tensor(in[0].dtype, in[0].shape);
    for (const auto& cut : cuts(a, in[0].rank())) {
      const Extent& extent = in[0].shape[cut.axis];
      const auto inside = [&](const Extent& position, std::int64_t lowest, const Extent& highest) {
        const auto p = position.constant(), h = highest.constant();
        return !p || (*p >= lowest && (!h || *p <= *h));
      };
      const bool ok = cut.step > 0
                          ? inside(cut.start, 0, extent) && inside(cut.end, 0, extent)
                          : inside(cut.start, -1, extent - Extent(1)) && inside(cut.end, -1, extent - Extent(1));
      require(ok, "start {} and end {} do not lie inside extent {} of axis {}", cut.start.str(), cut.end.str(),
              extent.str(), cut.axis);
      const Extent length = cut.step > 0 ? cut.end - cut.start : cut.start - cut.end;
      const Extent count = ceil_div(length, std::abs(cut.step));
      out.shape[cut.axis] = count.is_constant() ? max(count, 0) : count;
    }
    return out;
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    auto index = a.index();
    for (const auto& cut : cuts(at, a.in[0].type.rank()))
      index[cut.axis] = index[cut.axis] * static_cast<int>(cut.step) + a.extent(cut.start);
    s.out(a.arguments()) = a.in[0].at(index);
  }

  static void reference(const Attributes& a, std::span<const Array> in, Array& out) {
    const auto all = cuts(a, static_cast<int>(in[0].shape().size()));
    std::int64_t i = 0;
    for_each(out.shape(), [&](const auto& index) {
      auto from = index;
      for (const auto& cut : all) from[cut.axis] = cut.start.value() + index[cut.axis] * cut.step;
      copy_element(out, i++, in[0], flat(in[0].shape(), from));
    });
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) { return moved(); }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> sizes = {{{"N", 3}, {"W", 3}}, {{"N", 4}, {"W", 17}}};
    const std::vector<ValueDomain> floats = {domain_with_extremes(-4, 4)};
    return {
        {{{"starts", {1}}, {"ends", {3}}}, types({"f32[N,W]"}), sizes, floats},
        {{{"starts", {0, 1}}, {"ends", {"N", "W"}}, {"axes", {0, 1}}, {"steps", {2, 3}}},
         types({"f32[N,W]"}),
         sizes,
         floats},
        {{{"starts", {"W-1"}}, {"ends", {-1}}, {"axes", {-1}}, {"steps", {-1}}}, types({"f32[N,W]"}), sizes, floats},
        {{{"starts", {"W-2", 0}}, {"ends", {"W", 2}}, {"axes", {1, 0}}}, types({"f32[N,W]"}), sizes, floats},
        {{{"starts", {7}}, {"ends", {0}}, {"axes", {1}}, {"steps", {-2}}}, types({"i64[2,9]"})},
        {{{"starts", {1}}, {"ends", {3}}, {"axes", {1}}}, types({"f32[2,4,3,5]{0,2,3,1}"}), {}, floats},
        {{{"starts", {0}}, {"ends", {1}}, {"axes", {0}}}, types({"u8[1,1]"})},
    };
  }
};

}  // namespace

const Operator& slice() {
  static const Erased<Slice> op;
  return op;
}

}  // namespace heddle::ops
