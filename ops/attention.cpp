#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/math.hpp"
#include "ops/rules.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct Attention {
  static constexpr auto name = "attention";
  static constexpr auto summary =
      "softmax(scale q k^T + mask) v for each batch and head; k and v may have fewer heads, each for a group of q's; "
      "rows whose logits are all -inf give zeros";
  static constexpr auto kind = OperatorKind::contraction;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (double, scale));
    Attributes() : scale(0) {}  ///< 0: one over the square root of q's last extent
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, queries), (Halide::Func, swap0), (Halide::Func, swap1),
                             (Halide::Func, swap2), (Halide::Func, columns), (Halide::Func, keys),
                             (Halide::Func, values), (Halide::Func, scores), (Halide::Func, logits),
                             (Halide::Func, max), (Halide::Func, exp), (Halide::Func, sum), (Halide::Func, inverse),
                             (Halide::Func, acc), (Halide::Func, out));
  };

  /// blocks: for vectors of query rows. `queries` (scaled) become `columns`, rows innermost, by `swap0` to `swap2`, a
  /// network that transposes 8 x 8 elements in registers; everything up to `sum` has the rows as lanes, so that no step
  /// is horizontal and the number of keys may be odd. `keys` and `values` are a head's own, dense. Every stage can be
  /// asked for rows and columns beyond the ends, so that whole tiles can be computed and only `out` needs guards.
  static std::vector<std::string> variants(const Attributes&, std::span<const TensorType>) {
    return {"direct", "blocks"};
  }

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType> in) {
    std::vector<OperandInfo> infos = {
        {"q", {"b", "h", "m", "d"}}, {"k", {"b", "h", "n", "d"}}, {"v", {"b", "h", "n", "e"}}};
    if (in.size() > 3) infos.push_back({"mask"});
    return infos;
  }
  static std::vector<std::string> dimensions(const Attributes&, std::span<const TensorType>) {
    return {"b", "h", "m", "e"};
  }

  static TensorType infer(const Attributes& at, std::span<const TensorType> in) {
    require_operands(in, 3, 4, "q, k, v and optionally mask");
    for (std::size_t i = 0; i < in.size(); ++i)
      require(is_float(in[i].dtype) && in[i].dtype == in[0].dtype,
              "operand {} is {}, q is {}: all must be the same float", i, to_string(in[i].dtype),
              to_string(in[0].dtype));
    for (std::size_t i = 0; i < 3; ++i)
      require(in[i].rank() == 4, "operand {} is {}: expected batch, heads, rows and columns", i, in[i].str());
    require(std::isfinite(at.scale), "the scale must be a finite number");
    const TensorType &q = in[0], &k = in[1], &v = in[2];
    for (const TensorType* other : {&k, &v}) require_equal(other->shape[0], q.shape[0], "batch");
    require_equal(v.shape[1], k.shape[1], "v's heads");
    require(k.shape[1] == q.shape[1] || (k.shape[1].is_constant() && mod(q.shape[1], k.shape[1].value()) == Extent(0)),
            "q's {} heads do not divide into groups for k's {}", q.shape[1].str(), k.shape[1].str());
    require_equal(k.shape[3], q.shape[3], "k's last extent");
    require_equal(v.shape[2], k.shape[2], "v's rows");
    if (in.size() > 3) {
      const TensorType logits{q.dtype, {q.shape[0], q.shape[1], q.shape[2], k.shape[2]}, {}};
      require(in[3].rank() <= 4, "the mask has rank {}, more than 4", in[3].rank());
      const std::vector<TensorType> both = {logits, in[3]};
      const auto shape = broadcast_shapes(both);
      for (std::size_t d = 0; d < shape.size(); ++d) require_equal(shape[d], logits.shape[d], "the mask, broadcast");
    }
    return {q.dtype, {q.shape[0], q.shape[1], q.shape[2], v.shape[3]}, {}};
  }

  static double scale(const Attributes& at, const Extent& depth) {
    return at.scale != 0 ? at.scale : 1 / std::sqrt(static_cast<double>(depth.value()));
  }

  static Expr factor(const Attributes& at, const Operand& q, Halide::Type type) {
    if (at.scale != 0) return Halide::Internal::make_const(type, at.scale);
    return q.type.shape[3].is_constant() ? Halide::Internal::make_const(type, scale(at, q.type.shape[3]))
                                         : 1 / Halide::sqrt(Halide::cast(type, q.extents[3]));
  }

  /// The head of k and v that a head of q reads.
  static Expr shared_head(const Algorithm& a, const Expr& h) {
    const Extent &heads = a.in[0].type.shape[1], &shared = a.in[1].type.shape[1];
    return shared == heads ? h : h / a.extent(floor_div(heads, shared.value()));
  }

  /// Of a row whose logits are all -inf the exponentials are 0, and their sum; of any other the sum is at least 1.
  static Expr divisor(const Expr& sum) { return Halide::max(sum, Halide::Internal::make_const(sum.type(), 0.5)); }

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    if (a.variant == "blocks") return define_blocks(at, a, s);
    const Operand &q = a.in[0], &k = a.in[1], &v = a.in[2];
    const Halide::Var b = a.loops[0], h = a.loops[1], m = a.loops[2], e = a.loops[3], n("n");
    const Halide::Type type = accumulator(q.func.type());
    const bool wide = type.bits() == 64;
    const Reduction depth = a.reduce({{"d", q.extents[3]}});
    const Expr d = depth["d"], shared = shared_head(a, h);
    s.scores(n, m, h, b) = Halide::cast(type, 0);
    s.scores(n, m, h, b) += Halide::cast(type, q.at({b, h, m, d})) * Halide::cast(type, k.at({b, shared, n, d}));
    Expr logit = s.scores(n, m, h, b) * factor(at, q, type);
    if (a.in.size() > 3) logit += Halide::cast(type, a.in[3].broadcast({b, h, m, n}));
    s.logits(n, m, h, b) = logit;
    const Reduction highest = a.reduce({{"rn", k.extents[2]}}), total = a.reduce({{"rn", k.extents[2]}}),
                    rows = a.reduce({{"n", k.extents[2]}});
    s.max(m, h, b) = lowest(type);
    s.max(m, h, b) = Halide::max(s.max(m, h, b), s.logits(highest["rn"], m, h, b));
    const Expr difference = s.logits(n, m, h, b) - s.max(m, h, b);
    s.exp(n, m, h, b) = wide ? Halide::exp(difference) : math::exp(difference);
    s.sum(m, h, b) = Halide::cast(type, 0);
    s.sum(m, h, b) += s.exp(total["rn"], m, h, b);
    s.acc(e, m, h, b) = Halide::cast(type, 0);
    s.acc(e, m, h, b) += s.exp(rows["n"], m, h, b) * Halide::cast(type, v.at({b, shared, rows["n"], e}));
    s.out(a.arguments()) = Halide::cast(q.func.type(), s.acc(e, m, h, b) / divisor(s.sum(m, h, b)));
  }

  /// Finite: -inf less it is -inf, not NaN.
  static Expr lowest(Halide::Type type) {
    return Halide::Internal::make_const(
        type, type.bits() == 64 ? std::numeric_limits<double>::lowest() : std::numeric_limits<float>::lowest());
  }

  static void define_blocks(const Attributes& at, Algorithm& a, Stages& s) {
    const Operand &q = a.in[0], &k = a.in[1], &v = a.in[2];
    const Halide::Var b = a.loops[0], h = a.loops[1], m = a.loops[2], e = a.loops[3], n("n"), d("d");
    const Halide::Var l("l"), i("i"), mb("mb"), db("db");
    const Halide::Type type = accumulator(q.func.type());
    const Expr shared = shared_head(a, h);
    s.queries(d, m, h, b) = Halide::cast(type, q.nearest({b, h, m, d})) * factor(at, q, type);
    // Row j of a block is half of a vector of two rows. Three rounds of interleaving row i with row i + 4 rotate the 6
    // bits of an element's number by 3: they swap row and column.
    constexpr int edge = 8;
    const auto interleave = [&](Halide::Func& to, const auto& row) {
      to(l, i, mb, db, h, b) = Halide::select(l % 2 == 0, row(l / 2, i), row(l / 2, i + edge / 2));
    };
    const auto row_of = [&](const Halide::Func& from, const Expr& mb_at, const Expr& db_at) {
      return [=](const Expr& lane, const Expr& j) { return from(lane + edge * (j % 2), j / 2, mb_at, db_at, h, b); };
    };
    interleave(s.swap0,
               [&](const Expr& lane, const Expr& j) { return s.queries(lane + edge * db, j + edge * mb, h, b); });
    interleave(s.swap1, row_of(s.swap0, mb, db));
    interleave(s.swap2, row_of(s.swap1, mb, db));
    s.columns(m, d, h, b) = row_of(s.swap2, m / edge, d / edge)(m % edge, d % edge);
    s.keys(d, n, h, b) = Halide::cast(type, k.nearest({b, shared, n, d}));
    s.values(e, n, h, b) = Halide::cast(type, v.nearest({b, shared, n, e}));

    const Reduction depth = a.reduce({{"d", q.extents[3]}});
    s.scores(m, n, h, b) = Halide::cast(type, 0);
    s.scores(m, n, h, b) += s.columns(m, depth["d"], h, b) * s.keys(depth["d"], n, h, b);
    Expr logit = s.scores(m, n, h, b);
    if (a.in.size() > 3) {
      const Operand& mask = a.in[3];
      const std::vector<Expr> all = {b, h, m, n};
      std::vector<Expr> index;
      for (std::size_t at_dim = 0; at_dim < mask.extents.size(); ++at_dim)
        index.push_back(mask.type.shape[at_dim] == Extent(1) ? Expr(0)
                                                             : all[all.size() - mask.extents.size() + at_dim]);
      logit += Halide::cast(type, mask.nearest(index));
    }
    s.logits(m, n, h, b) = logit;
    const Reduction highest = a.reduce({{"rn", k.extents[2]}}), total = a.reduce({{"rn", k.extents[2]}}),
                    rows = a.reduce({{"n", k.extents[2]}});
    s.max(m, h, b) = lowest(type);
    s.max(m, h, b) = Halide::max(s.max(m, h, b), s.logits(m, highest["rn"], h, b));
    const Expr difference = s.logits(m, n, h, b) - s.max(m, h, b);
    s.exp(m, n, h, b) = type.bits() == 64 ? Halide::exp(difference) : math::exp_of_nonpositive(difference);
    s.sum(m, h, b) = Halide::cast(type, 0);
    s.sum(m, h, b) += s.exp(m, total["rn"], h, b);
    s.inverse(m, h, b) = 1 / divisor(s.sum(m, h, b));
    s.acc(e, m, h, b) = Halide::cast(type, 0);
    s.acc(e, m, h, b) += s.exp(m, rows["n"], h, b) * s.values(e, rows["n"], h, b);
    s.out(a.arguments()) = Halide::cast(q.func.type(), s.acc(e, m, h, b) * s.inverse(m, h, b));
  }

  static void reference(const Attributes& at, std::span<const Array> in, Array& out) {
    const Shape &q = in[0].shape(), &v = in[2].shape();
    const std::int64_t keys = v[2], depth = q[3];
    const double factor = scale(at, depth);
    std::vector<double> logits(static_cast<std::size_t>(keys));
    for (std::int64_t row = 0; row < q[0] * q[1] * q[2]; ++row) {
      const std::int64_t head = row / q[2];
      const std::int64_t shared = head / q[1] * v[1] + head % q[1] / (q[1] / v[1]);
      double largest = -std::numeric_limits<double>::infinity(), sum = 0;
      for (std::int64_t n = 0; n < keys; ++n) {
        double score = 0;
        for (std::int64_t d = 0; d < depth; ++d)
          score += in[0].at(row * depth + d) * in[1].at((shared * keys + n) * depth + d);
        score *= factor;
        if (in.size() > 3) score += in[3].at(masked(in[3].shape(), {head / q[1], head % q[1], row % q[2], n}));
        logits[static_cast<std::size_t>(n)] = score;
        largest = std::fmax(largest, score);
      }
      const bool nothing = largest == -std::numeric_limits<double>::infinity();
      for (double& logit : logits) sum += logit = nothing ? 0 : std::exp(logit - largest);
      for (std::int64_t e = 0; e < v[3]; ++e) {
        double result = 0;
        for (std::int64_t n = 0; n < keys; ++n)
          result += logits[static_cast<std::size_t>(n)] * in[2].at((shared * keys + n) * v[3] + e);
        out.set(row * v[3] + e, nothing ? 0 : result / sum);
      }
    }
  }

  /// The element of a mask that broadcasts to an index.
  static std::int64_t masked(const Shape& shape, const std::vector<std::int64_t>& index) {
    std::int64_t at = 0;
    for (std::size_t d = 0; d < shape.size(); ++d)
      at = at * shape[d] + (shape[d] == 1 ? 0 : index[index.size() - shape.size() + d]);
    return at;
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType> in) {
    const Tolerance scores = sum_tolerance(in[0].dtype, in[0].shape.at(3));
    const Tolerance sums = sum_tolerance(in[0].dtype, in[2].shape.at(2));
    const double own = unit_roundoff(in[0].dtype == DType::f64 ? DType::f64 : DType::f32);
    return {.relative = sums.relative,
            // exp turns an error of a logit into one of its weight: logits up to 64 in size, each 2^-24 off and more.
            .of_largest = 64 * scores.of_largest + sums.of_largest + 64 * own,
            .special_values = SpecialValues::ignored,
            .reason = "two sums of products, and exp of what the first one has rounded"};
  }

  static Extent flops(const Attributes&, std::span<const TensorType> in, std::span<const TensorType> out) {
    const Extent scores = in[0].shape[0] * in[0].shape[1] * in[0].shape[2] * in[1].shape[2];
    return Extent(2) * scores * in[0].shape[3] + Extent(5) * scores +
           Extent(2) * out[0].element_count() * in[1].shape[2];
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> sizes = {{{"M", 1}, {"N", 1}}, {{"M", 5}, {"N", 19}}, {{"M", 16}, {"N", 33}}};
    return {
        {Json::object(), types({"f32[1,2,M,8]", "f32[1,2,N,8]", "f32[1,2,N,8]"}), sizes},
        {{{"scale", 0.25}}, types({"f32[2,1,M,7]", "f32[2,1,N,7]", "f32[2,1,N,12]", "f32[2,1,1,N]"}), sizes},
        {Json::object(), types({"f32[2,3,17,16]", "f32[2,3,40,16]", "f32[2,3,40,16]", "f32[17,40]"})},
        {Json::object(), types({"f32[1,6,33,24]", "f32[1,2,33,24]", "f32[1,2,33,24]", "f32[1,1,33,33]"})},
        {Json::object(), types({"f16[1,2,5,8]", "f16[1,2,9,8]", "f16[1,2,9,8]"})},
        {Json::object(), types({"bf16[1,2,5,8]", "bf16[1,2,9,8]", "bf16[1,2,9,8]", "bf16[5,9]"})},
        {Json::object(), types({"f64[1,1,3,5]", "f64[1,1,7,5]", "f64[1,1,7,3]"})},
    };
  }
};

}  // namespace

const Operator& attention() {
  static const Erased<Attention> op;
  return op;
}

}  // namespace heddle::ops
