#pragma once
#include <span>
#include <string>
#include <vector>

#include "dsl/operator.hpp"
#include "dsl/packing.hpp"
#include "dsl/pipeline.hpp"
#include "dsl/schedule.hpp"

namespace heddle {

/// What one kernel computes: an anchor operator with the elementwise and movement operators around it composed in.
/// Values are numbered: the inputs first, then each node's outputs in order.
struct Composition {
  struct Input {
    TensorType type;        ///< as it lies in memory, before packing
    bool constant = false;  ///< known at compile time: packing it costs nothing at run time
  };
  struct Node {
    const Operator* op = nullptr;
    Json attributes;            ///< canonical
    std::vector<int> operands;  ///< values
  };
  std::vector<Input> inputs;
  std::vector<Node> nodes;   ///< in dependence order
  int anchor = 0;            ///< index into nodes; its loops are `out`'s loops
  std::vector<int> outputs;  ///< values; the first is the role `out`, further ones are `out1`, `out2`...
  std::vector<Layout> output_layouts;
  SymbolRanges symbols;  ///< of every symbol in the types
  int threads = 1;       ///< how many the schedule should feed
  bool exact = false;    ///< only variants that round no more than the plain sums: not Winograd's
};

/// A dimension of a kernel's buffer argument, as Halide numbers them.
struct BufferDimension {
  Extent min, extent, stride;
  bool operator==(const BufferDimension&) const = default;
};

/// A kernel's buffer argument: what the caller must pass.
struct BufferView {
  std::string role;
  DType dtype = DType::f32;
  std::vector<BufferDimension> dimensions;  ///< innermost index first (Halide's order)
  Extent offset;                            ///< elements from the allocation's start to the element at every min
  Extent elements;                          ///< allocated
};

/// What the oracle says of a workload's outputs.
struct Expectation {
  std::vector<Array> outputs;
  /// Of each output: the largest finite magnitude that its errors are relative to, which is its own or, where errors
  /// are carried on, that of a value before it.
  std::vector<double> largest;
};

/// The unit of compiling, tuning, testing and measuring: {pipeline factory, types, oracle, canonical text}.
class Workload {
 public:
  /// Checks and infers every type; throws Error with the node that does not fit.
  explicit Workload(Composition composition);

  /// A single operator. `constants`: indices of operands known at compile time (default: those the operator says).
  static Workload of(const Operator& op, const Json& attributes, std::vector<TensorType> inputs,
                     SymbolRanges symbols = {}, int threads = 1);

  const Composition& composition() const { return composition_; }
  const Composition::Node& anchor() const { return composition_.nodes[static_cast<std::size_t>(composition_.anchor)]; }
  const std::vector<TensorType>& value_types() const { return types_; }  ///< inputs, then nodes' outputs
  std::vector<TensorType> anchor_inputs() const;
  TensorType anchor_output() const;
  const std::vector<OperandInfo>& inputs() const { return inputs_; }  ///< roles: the anchor's own, others e0, e1...
  const TensorType& input_type(std::string_view role) const;          ///< throws Error{not_found}
  bool has_input(std::string_view role) const;
  std::vector<TensorType> output_types() const;                               ///< with their layouts
  const std::vector<std::string>& dimensions() const { return dimensions_; }  ///< of `out`, logical order
  std::vector<std::string> symbols() const;                                   ///< sorted

  /// Canonical: equal texts mean the same work. Operators, attributes, types with layouts, symbols with ranges,
  /// threads.
  const std::string& text() const { return text_; }
  std::string name() const;  ///< short, for people: "conv+add+relu"

  /// A fresh pipeline in the given form; apply() then schedules it.
  Pipeline instantiate(const std::string& variant = "direct", const std::vector<Packing>& packings = {}) const;
  Pipeline instantiate(const Implementation& implementation, std::string_view file = "schedule") const;

  std::vector<BufferView> input_views(const std::vector<Packing>& packings = {}) const;
  std::vector<BufferView> output_views() const;

  /// The oracle: every node's double reference in turn. Arrays are logical, row-major; symbols come from their shapes,
  /// those that no shape gives away from `symbols`.
  Expectation expect(std::span<const Array> inputs, const SymbolValues& symbols = {}) const;
  std::vector<Array> reference(std::span<const Array> inputs, const SymbolValues& symbols = {}) const {
    return expect(inputs, symbols).outputs;
  }
  Tolerance tolerance(std::string_view variant = "direct") const;  ///< the sum over the nodes, the anchor in a variant
  Extent flops() const;
  Extent bytes() const;  ///< each input and output once

 private:
  Composition composition_;
  std::vector<TensorType> types_;
  std::vector<OperandInfo> inputs_;
  std::vector<std::string> dimensions_;
  std::string text_;
};

/// Binds symbols by matching symbolic types against actual shapes, beside those known already; throws
/// Error{invalid_argument} where they differ.
SymbolValues bind_symbols(std::span<const TensorType> types, std::span<const Shape> shapes, SymbolValues symbols = {});

/// Where two tensors first differ by more than the tolerance; empty if nowhere. Infinities must be equal, NaN meets NaN
/// (unless special values are ignored: then those elements are skipped). `largest`: where a value before `want` was
/// larger than any of its own.
std::string mismatch(const Array& got, const Array& want, const Tolerance& tolerance, double largest = 0);

}  // namespace heddle
