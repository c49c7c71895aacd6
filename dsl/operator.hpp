#pragma once
#include <concepts>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <Halide.h>
#include <nlohmann/json.hpp>

#include "base/array.hpp"
#include "base/error.hpp"
#include "dsl/reflect.hpp"
#include "dsl/tensor.hpp"

// What an operator's author writes, and the erased form that everything else consumes.
//
//   struct Relu {
//     static constexpr auto name = "relu";
//     static constexpr auto summary = "max(x, 0)";
//     static constexpr auto kind = OperatorKind::elementwise;
//     struct Attributes { BOOST_HANA_DEFINE_STRUCT(Attributes); };
//     struct Stages { BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, out)); };
//     static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }
//     static TensorType infer(const Attributes&, std::span<const TensorType> in) { return in[0]; }
//     static void define(const Attributes&, Algorithm& a, Stages& s) { ... }
//     static void reference(const Attributes&, std::span<const Array> in, Array& out) { ... }
//     static Tolerance tolerance(const Attributes&, std::span<const TensorType>) { return {...}; }
//     static std::vector<Case> cases() { ... }
//   };
//   const Operator& relu() { static const Erased<Relu> op; return op; }
namespace heddle {

using Json = nlohmann::json;

/// The element type of a dtype in a kernel. Booleans are UInt(8), 0 or 1: vectors of bits are slow and fragile.
/// Throws Error{unsupported} for strings.
Halide::Type halide_type(DType type);

/// How an operator treats its output's elements, which decides what may be fused with it and how it is laid out.
enum class OperatorKind {
  elementwise,  ///< out[i] depends on the operands' elements at i (broadcast) alone
  movement,     ///< out's elements are some operand's elements, elsewhere: transpose, concat, slice, pad, gather
  reduction,    ///< along whole dimensions: reduce, softmax, normalisation
  window,       ///< over a neighbourhood: convolution, pooling, resize
  contraction,  ///< matrix products
};

/// What a float operator promises for +-inf, NaN and -0 in its input. Halide assumes that floats are finite: an exact
/// operator needs is_nan, is_inf or bit patterns.
enum class SpecialValues { exact, ignored };

/// How large an operand's error arrives in the result: it decides which values of_largest of a Tolerance is relative
/// to.
enum class OperandErrors {
  with_values,  ///< as much smaller or larger as the values
  whole,        ///< though the result may be small: clips and other activations, sums
  scaled,       ///< by the other operands' values, which need not be small where the result is: products
};

/// |got - want| <= relative * |want| + of_largest * max|want|; integers and moved data have all zeros.
struct Tolerance {
  double relative = 0;
  double of_largest = 0;
  OperandErrors operand_errors = OperandErrors::with_values;
  SpecialValues special_values = SpecialValues::exact;
  std::string reason;  ///< why this much: operation counts, library function errors
};

/// Where a test draws an operand's elements: uniform in [low, high], with the extremes sprinkled in.
struct ValueDomain {
  double low = -4;
  double high = 4;
  std::vector<double> extremes;
};

/// Every float domain holds these; an operator that ignores special values is tested without them.
const std::vector<double>& float_extremes();  ///< +-inf, NaN, -0, the largest and smallest normal floats

/// One test: attributes, operand types (extents may be symbolic: then one compilation serves all bindings) and domains
/// (per operand; missing ones take the default).
struct Case {
  Json attributes = Json::object();
  std::vector<TensorType> inputs;
  std::vector<SymbolValues> bindings = {};
  std::vector<ValueDomain> domains = {};
};

/// A form other than the plain one in which an operand known at compile time may be stored: values computed from the
/// operand's own beforehand, such as a convolution's weights in Winograd's domain. `pack w winograd4 co:16` asks for
/// it.
struct OperandForm {
  std::string name;
  std::vector<std::string> dimensions;     ///< as OperandInfo's, of the form
  std::vector<std::string> packing_order;  ///< as OperandInfo's, of the form
  std::function<std::vector<Extent>(const std::vector<Extent>& shape)> shape;
  std::function<Array(const Array&)> compute;  ///< row-major to row-major; the form may have a dtype of its own
};

struct OperandInfo {
  std::string role;                          ///< x, w, b...
  std::vector<std::string> dimensions = {};  ///< names, logical order; empty: the default ones
  /// The order of dimensions in a packed operand's memory, innermost first; empty: the operand cannot be packed.
  std::vector<std::string> packing_order = {};
  bool constant = false;  ///< usually known at compile time, so packing costs nothing at run time
  std::vector<OperandForm> forms = {};
};

/// An operand as an algorithm sees it.
struct Operand {
  Halide::Func func;  ///< arguments: the last logical dimension first
  TensorType type;
  std::vector<Halide::Expr> extents;  ///< logical order

  /// Elements along each dimension that memory holds from element 0 on: more than `extents` where packing pads.
  std::vector<Halide::Expr> readable;

  Halide::Expr at(const std::vector<Halide::Expr>& logical_index) const;

  /// As `at`, and some element of the same row where an index lies outside: a tile of a result may reach beyond its
  /// end.
  Halide::Expr nearest(std::vector<Halide::Expr> logical_index) const;

  /// The element that broadcasts to `logical_index` of a result with at least this operand's rank (NumPy's rule).
  Halide::Expr broadcast(const std::vector<Halide::Expr>& logical_index) const;

  /// How far the operand may be read before element 0 and after the last along a dimension: its border.
  Border border(int dim) const { return type.border(dim); }
};

/// Named reduction dimensions: `r["ci"]`.
class Reduction {
 public:
  struct Dimension {
    std::string name;
    Halide::Expr extent;
  };
  /// `name`: Halide's of the domain. Two reductions of one pipeline need two.
  explicit Reduction(const std::vector<Dimension>& innermost_first, const std::string& name = "r");
  Halide::RVar operator[](std::string_view name) const;
  const Halide::RDom& domain() const { return domain_; }
  const std::map<std::string, std::string>& names() const { return names_; }  ///< Halide's name -> ours

 private:
  Halide::RDom domain_;
  std::map<std::string, std::string> names_;
};

/// What `define` builds with.
class Algorithm {
 public:
  std::vector<Operand> in;
  std::vector<TensorType> out;
  std::string variant = "direct";
  /// out's dimensions, logical order. An operator's `out` must be defined over exactly these, last one first:
  /// s.out(a.arguments()) = ...
  std::vector<Halide::Var> loops;

  std::vector<Halide::Var> arguments() const;     ///< loops, last first
  std::vector<Halide::Expr> index() const;        ///< loops as expressions, logical order
  Halide::Expr extent(const Extent& e) const;     ///< over the kernel's symbol parameters
  Halide::Var loop(std::string_view name) const;  ///< the loop of that name; throws Error{internal}
  /// Names the reduction's variables for schedules. Innermost first.
  Reduction reduce(const std::vector<Reduction::Dimension>& innermost_first);

  // For the builder of pipelines.
  int reductions = 0;
  std::vector<Halide::Param<int>> symbols;
  std::map<std::string, std::string> reduction_names;
};

/// A stage that `define` made, under its struct member's name.
struct DefinedStage {
  std::string role;
  Halide::Func func;
};

/// Which memory order an operator works best in; the layout pass weighs it.
enum class LayoutPreference {
  any,            ///< follows its operands
  channels_last,  ///< data operands and result of rank >= 3
  row_major,
};

/// The erased operator. Immutable, lives for the whole process.
class Operator {
 public:
  virtual ~Operator() = default;
  virtual std::string_view name() const = 0;
  virtual std::string_view summary() const = 0;
  virtual OperatorKind kind() const = 0;
  virtual LayoutPreference layout() const = 0;
  virtual std::vector<reflect::MemberInfo> attributes() const = 0;
  /// Defaults filled in; unknown members and wrong types are an Error{invalid_argument} with the near names.
  virtual Json canonical(const Json& attributes) const = 0;
  virtual std::vector<OperandInfo> operands(const Json& attributes, std::span<const TensorType> in) const = 0;
  /// Names of out's dimensions, logical order.
  virtual std::vector<std::string> dimensions(const Json& attributes, std::span<const TensorType> in) const = 0;
  virtual std::vector<std::string> variants(const Json& attributes, std::span<const TensorType> in) const = 0;
  /// The type rule; throws Error{invalid_argument} naming the operand and what does not fit. Layouts are not its
  /// business.
  virtual std::vector<TensorType> infer(const Json& attributes, std::span<const TensorType> in) const = 0;
  virtual std::vector<DefinedStage> define(const Json& attributes, Algorithm& algorithm) const = 0;
  /// In double where the dtype is floating. `in` and `out` are static; out is allocated.
  virtual void reference(const Json& attributes, std::span<const Array> in, std::span<Array> out) const = 0;
  virtual Tolerance tolerance(const Json& attributes, std::span<const TensorType> in) const = 0;
  /// A variant may round more than another: Winograd's convolution does.
  virtual Tolerance tolerance_of(std::string_view /*variant*/, const Json& attributes,
                                 std::span<const TensorType> in) const {
    return tolerance(attributes, in);
  }
  virtual std::vector<Case> cases() const = 0;
  /// A multiply and an add count as two; 0 for movement.
  virtual Extent flops(const Json& attributes, std::span<const TensorType> in,
                       std::span<const TensorType> out) const = 0;

  /// The attributes with symbols in their extents replaced: a slice's start `W - 1` becomes 6 where W is 7.
  Json bind(const Json& attributes, const std::map<std::string, Extent>& replacements) const;

  /// infer, then reference, on fresh arrays: constant folding and tests.
  std::vector<Array> evaluate(const Json& attributes, std::span<const Array> in) const;
};

/// Types of static arrays, row-major.
std::vector<TensorType> types_of(std::span<const Array> arrays);

/// NumPy's broadcasting; throws Error{invalid_argument} naming both shapes. Symbolic extents broadcast if equal, or if
/// one of them is 1.
std::vector<Extent> broadcast_shapes(std::span<const TensorType> in);

/// Makes an operator's struct into an Operator. Members that T may leave out: `layout`, `dimensions`, `variants`,
/// `flops`, `outputs`.
template <class T>
class Erased final : public Operator {
  using Attributes = typename T::Attributes;
  static Attributes parse(const Json& attributes) {
    return reflect::from_json<Attributes>(attributes, std::string("attributes of ") + T::name);
  }

 public:
  std::string_view name() const override { return T::name; }
  std::string_view summary() const override { return T::summary; }
  OperatorKind kind() const override { return T::kind; }
  LayoutPreference layout() const override {
    if constexpr (requires { T::layout; }) return T::layout;
    else if constexpr (T::kind == OperatorKind::window) return LayoutPreference::channels_last;
    else return LayoutPreference::any;
  }
  std::vector<reflect::MemberInfo> attributes() const override { return reflect::describe<Attributes>(); }
  Json canonical(const Json& attributes) const override { return reflect::to_json(parse(attributes)); }
  std::vector<OperandInfo> operands(const Json& attributes, std::span<const TensorType> in) const override {
    return T::operands(parse(attributes), in);
  }
  std::vector<std::string> dimensions(const Json& attributes, std::span<const TensorType> in) const override {
    if constexpr (requires(Attributes a) { T::dimensions(a, in); }) return T::dimensions(parse(attributes), in);
    else return default_dimensions(infer(attributes, in)[0].rank());
  }
  std::vector<std::string> variants(const Json& attributes, std::span<const TensorType> in) const override {
    if constexpr (requires(Attributes a) { T::variants(a, in); }) return T::variants(parse(attributes), in);
    else return {"direct"};
  }
  std::vector<TensorType> infer(const Json& attributes, std::span<const TensorType> in) const override {
    try {
      if constexpr (std::same_as<decltype(T::infer(Attributes{}, in)), TensorType>)
        return {T::infer(parse(attributes), in)};
      else return T::infer(parse(attributes), in);
    } catch (const Error& e) {
      throw e.within(std::string("the type rule of ") + T::name);
    }
  }
  std::vector<DefinedStage> define(const Json& attributes, Algorithm& algorithm) const override {
    typename T::Stages stages;
    reflect::for_each_member(
        stages, [](const char* role, Halide::Func& f) { f = Halide::Func(std::string(T::name) + "_" + role); });
    T::define(parse(attributes), algorithm, stages);
    std::vector<DefinedStage> defined;
    reflect::for_each_member(stages, [&](const char* role, Halide::Func& f) {
      if (f.defined()) defined.push_back({role, f});
    });
    return defined;
  }
  void reference(const Json& attributes, std::span<const Array> in, std::span<Array> out) const override {
    if constexpr (requires(Attributes a) { T::reference(a, in, out[0]); }) T::reference(parse(attributes), in, out[0]);
    else T::reference(parse(attributes), in, out);
  }
  Tolerance tolerance(const Json& attributes, std::span<const TensorType> in) const override {
    return T::tolerance(parse(attributes), in);
  }
  Tolerance tolerance_of(std::string_view variant, const Json& attributes,
                         std::span<const TensorType> in) const override {
    if constexpr (requires(Attributes a) { T::tolerance_of(variant, a, in); })
      return T::tolerance_of(variant, parse(attributes), in);
    else return tolerance(attributes, in);
  }
  std::vector<Case> cases() const override { return T::cases(); }
  Extent flops(const Json& attributes, std::span<const TensorType> in, std::span<const TensorType> out) const override {
    if constexpr (requires(Attributes a) { T::flops(a, in, out); }) return T::flops(parse(attributes), in, out);
    else if constexpr (T::kind == OperatorKind::movement) return 0;
    else return out[0].element_count();
  }
};

}  // namespace heddle
