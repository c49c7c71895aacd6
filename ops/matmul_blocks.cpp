#include <cstring>

#include "ops/dot.hpp"
#include "ops/matrix.hpp"
#include "ops/reference.hpp"
#include "ops/rules.hpp"

namespace heddle::ops {
namespace {

using Halide::Expr;

struct MatmulBlocks {
  static constexpr auto name = "matmul_blocks";
  static constexpr auto summary =
      "products of rows with weights of few bits, in f32: b[n, block of k, byte] holds the weights of column n, low "
      "bits first, scale[n, block] what a step is worth, zero[n, block] (2^(bits - 1) if absent) which number is 0; c, "
      "if "
      "given, is added to every row";
  static constexpr auto kind = OperatorKind::contraction;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes, (std::int64_t, bits), (std::int64_t, block_size));
    Attributes() : bits(4), block_size(32) {}

    std::int64_t weights_in(std::int64_t holder_bits) const { return holder_bits / bits; }
    int in_word() const { return static_cast<int>(weights_in(32)); }
    int block() const { return static_cast<int>(block_size); }
    int words() const { return block() / in_word(); }  ///< of a block
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, a_tile), (Halide::Func, a_sum), (Halide::Func, b_tile),
                             (Halide::Func, part), (Halide::Func, acc), (Halide::Func, out));
  };

  /// words: for few rows. Weight number j of a 32-bit word of b's form is masked and converted where it stands, as
  /// q 2^(bits j), and multiplied with a_tile, which is a 2^-(bits j): no shift, no shuffle, nothing rounded. Zero
  /// points are multiplied with the sums of a's blocks, a_sum; `part` is a block's sum before the scale.
  /// panels: for many rows. b_tile is b as f32; it can be asked for k beyond the last block, and `acc` for rows beyond
  /// the last.
  static std::vector<std::string> variants(const Attributes&, std::span<const TensorType>) {
    return {"direct", "words", "panels"};
  }

  static std::vector<std::string> dimensions(const Attributes&, std::span<const TensorType> in) {
    return matrix_dimensions(in[0].rank(), "m", "n");
  }

  static bool is_zero(const TensorType& type) { return type.dtype == DType::u8; }
  static bool has_zero(std::span<const TensorType> in) { return in.size() > 3 && is_zero(in[3]); }

  /// Bytes as 32-bit words.
  static OperandForm words() {
    return {"words",
            {"n", "kw"},
            {"kw", "n"},
            [](const std::vector<Extent>& plain) {
              return std::vector<Extent>{plain[0], floor_div(plain[1] * plain[2], 4)};
            },
            [](const Array& plain) {
              Array result(DType::u32, {plain.shape()[0], plain.shape()[1] * plain.shape()[2] / 4});
              if (plain.bytes() != 0) std::memcpy(result.mutable_data(), plain.data(), plain.bytes());
              return result;
            }};
  }

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType> in) {
    std::vector<OperandInfo> all = {{"a", matrix_dimensions(in.empty() ? 2 : in[0].rank(), "m", "k")},
                                    {"b", {"n", "kb", "byte"}, {}, true, {words()}},
                                    {"scale", {"n", "kb"}, {"kb", "n"}, true}};
    if (has_zero(in)) all.push_back({"zero", {"n", "kb"}, {"kb", "n"}, true});
    if (in.size() > all.size()) all.push_back({"c", {"n"}, {"n"}, true});
    return all;
  }

  static TensorType infer(const Attributes& at, std::span<const TensorType> in) {
    require_operands(in, 3, 5, "a, b, scale and optionally zero and c");
    require(at.bits == 4 || at.bits == 8, "weights of {} bits are not among 4 and 8", at.bits);
    require(at.block_size >= 16 && at.block_size % at.in_word() == 0,
            "block_size {}: at least 16, and whole words of 32 bits", at.block_size);
    const TensorType &a = in[0], &b = in[1];
    require(a.dtype == DType::f32 && a.rank() >= 2, "a is {}: expected f32 of rank 2 or more", a.str());
    require(b.dtype == DType::u8 && b.rank() == 3, "b is {}: expected u8[n, blocks, bytes]", b.str());
    require(a.shape.back().is_constant() && b.is_static(), "the extents of b ({}) and of a's rows ({}) must be fixed",
            b.str(), a.str());
    require_equal(b.shape[1], ceil_div(a.shape.back(), at.block_size), "b's number of blocks");
    require_equal(b.shape[2], at.block_size * at.bits / 8, "bytes in a block of b");
    for (std::size_t i = 2; i < (has_zero(in) ? 4U : 3U); ++i) {
      require(i == 3 || in[i].dtype == DType::f32, "the scale is {}, expected f32", in[i].str());
      require(in[i].rank() == 2, "scale and zero have a number for each column and block, not {}", in[i].str());
      for (std::size_t d = 0; d < 2; ++d) require_equal(in[i].shape[d], b.shape[d], "scale's and zero's extents");
    }
    const std::size_t c = has_zero(in) ? 4 : 3;
    require(in.size() <= c + 1, "{} operands, but no zero point among them", in.size());
    if (in.size() > c) {
      require(in[c].dtype == DType::f32 && in[c].rank() == 1, "c is {}: expected f32[n]", in[c].str());
      require_equal(in[c].shape[0], b.shape[0], "c's extent");
    }
    TensorType out = tensor(DType::f32, a.shape);
    out.shape.back() = b.shape[0];
    return out;
  }

  /// An operator's operands by name, and what its loops are.
  struct Parts {
    const Attributes& at;
    Algorithm& a;
    Halide::Var m, n;
    std::vector<Halide::Var> batch;  ///< innermost first
    Expr depth;
    bool has_zero, has_c;

    Parts(const Attributes& attributes, Algorithm& algorithm)
        : at(attributes),
          a(algorithm),
          m(a.loops[a.loops.size() - 2]),
          n(a.loops.back()),
          batch(a.loops.rbegin() + 2, a.loops.rend()),
          depth(a.in[0].extents.back()),
          has_zero(a.in.size() > 3 && is_zero(a.in[3].type)),
          has_c(a.in.size() > (has_zero ? 4U : 3U)) {}

    /// The arguments of a stage that has the batch's dimensions outermost.
    template <class Argument>
    std::vector<Argument> with_batch(std::vector<Argument> own) const {
      own.insert(own.end(), batch.begin(), batch.end());
      return own;
    }
    std::vector<Expr> index(std::vector<Expr> own) const { return with_batch(std::move(own)); }
    std::vector<Halide::Var> variables(std::vector<Halide::Var> own) const { return with_batch(std::move(own)); }

    Expr row_element(const Expr& row, const Expr& k) const {
      std::vector<Expr> index(batch.rbegin(), batch.rend());
      index.insert(index.end(), {row, k});
      return a.in[0].at(index);
    }
    /// The same where blocks go on beyond the row's end: 0 there.
    Expr padded_element(const Expr& k) const {
      if (mod(a.in[0].type.shape.back(), at.block_size) == Extent(0)) return row_element(m, k);
      return Halide::select(k < depth, row_element(m, Halide::min(k, depth - 1)), 0.0f);
    }
    Expr blocks() const { return a.in[2].extents[1]; }
    Expr scale(const Expr& kb) const { return a.in[2].at({n, kb}); }
    Expr zero(const Expr& kb) const {
      if (has_zero) return Halide::cast<float>(Halide::cast<std::int32_t>(a.in[3].at({n, kb})));
      return static_cast<float>(1 << (at.bits - 1));
    }
    Expr with_c(const Expr& sum) const { return has_c ? sum + a.in.back().at({n}) : sum; }

    bool is_words() const { return a.in[1].type.rank() == 2; }

    /// Weight k of a column as it is stored. Of words some number where k lies beyond the last block.
    Expr weight(const Expr& k) const {
      const Operand& b = a.in[1];
      const int in_holder = static_cast<int>(at.weights_in(is_words() ? 32 : 8));
      const Expr holder = is_words() ? b.at({n, Halide::min(k / in_holder, b.extents[1] - 1)})
                                     : b.at({n, k / at.block(), k % at.block() / in_holder});
      const Halide::Type type = holder.type();
      const Expr shift = Halide::cast(type, k % in_holder * static_cast<int>(at.bits));
      const Expr mask = Halide::cast(type, (1 << at.bits) - 1);
      return Halide::cast<float>(Halide::cast<std::int32_t>(holder >> shift & mask));
    }
    Expr value(const Expr& k) const {
      const Expr kb = is_words() ? Expr(Halide::min(k / at.block(), blocks() - 1)) : k / at.block();
      return (weight(k) - zero(kb)) * scale(kb);
    }
  };

  static void define(const Attributes& at, Algorithm& a, Stages& s) {
    const Parts p(at, a);
    if (a.variant != "direct")
      require(a.in[1].type.dtype == DType::u32, "variant {} needs b's form of words: pack b words", a.variant);
    if (a.variant == "words") return define_words(p, s);
    const Reduction r = a.reduce({{"k", p.depth}});
    const Expr k = r["k"];
    s.acc(a.arguments()) = 0.0f;
    if (a.variant == "panels") {
      const Halide::Var of_b("k");
      s.b_tile(p.n, of_b) = p.value(of_b);
      const Expr rows = a.in[0].extents[a.in[0].extents.size() - 2];
      s.acc(a.arguments()) += p.row_element(Halide::min(p.m, rows - 1), k) * s.b_tile(p.n, k);
    } else {
      s.acc(a.arguments()) += p.row_element(p.m, k) * p.value(k);
    }
    s.out(a.arguments()) = p.with_c(s.acc(a.arguments()));
  }

  static void define_words(const Parts& p, Stages& s) {
    Algorithm& a = p.a;
    const int bits = static_cast<int>(p.at.bits), in_word = p.at.in_word(), words = p.at.words();
    const Halide::Var k("k"), kb("kb");
    const Expr last = k % in_word == in_word - 1;
    // The last weight of a word is shifted down instead: where it stands it would be the sign.
    const Expr unit = Halide::reinterpret<float>((127 - Halide::select(last, 0, k % in_word * bits)) << 23);
    s.a_tile(p.variables({k, p.m})) = p.padded_element(k) * unit;

    const Reduction block = a.reduce({{"k", p.at.block()}});
    s.a_sum(p.variables({kb, p.m})) = 0.0f;
    s.a_sum(p.variables({kb, p.m})) += p.padded_element(kb * p.at.block() + block["k"]);

    const Reduction r = a.reduce({{"j", in_word}, {"w", words}});
    const Expr j = r["j"], w = kb * words + r["w"];
    const Expr word = a.in[1].at({p.n, w});
    const Expr mask = Halide::cast<std::uint32_t>((1 << bits) - 1);
    const Expr weight =
        Halide::select(j == in_word - 1, word >> (32 - bits), word & (mask << Halide::cast<std::uint32_t>(j * bits)));
    const auto part = p.variables({p.n, p.m, kb});
    s.part(part) = -p.zero(kb) * s.a_sum(p.index({kb, p.m}));
    s.part(part) += s.a_tile(p.index({w * in_word + j, p.m})) * Halide::cast<float>(Halide::reinterpret<int>(weight));

    const Reduction all = a.reduce({{"kb", p.blocks()}});
    s.acc(a.arguments()) = 0.0f;
    s.acc(a.arguments()) += p.scale(all["kb"]) * s.part(p.index({p.n, p.m, all["kb"]}));
    s.out(a.arguments()) = p.with_c(s.acc(a.arguments()));
  }

  static void reference(const Attributes& at, std::span<const Array> in, Array& out) {
    const std::int64_t depth = in[0].shape().back(), columns = in[1].shape()[0], blocks = in[1].shape()[1];
    const std::int64_t rows = in[0].size() / depth, bytes = in[1].shape()[2];
    const bool has_zero = in.size() > 3 && in[3].dtype() == DType::u8, has_c = in.size() > (has_zero ? 4U : 3U);
    const std::vector<double> a = to_doubles(in[0]);
    const auto b = in[1].as<std::uint8_t>();
    std::vector<double> weights(static_cast<std::size_t>(depth));
    for (std::int64_t n = 0; n < columns; ++n) {
      for (std::int64_t k = 0; k < depth; ++k) {
        const std::int64_t block = n * blocks + k / at.block_size, bit = k % at.block_size * at.bits;
        const unsigned byte = b[static_cast<std::size_t>(block * bytes + bit / 8)];
        const unsigned q = byte >> bit % 8 & ((1U << at.bits) - 1);
        const double zero = has_zero ? in[3].at(block) : static_cast<double>(1 << (at.bits - 1));
        weights[static_cast<std::size_t>(k)] = (q - zero) * in[2].at(block);
      }
      for (std::int64_t m = 0; m < rows; ++m) {
        double sum = has_c ? in.back().at(n) : 0;
        for (std::int64_t k = 0; k < depth; ++k)
          sum += a[static_cast<std::size_t>(m * depth + k)] * weights[static_cast<std::size_t>(k)];
        out.set(m * columns + n, sum);
      }
    }
  }

  static Tolerance tolerance(const Attributes&, std::span<const TensorType> in) {
    Tolerance t = sum_tolerance(DType::f32, in[0].shape.back());
    t.of_largest *= 4;
    t.reason += "; times 4: products with numbers and with their zero point, each larger than with the difference";
    return t;
  }
  static Extent flops(const Attributes&, std::span<const TensorType> in, std::span<const TensorType> out) {
    return Extent(2) * in[0].shape.back() * out[0].element_count();
  }

  static std::vector<Case> cases() {
    const std::vector<SymbolValues> rows = {{{"M", 1}}, {{"M", 7}}, {{"M", 18}}};
    return {
        over_all_bytes({{{"bits", 4}, {"block_size", 32}},
                        types({"f32[M,64]", "u8[37,2,16]", "f32[37,2]", "u8[37,2]", "f32[37]"}),
                        rows}),
        over_all_bytes(
            {{{"bits", 8}, {"block_size", 16}}, types({"f32[M,41]", "u8[32,3,16]", "f32[32,3]", "f32[32]"}), rows}),
        over_all_bytes({{{"bits", 4}, {"block_size", 16}},
                        types({"f32[2,M,5]", "u8[1,1,8]", "f32[1,1]"}),
                        {{{"M", 1}}, {{"M", 3}}}}),
        over_all_bytes(
            {{{"bits", 8}, {"block_size", 64}}, types({"f32[3,128]", "u8[48,2,64]", "f32[48,2]", "u8[48,2]"})}),
    };
  }
};

}  // namespace

const Operator& matmul_blocks() {
  static const Erased<MatmulBlocks> op;
  return op;
}

}  // namespace heddle::ops
