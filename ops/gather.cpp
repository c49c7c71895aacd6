#include "ops/element.hpp"
#include "ops/index.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

void require_indices(const TensorType& indices) {
  require(indices.dtype == DType::i64 || indices.dtype == DType::i32, "indices must be i64 or i32, not {}",
          to_string(indices.dtype));
}

struct Gather {
  static constexpr auto name = "gather";
  static constexpr auto summary =
      "slices of x along an axis, chosen by indices; negative ones count from the end, those outside take the nearest "
      "slice";
  static constexpr auto kind = OperatorKind::movement;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::int64_t, axis));
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) {
    return {{"x"}, {"indices"}};
  }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require_operands(in, 2, 2, "x and indices");
    require_kernel_types(in);
    require_indices(in[1]);
    const int axis = normalized_axis(a.axis, in[0].rank());
    TensorType out = tensor(in[0].dtype, {in[0].shape.begin(), in[0].shape.begin() + axis});
    out.shape.insert(out.shape.end(), in[1].shape.begin(), in[1].shape.end());
    out.shape.insert(out.shape.end(), in[0].shape.begin() + axis + 1, in[0].shape.end());
    return out;
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const auto index = a.index();
    const auto axis = normalized_axis(at.axis, a.in[0].type.rank());
    const auto after = index.begin() + axis + a.in[1].type.rank();
    std::vector<Expr> from(index.begin(), index.begin() + axis);
    from.push_back(
        wrapped_index(a.in[1].at({index.begin() + axis, after}), a.in[0].extents[static_cast<std::size_t>(axis)]));
    from.insert(from.end(), after, index.end());
    s.out(a.arguments()) = a.in[0].at(from);
  }

  static void reference(const Attributes& a, std::span<const Array> in, Array& out) {
    const auto axis = normalized_axis(a.axis, static_cast<int>(in[0].shape().size()));
    std::int64_t i = 0;
    for_each(out.shape(), [&](const auto& index) {
      const auto after = index.begin() + axis + static_cast<std::ptrdiff_t>(in[1].shape().size());
      const std::vector<std::int64_t> chooser(index.begin() + axis, after);
      std::vector<std::int64_t> from(index.begin(), index.begin() + axis);
      const auto chosen = static_cast<std::int64_t>(integer_at(in[1], flat(in[1].shape(), chooser)));
      from.push_back(wrapped_index(chosen, in[0].shape()[static_cast<std::size_t>(axis)]));
      from.insert(from.end(), after, index.end());
      copy_element(out, i++, in[0], flat(in[0].shape(), from));
    });
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) { return moved(); }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> sizes = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 17}}};
    const std::vector<ValueDomain> floats = {domain_with_extremes(-4, 4), domain_of(-5, 4)};
    const std::vector<ValueDomain> outside = {domain_with_extremes(-4, 4), {-9, 9, {9e15, -9e15}}};
    return {
        {{{"axis", 0}}, types({"f32[5,W]", "i64[N]"}), sizes, floats},
        {{{"axis", 1}}, types({"f32[N,5,W]", "i64[2,3]"}), sizes, floats},
        {{{"axis", -1}}, types({"f32[N,5]", "i32[]"}), {{{"N", 3}}}, floats},
        {{{"axis", 0}}, types({"f32[5,3]", "i64[11]"}), {}, outside},
        {{{"axis", 0}}, types({"i64[W]", "i64[N,2]"}), sizes, {domain_of(-100, 100), domain_of(-20, 20)}},
    };
  }
};

struct GatherElements {
  static constexpr auto name = "gather_elements";
  static constexpr auto summary =
      "elements of x at the position of each index, save along an axis, where the index says; bounds as in gather";
  static constexpr auto kind = OperatorKind::movement;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::int64_t, axis));
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) {
    return {{"x"}, {"indices"}};
  }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require_operands(in, 2, 2, "x and indices");
    require_kernel_types(in);
    require_indices(in[1]);
    require(in[1].rank() == in[0].rank(), "indices have rank {}, expected {} like x", in[1].rank(), in[0].rank());
    const int axis = normalized_axis(a.axis, in[0].rank());
    for (int d = 0; d < in[0].rank(); ++d) {
      const Extent &got = in[1].shape[static_cast<std::size_t>(d)], &most = in[0].shape[static_cast<std::size_t>(d)];
      require(d == axis || !got.is_constant() || !most.is_constant() || got.value() <= most.value(),
              "indices have extent {} along dimension {}, where x has {}", got.str(), d, most.str());
    }
    return tensor(in[0].dtype, in[1].shape);
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    auto index = a.index();
    const auto axis = static_cast<std::size_t>(normalized_axis(at.axis, a.in[0].type.rank()));
    const Expr chosen = a.in[1].at(index);
    index[axis] = wrapped_index(chosen, a.in[0].extents[axis]);
    s.out(a.arguments()) = a.in[0].at(index);
  }

  static void reference(const Attributes& a, std::span<const Array> in, Array& out) {
    const auto axis = static_cast<std::size_t>(normalized_axis(a.axis, static_cast<int>(in[0].shape().size())));
    std::int64_t i = 0;
    for_each(out.shape(), [&](const auto& index) {
      auto from = index;
      from[axis] = wrapped_index(static_cast<std::int64_t>(integer_at(in[1], i)), in[0].shape()[axis]);
      copy_element(out, i++, in[0], flat(in[0].shape(), from));
    });
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) { return moved(); }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> sizes = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 17}}};
    const std::vector<ValueDomain> floats = {domain_with_extremes(-4, 4), domain_of(-7, 7)};
    return {
        {{{"axis", 1}}, types({"f32[N,5]", "i64[N,W]"}), sizes, floats},
        {{{"axis", -2}}, types({"f32[5,W]", "i32[2,W]"}), {{{"W", 1}}, {{"W", 17}}}, floats},
    };
  }
};

struct GatherNd {
  static constexpr auto name = "gather_nd";
  static constexpr auto summary =
      "slices of x, each chosen by a tuple along the last dimension of indices, batch by batch; bounds as in gather";
  static constexpr auto kind = OperatorKind::movement;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::int64_t, batch_dims));
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) {
    return {{"x"}, {"indices"}};
  }

  static TensorType infer(const Attributes& a, std::span<const TensorType> in) {
    require_operands(in, 2, 2, "x and indices");
    require_kernel_types(in);
    require_indices(in[1]);
    const int batch = static_cast<int>(a.batch_dims);
    require(batch >= 0 && batch < in[1].rank() && batch < in[0].rank(),
            "batch_dims {} needs more dimensions than x and indices have", a.batch_dims);
    const auto tuple = in[1].shape.back().constant();
    require(tuple.has_value(), "the last extent of indices, {}, must be known at compile time",
            in[1].shape.back().str());
    require(*tuple >= 1 && batch + *tuple <= in[0].rank(),
            "tuples of {} do not index a tensor of rank {} after {} batch dimensions", *tuple, in[0].rank(), batch);
    for (int d = 0; d < batch; ++d)
      require_equal(in[1].shape[static_cast<std::size_t>(d)], in[0].shape[static_cast<std::size_t>(d)],
                    fmt::format("batch extent {} of indices", d));
    TensorType out = tensor(in[0].dtype, {in[1].shape.begin(), in[1].shape.end() - 1});
    out.shape.insert(out.shape.end(), in[0].shape.begin() + batch + *tuple, in[0].shape.end());
    return out;
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const auto index = a.index();
    const auto batch = static_cast<std::size_t>(at.batch_dims);
    const auto outer = static_cast<std::ptrdiff_t>(a.in[1].type.shape.size() - 1);
    const auto tuple = static_cast<std::size_t>(a.in[1].type.shape.back().value());
    std::vector<Expr> from(index.begin(), index.begin() + static_cast<std::ptrdiff_t>(batch));
    for (std::size_t t = 0; t < tuple; ++t) {
      std::vector<Expr> chooser(index.begin(), index.begin() + outer);
      chooser.emplace_back(static_cast<int>(t));
      from.push_back(wrapped_index(a.in[1].at(chooser), a.in[0].extents[batch + t]));
    }
    from.insert(from.end(), index.begin() + outer, index.end());
    s.out(a.arguments()) = a.in[0].at(from);
  }

  static void reference(const Attributes& a, std::span<const Array> in, Array& out) {
    const auto batch = static_cast<std::size_t>(a.batch_dims);
    const auto outer = static_cast<std::ptrdiff_t>(in[1].shape().size() - 1);
    std::int64_t i = 0;
    for_each(out.shape(), [&](const auto& index) {
      std::vector<std::int64_t> from(index.begin(), index.begin() + a.batch_dims);
      std::vector<std::int64_t> chooser(index.begin(), index.begin() + outer);
      chooser.push_back(0);
      for (std::int64_t& t = chooser.back(); t < in[1].shape().back(); ++t) {
        const auto chosen = static_cast<std::int64_t>(integer_at(in[1], flat(in[1].shape(), chooser)));
        from.push_back(wrapped_index(chosen, in[0].shape()[batch + static_cast<std::size_t>(t)]));
      }
      from.insert(from.end(), index.begin() + outer, index.end());
      copy_element(out, i++, in[0], flat(in[0].shape(), from));
    });
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) { return moved(); }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> sizes = {{{"N", 1}, {"W", 1}}, {{"N", 3}, {"W", 17}}};
    const std::vector<ValueDomain> floats = {domain_with_extremes(-4, 4), domain_of(-6, 6)};
    return {
        {Json::object(), types({"f32[5,4,W]", "i64[N,2]"}), sizes, floats},
        {Json::object(), types({"f32[5,W]", "i32[N,3,1]"}), sizes, floats},
        {{{"batch_dims", 1}}, types({"f32[N,5,W]", "i64[N,2,1]"}), sizes, floats},
        {{{"batch_dims", 2}}, types({"f32[2,N,5,4]", "i64[2,N,2]"}), {{{"N", 1}}, {{"N", 3}}}, floats},
    };
  }
};

}  // namespace

const Operator& gather() {
  static const Erased<Gather> op;
  return op;
}

const Operator& gather_elements() {
  static const Erased<GatherElements> op;
  return op;
}

const Operator& gather_nd() {
  static const Erased<GatherNd> op;
  return op;
}

}  // namespace heddle::ops
