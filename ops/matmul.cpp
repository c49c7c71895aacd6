#include "ops/dot.hpp"
#include "ops/matrix.hpp"
#include "ops/reference.hpp"
#include "ops/rules.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct Matmul {
  static constexpr auto name = "matmul";
  static constexpr auto summary = "matrix products over broadcast batches; c, if given, is added";
  static constexpr auto kind = OperatorKind::contraction;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (bool, transpose_a), (bool, transpose_b));
    Attributes() : transpose_a(false), transpose_b(false) {}
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, a_tile), (Halide::Func, b_tile), (Halide::Func, b_sum),
                             (Halide::Func, acc), (Halide::Func, out));
  };

  /// tiled: a_tile and b_tile are the operands in the accumulator's type, m and n innermost, and c is added at the end.
  /// They can be asked for elements beyond the ends, so that whole tiles of `acc` can be computed and only `out` needs
  /// guards.
  /// pairs, fours: ops/dot.hpp's sums. a_tile and b_tile are the operands as they want them, a_tile with k innermost,
  /// b_tile with the k of one sum innermost, then n; b_sum the sums of b's columns where a is offset.
  static std::vector<std::string> variants(const Attributes&, std::span<const TensorType> in) {
    std::vector<std::string> names = {"direct", "tiled"};
    for (const Dot& dot : dots(in[0].dtype, in[1].dtype)) names.push_back(dot.name);
    return names;
  }

  static int output_rank(std::span<const TensorType> in) { return std::max(in[0].rank(), in[1].rank()); }

  static std::vector<std::string> dimensions(const Attributes&, std::span<const TensorType> in) {
    return matrix_dimensions(output_rank(in), "m", "n");
  }

  static std::vector<OperandInfo> operands(const Attributes& at, std::span<const TensorType> in) {
    OperandInfo a{"a", matrix_dimensions(in[0].rank(), at.transpose_a ? "k" : "m", at.transpose_a ? "m" : "k")};
    OperandInfo b{"b",
                  matrix_dimensions(in[1].rank(), at.transpose_b ? "n" : "k", at.transpose_b ? "k" : "n"),
                  {"k", "n"},
                  in[1].rank() == 2};
    for (int d = in[1].rank() - 2; d-- > 0;) b.packing_order.push_back(b.dimensions[static_cast<std::size_t>(d)]);
    if (!dots(in[0].dtype, in[1].dtype).empty()) b.forms = {widened_operand(b, in[1].dtype)};
    OperandInfo c{"c", {}, {}, true};
    if (in.size() > 2) {
      const auto all = dimensions(at, in);
      c.dimensions.assign(all.end() - in[2].rank(), all.end());
      if (in[2].rank() == 1) c.packing_order = {"n"};
    }
    return {a, b, c};
  }

  static const Extent& last(const TensorType& type, std::size_t from_end) {
    return type.shape[type.shape.size() - from_end];
  }

  static TensorType infer(const Attributes& at, std::span<const TensorType> in) {
    require_operands(in, 2, 3, "a, b and optionally c");
    const TensorType& a = in[0];
    const TensorType& b = in[1];
    require(a.rank() >= 2 && b.rank() >= 2, "a has rank {} and b {}: both need at least 2", a.rank(), b.rank());
    const bool bytes = is_byte(a.dtype) && is_byte(b.dtype);
    const bool numbers = a.dtype == b.dtype && (is_float(a.dtype) || (is_integer(a.dtype) && size_of(a.dtype) >= 4));
    require(bytes || numbers,
            "a is {} and b {}: both must be the same float or 32- or 64-bit integer, or 8-bit integers",
            to_string(a.dtype), to_string(b.dtype));
    require_equal(last(b, at.transpose_b ? 1 : 2), last(a, at.transpose_a ? 2 : 1),
                  fmt::format("b's inner extent ({} against {})", a.str(), b.str()));
    std::vector<TensorType> batches = {a, b};
    for (auto& batch : batches) batch.shape.resize(batch.shape.size() - 2);
    TensorType out{bytes ? DType::i32 : a.dtype, broadcast_shapes(batches), {}};
    out.shape.push_back(last(a, at.transpose_a ? 1 : 2));
    out.shape.push_back(last(b, at.transpose_b ? 2 : 1));
    if (in.size() > 2) {
      require_parameter(in[2], out.dtype, "c");
      require(in[2].rank() <= out.rank(), "c has rank {}, more than the product's {}", in[2].rank(), out.rank());
      const std::vector<TensorType> both = {out, in[2]};
      const auto shape = broadcast_shapes(both);
      for (std::size_t d = 0; d < shape.size(); ++d)
        require_equal(shape[d], out.shape[d], fmt::format("c ({}) broadcast: dimension {}", in[2].str(), d));
    }
    return out;
  }

  /// The indices of a matrix operand in the product's batch.
  static std::vector<Expr> index(const Algorithm& a, const Operand& operand, const Expr& rows, const Expr& columns) {
    const std::size_t rank = operand.type.shape.size();
    std::vector<Expr> result;
    for (std::size_t d = 0; d + 2 < rank; ++d)
      result.push_back(operand.type.shape[d] == Extent(1) ? Expr(0) : Expr(a.loops[a.loops.size() - rank + d]));
    result.push_back(rows);
    result.push_back(columns);
    return result;
  }

  static std::vector<Expr> index_of_a(const Attributes& at, const Algorithm& a, const Expr& k) {
    const Halide::Var m = a.loops[a.loops.size() - 2];
    return at.transpose_a ? index(a, a.in[0], k, m) : index(a, a.in[0], m, k);
  }
  static std::vector<Expr> index_of_b(const Attributes& at, const Algorithm& a, const Expr& k) {
    const Halide::Var n = a.loops.back();
    return at.transpose_b ? index(a, a.in[1], n, k) : index(a, a.in[1], k, n);
  }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    if (const Dot* dot = dot_of(a.variant, a.in[0].type.dtype, a.in[1].type.dtype)) return define_dot(at, a, s, *dot);
    const Operand& left = a.in[0];
    const Operand& right = a.in[1];
    const Halide::Var m = a.loops[a.loops.size() - 2], n = a.loops.back();
    const Reduction r = a.reduce({{"k", left.extents[left.extents.size() - (at.transpose_a ? 2 : 1)]}});
    const Halide::Type type = accumulator(left.func.type());
    const auto left_index = [&](const Expr& k) { return index_of_a(at, a, k); };
    const auto right_index = [&](const Expr& k) { return index_of_b(at, a, k); };
    const auto zero = Halide::cast(type, 0);
    const auto c = [&] { return Halide::cast(type, a.in[2].broadcast(a.index())); };
    const bool has_c = a.in.size() > 2;
    Expr result;
    if (a.variant == "tiled") {
      const Halide::Var k("k");
      std::vector<Halide::Var> rows = {m, k}, columns = {n, k};
      rows.insert(rows.end(), a.loops.rbegin() + 2, a.loops.rend());
      columns.insert(columns.end(), a.loops.rbegin() + 2, a.loops.rend());
      s.a_tile(rows) = Halide::cast(type, left.nearest(left_index(k)));
      s.b_tile(columns) = Halide::cast(type, right.nearest(right_index(k)));
      const auto at_k = [&](const std::vector<Halide::Var>& variables) {
        std::vector<Expr> arguments(variables.begin(), variables.end());
        arguments[1] = r["k"];
        return arguments;
      };
      s.acc(a.arguments()) = zero;
      s.acc(a.arguments()) += s.a_tile(at_k(rows)) * s.b_tile(at_k(columns));
      result = has_c ? s.acc(a.arguments()) + c() : Expr(s.acc(a.arguments()));
    } else {
      s.acc(a.arguments()) = has_c ? c() : zero;
      s.acc(a.arguments()) +=
          Halide::cast(type, left.at(left_index(r["k"]))) * Halide::cast(type, right.at(right_index(r["k"])));
      result = s.acc(a.arguments());
    }
    s.out(a.arguments()) = type.is_float() ? Halide::cast(left.func.type(), result) : result;
  }

  static void define_dot(const Attributes& at, Algorithm& a, Stages& s, const Dot& dot) {
    const Operand& left = a.in[0];
    const Operand& right = a.in[1];
    const std::size_t inner = right.type.shape.size() - (at.transpose_b ? 1 : 2);
    const std::size_t columns = right.type.shape.size() - (at.transpose_b ? 2 : 1);
    const Extent& depth = right.type.shape[inner];
    const Halide::Var m = a.loops[a.loops.size() - 2], n = a.loops.back(), k("k"), ko("ko");
    const std::vector<Halide::Var> batch(a.loops.rbegin() + 2, a.loops.rend());
    const Reduction r = a.reduce({{"k", dot.factor}, {"ko", a.extent(ceil_div(depth, dot.factor))}});
    const auto with_batch = [&](auto... own) {
      std::vector<std::common_type_t<decltype(own)...>> arguments = {own...};
      arguments.insert(arguments.end(), batch.begin(), batch.end());
      return arguments;
    };
    s.a_tile(with_batch(k, m)) = dot_element(dot, k, depth, right.extents[inner],
                                             [&](const Expr& at_k) { return left.at(index_of_a(at, a, at_k)); });
    s.b_tile(with_batch(k, n, ko)) = Halide::cast(
        dot.weights, dot_weight(right, index_of_b(at, a, ko * dot.factor + k), inner, columns, dot.factor));

    const Halide::Type type = dot.sum;
    // A c that is not padded to whole blocks is added where only results that exist are.
    const Expr c = a.in.size() > 2 ? Halide::cast(type, a.in[2].broadcast(a.index())) : Halide::cast(type, 0);
    const bool is_padded = a.in.size() > 2 && a.in[2].type.rank() == 1 && is_blocked(a.in[2], 0);
    Expr start = is_padded ? c : Halide::cast(type, 0);
    if (is_offset(dot, left.type.dtype)) {
      const Reduction all = a.reduce({{"k", right.extents[inner]}});
      const auto sums = right.type.rank() == 2 ? std::vector{n} : with_batch(n);
      s.b_sum(sums) = 0;
      s.b_sum(sums) += Halide::cast(type, right.at(index_of_b(at, a, all["k"])));
      start -= 128 * s.b_sum(sums);
    }
    s.acc(a.arguments()) = start;
    const Expr of_b = s.b_tile(with_batch(Expr(r["k"]), Expr(n), Expr(r["ko"])));
    const Expr of_a = s.a_tile(with_batch(r["ko"] * dot.factor + r["k"], Expr(m)));
    s.acc(a.arguments()) += Halide::cast(type, of_b) * Halide::cast(type, of_a);
    const Expr sum = s.acc(a.arguments());
    s.out(a.arguments()) = Halide::cast(halide_type(a.out[0].dtype), is_padded ? sum : sum + c);
  }

  /// A row of results at a time, in the order in which b lies in memory: a search waits for this.
  template <class T, class Read>
  static void product(const Attributes& at, std::span<const Array> in, const Shape& shape, const Read& read,
                      std::vector<T>& out) {
    const Shape &a = in[0].shape(), &b = in[1].shape();
    const std::int64_t depth = a[a.size() - (at.transpose_a ? 2 : 1)], columns = shape.back();
    const std::int64_t a_next = at.transpose_a ? a.back() : 1;  // from one k to the next
    const Shape rows(shape.begin(), shape.end() - 1);
    std::size_t position = 0;
    for_each(rows, [&](const std::vector<std::int64_t>& o) {
      std::vector<std::int64_t> index = o;
      index.back() = 0;
      index.push_back(0);
      const std::int64_t from_a = flat_broadcast(a, index) + o.back() * (at.transpose_a ? 1 : depth);
      const std::int64_t from_b = flat_broadcast(b, index);
      T* results = &out[position];
      position += static_cast<std::size_t>(columns);
      index[index.size() - 2] = o.back();
      for (std::int64_t n = 0; n < columns; ++n) {
        index.back() = n;
        results[n] = in.size() > 2 ? read(2, flat_broadcast(in[2].shape(), index)) : T(0);
      }
      if (at.transpose_b) {
        for (std::int64_t n = 0; n < columns; ++n)
          for (std::int64_t k = 0; k < depth; ++k)
            results[n] += read(0, from_a + k * a_next) * read(1, from_b + n * depth + k);
        return;
      }
      for (std::int64_t k = 0; k < depth; ++k) {
        const T left = read(0, from_a + k * a_next);
        for (std::int64_t n = 0; n < columns; ++n) results[n] += left * read(1, from_b + k * columns + n);
      }
    });
  }

  static void reference(const Attributes& at, std::span<const Array> in, Array& out) {
    if (is_integer(out.dtype())) {
      // Modulo 2^64, of which the result's bits are the low part: double would lose them.
      std::vector<std::uint64_t> values(static_cast<std::size_t>(out.size()));
      const auto read = [&](std::size_t operand, std::int64_t i) {
        const Array& array = in[operand];
        if (array.dtype() == DType::i64)
          return static_cast<std::uint64_t>(array.as<std::int64_t>()[static_cast<std::size_t>(i)]);
        if (array.dtype() == DType::u64) return array.as<std::uint64_t>()[static_cast<std::size_t>(i)];
        return static_cast<std::uint64_t>(static_cast<std::int64_t>(array.at(i)));
      };
      product(at, in, out.shape(), read, values);
      for (std::size_t i = 0; i < values.size(); ++i) {
        switch (out.dtype()) {
          case DType::i32: out.as<std::int32_t>()[i] = static_cast<std::int32_t>(values[i]); break;
          case DType::u32: out.as<std::uint32_t>()[i] = static_cast<std::uint32_t>(values[i]); break;
          case DType::i64: out.as<std::int64_t>()[i] = static_cast<std::int64_t>(values[i]); break;
          default: out.as<std::uint64_t>()[i] = values[i];
        }
      }
      return;
    }
    std::vector<std::vector<double>> operands;
    for (const auto& array : in) operands.push_back(to_doubles(array));
    std::vector<double> values(static_cast<std::size_t>(out.size()));
    product(
        at, in, out.shape(),
        [&](std::size_t operand, std::int64_t i) { return operands[operand][static_cast<std::size_t>(i)]; }, values);
    for (std::size_t i = 0; i < values.size(); ++i) out.set(static_cast<std::int64_t>(i), values[i]);
  }

  static Extent depth(const Attributes& at, std::span<const TensorType> in) {
    return last(in[0], at.transpose_a ? 2 : 1);
  }
  static Tolerance tolerance(const Attributes& at, std::span<const TensorType> in) {
    return sum_tolerance(in[0].dtype, depth(at, in));
  }
  static Extent flops(const Attributes& at, std::span<const TensorType> in, std::span<const TensorType> out) {
    return Extent(2) * depth(at, in) * out[0].element_count();
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> rows = {{{"M", 1}}, {{"M", 7}}, {{"M", 18}}};
    const std::vector<SymbolValues> all = {
        {{"M", 1}, {"N", 1}, {"K", 1}}, {{"M", 5}, {"N", 19}, {"K", 7}}, {{"M", 8}, {"N", 32}, {"K", 33}}};
    return {
        {Json::object(), types({"f32[M,33]", "f32[33,37]", "f32[37]"}), rows},
        {{{"transpose_b", true}}, types({"f32[M,24]", "f32[17,24]", "f32[17]"}), rows},
        {{{"transpose_a", true}}, types({"f32[19,M]", "f32[19,16]"}), rows},
        {Json::object(), types({"f32[2,3,M,K]", "f32[2,3,K,N]"}), all},
        {{{"transpose_b", true}}, types({"f32[3,M,K]", "f32[2,1,N,K]"}), all},
        {{{"transpose_a", true}, {"transpose_b", true}}, types({"f32[K,M]", "f32[N,K]", "f32[M,1]"}), all},
        {Json::object(), types({"f32[2,M,16]", "f32[16,48]", "f32[48]"}), rows},
        over_all_bytes({Json::object(), types({"u8[M,19]", "i8[19,33]", "i32[33]"}), rows}),
        over_all_bytes({Json::object(), types({"i8[M,24]", "i8[24,16]"}), rows}),
        over_all_bytes({{{"transpose_b", true}}, types({"u8[M,K]", "u8[N,K]", "i32[M,1]"}), all}),
        over_all_bytes({{{"transpose_a", true}}, types({"i8[21,M]", "i8[21,40]", "i32[40]"}), rows}),
        over_all_bytes({Json::object(), types({"u8[2,M,K]", "i8[2,K,24]"}), all}),
        {Json::object(), types({"i64[3,5]", "i64[5,4]"})},
        {Json::object(), types({"f16[5,9]", "f16[9,17]", "f16[17]"})},
        {Json::object(), types({"bf16[4,9]", "bf16[9,16]"})},
        {Json::object(), types({"bf16[4,9]", "bf16[9,17]", "f32[17]"})},
        {Json::object(), types({"f64[4,9]", "f64[9,11]"})},
    };
  }
};

}  // namespace

std::vector<std::string> matrix_dimensions(int rank, const char* rows, const char* columns) {
  std::vector<std::string> names;
  for (int d = rank - 2; d-- > 0;) names.push_back(d == 0 ? "b" : fmt::format("b{}", d));
  names.insert(names.end(), {rows, columns});
  return names;
}

const Operator& matmul() {
  static const Erased<Matmul> op;
  return op;
}

}  // namespace heddle::ops
