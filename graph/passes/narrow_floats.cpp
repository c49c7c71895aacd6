#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.hpp"
#include "graph/arrays.hpp"
#include "graph/passes/passes.hpp"
#include "ops/catalog.hpp"

namespace heddle::graph {
namespace {

/// What starts numbers that are no measurements: positions, counts, floats made of integers.
bool makes_exact_floats(std::string_view op) {
  return op == "cast" || op == "dequantize" || op == "full" || op == "iota";
}

/// Sums and products of data may leave f16's range, and whole results be off by what one rounding is; they are small.
bool accumulates(std::string_view op) { return op.starts_with("reduce_") && op != "reduce_max" && op != "reduce_min"; }

/// What f16 may not hold though it holds the operands.
bool enlarges(std::string_view op) { return op == "exp" || op == "mul" || op == "pow"; }

class Narrowing {
 public:
  Narrowing(const Graph& from, DType narrow)
      : from_(from),
        to_(from),
        narrow_type_(narrow),
        producer_(from.producer()),
        consumers_(from.consumers()),
        is_exact_(from.values.size(), false),
        exceeds_(from.values.size(), false),
        is_made_(from.values.size(), false),
        narrow_(from.values.size(), -1),
        stays_(from.nodes.size(), false) {
    to_.nodes.clear();
    for (const int id : from.inputs) is_exact_[index(id)] = is_made_[index(id)] = true;
    for (std::size_t id = 0; id < from.values.size(); ++id)
      if (const auto& constant = from.values[id].constant) {
        is_made_[id] = true;
        exceeds_[id] = from.values[id].type.dtype == DType::f32 && has_beyond(*constant);
      }
  }

  Graph run() {
    for (std::size_t n = 0; n < from_.nodes.size(); ++n) decide_by_operands(n);
    for (std::size_t n = from_.nodes.size(); n-- > 0;) decide_by_readers(n);
    for (std::size_t n = 0; n < from_.nodes.size(); ++n)
      if (stays_[n]) keep(from_.nodes[n]);
      else narrow(from_.nodes[n]);
    for (const int id : from_.outputs) wide(id);
    name();
    return compact(to_);
  }

 private:
  static std::size_t index(int id) { return static_cast<std::size_t>(id); }
  bool is_f32(int id) const { return from_.value(id).type.dtype == DType::f32; }
  bool is_constant(int id) const { return from_.value(id).constant.has_value(); }

  bool is_beyond(double x) const { return std::isfinite(x) && std::abs(x) > largest_finite(narrow_type_); }
  bool has_beyond(const Array& array) const {
    for (std::int64_t i = 0; i < array.size(); ++i)
      if (is_beyond(array.at(i))) return true;
    return false;
  }

  /// The operands' types with f32 narrowed, but for those that are to stay so.
  std::vector<TensorType> operand_types(const Node& node, const std::vector<bool>& stay_f32) const {
    std::vector<TensorType> types;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      types.push_back(from_.value(node.inputs[i]).type);
      if (types.back().dtype == DType::f32 && !stay_f32[i]) types.back().dtype = narrow_type_;
    }
    return types;
  }

  /// What the type rule gives; nothing: it does not take these operands.
  std::vector<TensorType> inferred(const Node& node, const std::vector<bool>& stay_f32) const try {
    return node.op->infer(node.attributes, operand_types(node, stay_f32));
  } catch (const Error&) {
    return {};
  }

  bool gives_narrow(const Node& node, const std::vector<bool>& stay_f32) const {
    const auto types = inferred(node, stay_f32);
    return types.size() == node.outputs.size() &&
           std::ranges::any_of(types, [&](const TensorType& type) { return type.dtype == narrow_type_; });
  }

  /// A product without a sum: rotary embeddings multiply positions by frequencies so.
  bool is_outer_product(const Node& node) const {
    if (node.op->name() != "matmul") return false;
    const auto& shape = from_.value(node.inputs[0]).type.shape;
    return shape[shape.size() - (node.attributes.at("transpose_a").get<bool>() ? 2 : 1)] == Extent(1);
  }

  /// A transformer's running sum, which every layer adds to: in f32 what the first layers have found is not rounded
  /// again by each of the others, at the cost of few bytes beside the products' weights.
  bool is_residual_sum(const Node& node) const { return node.op->name() == "add" && is_normalised(node.outputs[0]); }
  bool is_normalised(int id) const {
    return std::ranges::any_of(consumers_[index(id)], [&](int n) {
      const Node& reader = from_.nodes[index(n)];
      return reader.op->name() == "layer_norm" || (reader.op->name() == "reshape" && is_normalised(reader.outputs[0]));
    });
  }

  bool is_look_up(const Node& node) const {
    return node.op->kind() == OperatorKind::movement && !node.inputs.empty() && is_constant(node.inputs[0]);
  }

  bool starts_data(const Node& node) const {
    const OperatorKind kind = node.op->kind();
    return (kind == OperatorKind::window || kind == OperatorKind::contraction) && !is_outer_product(node);
  }

  void decide_by_operands(std::size_t n) {
    const Node& node = from_.nodes[n];
    const std::string_view op = node.op->name();
    bool exact = true, data = false;  // whether all computed operands are exact, and whether there are any
    for (const int id : node.inputs) {
      if (!is_f32(id) || is_constant(id)) continue;
      data = true;
      exact = exact && is_exact_[index(id)];
    }
    const bool carries_on = data && exact && !starts_data(node);
    stays_[n] = makes_exact_floats(op) || accumulates(op) || carries_on || is_residual_sum(node) ||
                !gives_narrow(node, std::vector<bool>(node.inputs.size(), false));
    for (const int id : node.outputs) is_exact_[index(id)] = stays_[n];
    const bool exceeds = std::ranges::any_of(node.inputs, [&](int id) { return exceeds_[index(id)]; }) ||
                         (op == "full" && is_beyond(reflect::read_float(node.attributes.at("value"), op, "value")));
    const OperatorKind kind = node.op->kind();
    const bool hands_on = stays_[n] && (kind == OperatorKind::elementwise || kind == OperatorKind::movement);
    for (const int id : node.outputs) exceeds_[index(id)] = exceeds && hands_on && is_f32(id);
  }

  /// Nothing is gained by narrow results that other kernels read in f32. An output is no such reader: its cast is part
  /// of the kernel that makes it, which then rounds nothing.
  void decide_by_readers(std::size_t n) {
    const Node& node = from_.nodes[n];
    if (stays_[n] || starts_data(node) || is_look_up(node)) return;  // tables are large
    for (const int id : node.outputs) {
      const auto& readers = consumers_[index(id)];
      const bool is_output = std::ranges::find(from_.outputs, id) != from_.outputs.end();
      const bool all = !readers.empty() && !is_output && std::ranges::all_of(readers, [&](int reader) {
        const std::string_view op = from_.nodes[index(reader)].op->name();
        return stays_[index(reader)] && (!accumulates(op) || enlarges(node.op->name()));
      });
      if (!all) return;
    }
    stays_[n] = true;
  }

  void keep(const Node& node) {
    Node kept = node;
    for (const int id : node.inputs) wide(id);
    for (const int id : node.outputs) is_made_[index(id)] = true;
    to_.nodes.push_back(std::move(kept));
  }

  /// The value as the source has it, cast where only the narrow one is there.
  void wide(int id) {
    if (is_made_[index(id)]) return;
    is_made_[index(id)] = true;
    to_.nodes.push_back(cast_node(id, DType::f32, narrow_[index(id)], id));
  }

  void narrow(const Node& node) {
    std::vector<bool> stay_f32(node.inputs.size(), false);
    // Biases and the like are few: where the type rule takes them in f32, nothing is gained by rounding them.
    for (std::size_t i = 1; i < node.inputs.size(); ++i) {
      if (!is_f32(node.inputs[i]) || !is_constant(node.inputs[i])) continue;
      stay_f32[i] = true;
      stay_f32[i] = gives_narrow(node, stay_f32);
    }
    Node made = node;
    for (std::size_t i = 0; i < node.inputs.size(); ++i)
      if (is_f32(node.inputs[i]) && !stay_f32[i]) made.inputs[i] = narrow(node.inputs[i]);
      else wide(node.inputs[i]);
    const auto types = inferred(node, stay_f32);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      const int id = node.outputs[i];
      if (types[i].dtype == narrow_type_ && is_f32(id)) made.outputs[i] = narrow_[index(id)] = add_value(id);
      else is_made_[index(id)] = true;
    }
    to_.nodes.push_back(std::move(made));
  }

  int narrow(int id) {
    if (narrow_[index(id)] >= 0) return narrow_[index(id)];
    wide(id);
    if (const auto& constant = from_.value(id).constant) {
      const int made = add_value(id);
      to_.value(made).constant = narrowed(*constant, narrow_type_);
      return narrow_[index(id)] = made;
    }
    // A reshape takes no kernel, and that of its operand may cast.
    if (const int n = producer_[index(id)]; n >= 0 && from_.nodes[index(n)].op->name() == "reshape") {
      Node reshape = from_.nodes[index(n)];
      reshape.inputs[0] = narrow(reshape.inputs[0]);
      reshape.outputs[0] = narrow_[index(id)] = add_value(id);
      to_.nodes.push_back(std::move(reshape));
      return narrow_[index(id)];
    }
    int from = id;
    if (exceeds_[index(id)]) {
      Node clip;
      clip.name = from_.value(id).name + "~clip";
      clip.op = &operators_.get("clip");
      const double largest = largest_finite(narrow_type_);
      clip.attributes = clip.op->canonical({{"min", -largest}, {"max", largest}});
      clip.inputs = {id};
      clip.outputs = {from = add_value(id)};
      to_.value(from).type.dtype = DType::f32;
      to_.nodes.push_back(std::move(clip));
    }
    const int made = add_value(id);
    to_.nodes.push_back(cast_node(id, narrow_type_, from, made));
    return narrow_[index(id)] = made;
  }

  Node cast_node(int of, DType type, int from, int result) const {
    Node node;
    node.name = fmt::format("{}~{}", from_.value(of).name, to_string(type));
    node.op = &operators_.get("cast");
    node.attributes = {{"to", to_string(type)}};
    node.inputs = {from};
    node.outputs = {result};
    return node;
  }

  /// A narrow value that holds what a source's does.
  int add_value(int of) {
    Value value = from_.value(of);
    value.constant.reset();
    value.type.dtype = narrow_type_;
    return to_.add_value(std::move(value));
  }

  /// A value that is there in one type only has the source's name.
  void name() {
    for (std::size_t id = 0; id < from_.values.size(); ++id)
      if (narrow_[id] >= 0 && !is_made_[id]) std::swap(to_.values[id].name, to_.value(narrow_[id]).name);
  }

  const Graph& from_;
  Graph to_;
  DType narrow_type_;
  Operators operators_;
  std::vector<int> producer_;
  std::vector<std::vector<int>> consumers_;
  // By the source's values.
  std::vector<bool> is_exact_;  ///< f32 until it meets data
  std::vector<bool> exceeds_;   ///< may be a number that the narrow type does not hold
  std::vector<bool> is_made_;   ///< the result has it in the source's type
  std::vector<int> narrow_;     ///< the result's narrow one, or -1
  std::vector<bool> stays_;     ///< by node
};

}  // namespace

/// Before: values of f32. After: of `type` (bf16 or f16), casts where both meet. Kernels sum in f32 all the same and
/// round what they store. In f32 stay
///   the model's inputs and outputs
///   what is computed of inputs, positions (iota), casts and dequantized integers alone, as far as no convolution,
///     pooling or product reads it: a float index beyond 256 is no bf16, masks are multiplied by -3.4e38, and between
///     quantised layers floats never get to memory
///   sums, means, norms and products of reduce_*, and what is multiplied for them alone: squares are too large for f16
///   sums that a layer_norm reads, and layer_norm then
///   what only such operators read: float indices before they are cast, what is compared
///   constants beside narrow operands where the type rule takes them so: biases, statistics of a batch norm
///   operators that take nothing narrower: matmul_blocks, fake_quantize
/// Constants are rounded to the nearest finite number, and so are masks that are computed of larger ones.
Graph narrow_floats(const Graph& graph, DType type) { return Narrowing(graph, type).run(); }

}  // namespace heddle::graph
