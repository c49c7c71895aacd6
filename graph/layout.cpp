#include "graph/layout.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include <fmt/format.h>

#include "base/error.hpp"
#include "graph/attributes.hpp"
#include "ops/catalog.hpp"

namespace heddle::graph {
namespace {

using Order = std::vector<int>;

Order row_major(int rank) {
  Order order(static_cast<std::size_t>(rank));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

/// Such nodes are evaluated on the host where their value is needed at all.
bool is_shape_arithmetic(const Graph& g, const Node& node) {
  return std::all_of(node.outputs.begin(), node.outputs.end(), [&](int v) { return g.value(v).extents.has_value(); });
}

bool same_order(const TensorType& type, const Order& order) {
  TensorType other = type;
  other.layout.order = order;
  return significant_order(other) == significant_order(type);
}

/// An operand that is data rather than weights: what a preference for channels last is about.
bool is_data(const OperandInfo& info, const TensorType& type) {
  return type.rank() >= 3 && info.packing_order.empty() && !info.constant;
}

/// Whether vectors can run along dimension `d`: a contraction's result and second operand need that of their columns.
bool is_innermost(const TensorType& type, const Order& order, int d) {
  TensorType other = type;
  other.layout.order = order;
  const auto significant = significant_order(other);
  return type.shape[static_cast<std::size_t>(d)] == Extent(1) || significant.empty() || significant.back() == d;
}

/// Matrix products and attention take strided operands, so that transposes around them cost nothing.
bool takes_strides(const Node& node) {
  return node.op->kind() == OperatorKind::contraction && node.op->layout() != LayoutPreference::row_major;
}

/// Appends a node that copies the value into the wanted type, and returns the copy.
int add_copy(Graph& g, int value, const TensorType& wanted) {
  static const Operators operators;
  const std::string name = g.value(value).name;
  const int copy = g.add_node("copy of " + name, operators.get("copy"), Json::object(), {value}, {name})[0];
  g.value(copy).type = wanted;
  g.value(copy).origin = g.value(value).origin;
  return copy;
}

/// Chooses orders and puts in copies; borders come after.
class Orders {
 public:
  explicit Orders(const Graph& graph) : from_(graph), consumers_(graph.consumers()), wanted_(graph.values.size()) {
    to_.name = graph.name;
    to_.symbols = graph.symbols;
    renamed_.assign(graph.values.size(), -1);
  }

  Graph run() {
    for (std::size_t v = 0; v < from_.values.size(); ++v)
      if (from_.values[v].constant) carry(static_cast<int>(v));
    for (const int v : from_.inputs) to_.inputs.push_back(carry(v));
    for (const Node& node : from_.nodes) place(node);
    for (const int v : from_.outputs) to_.outputs.push_back(in_row_major(v));
    return std::move(to_);
  }

 private:
  int& renamed(int v) { return renamed_.at(static_cast<std::size_t>(v)); }
  const TensorType& type(int v) const { return to_.value(renamed_.at(static_cast<std::size_t>(v))).type; }

  /// The same value in the new graph, row-major until someone says otherwise.
  int carry(int v) {
    if (renamed(v) >= 0) return renamed(v);
    Value value = from_.value(v);
    value.type.layout = {};
    // Names are unique already; add_value's check is quadratic in the number of values.
    to_.values.push_back(std::move(value));
    return renamed(v) = static_cast<int>(to_.values.size()) - 1;
  }

  /// `v` with its elements in `order`: itself where it lies so, else one copy that all such consumers share. A constant
  /// is simply stored that way.
  int in_order(int v, const Order& order) {
    const int value = renamed(v);
    if (same_order(to_.value(value).type, order)) return value;
    const auto [found, is_new] = copies_.try_emplace({value, order}, -1);
    if (!is_new) return found->second;
    TensorType wanted = to_.value(value).type;
    wanted.layout = {order, {}, 0};
    wanted.layout = canonical_layout(wanted);
    if (to_.value(value).constant) {
      Value constant = to_.value(value);
      constant.type = wanted;
      found->second = to_.add_value(std::move(constant));
    } else {
      found->second = add_copy(to_, value, wanted);
    }
    return found->second;
  }

  int in_row_major(int v) {
    const int value = renamed(v);
    if (is_row_major(to_.value(value).type)) return value;
    const int copy = in_order(v, row_major(to_.value(value).type.rank()));
    // The model's name belongs to what the caller gets.
    if (to_.value(value).name == from_.value(v).name) std::swap(to_.value(value).name, to_.value(copy).name);
    return copy;
  }

  /// The order that `v`'s consumers would have it in, if they care; read off the unplaced graph.
  std::optional<Order> wanted(int v) {
    auto& known = wanted_[static_cast<std::size_t>(v)];
    if (known) return *known;
    known = std::optional<Order>();  // a value is not its own consumer, so this is only for the first visit
    std::optional<Order> result;
    for (const int n : consumers_[static_cast<std::size_t>(v)]) {
      const Node& node = from_.nodes[static_cast<std::size_t>(n)];
      if (is_shape_arithmetic(from_, node)) continue;
      result = wanted_by(node, v);
      if (result) break;
    }
    if (!result && std::find(from_.outputs.begin(), from_.outputs.end(), v) != from_.outputs.end())
      result = row_major(from_.value(v).type.rank());
    wanted_[static_cast<std::size_t>(v)] = result;
    return result;
  }

  std::optional<Order> wanted_by(const Node& node, int v) {
    const TensorType& in = from_.value(v).type;
    const TensorType& out = from_.value(node.outputs[0]).type;
    if (const auto permutation = transpose_permutation(node, from_)) {
      const auto order = wanted(node.outputs[0]);
      return order ? std::optional(untransposed_order(*order, *permutation)) : std::nullopt;
    }
    if (is_reshape(node)) {
      const auto order = wanted(node.outputs[0]).value_or(row_major(out.rank()));
      const auto before = reshaped_order(out.shape, order, in.shape);
      return before ? *before : row_major(in.rank());
    }
    const auto at = std::find(node.inputs.begin(), node.inputs.end(), v) - node.inputs.begin();
    if (const auto order = demand(from_, node, static_cast<std::size_t>(at))) return order;
    if (takes_strides(node))
      if (const auto vectors = vector_dimension(node, static_cast<std::size_t>(at), from_))
        return with_innermost(in.rank(), *vectors);
    if (node.op->kind() == OperatorKind::elementwise && in.shape == out.shape) return wanted(node.outputs[0]);
    return std::nullopt;
  }

  /// What a node needs of an operand, whatever its other operands are.
  static std::optional<Order> demand(const Graph& g, const Node& node, std::size_t i) {
    const TensorType& in = g.value(node.inputs[i]).type;
    if (takes_strides(node)) return std::nullopt;
    if (node.op->layout() == LayoutPreference::row_major) return row_major(in.rank());
    if (node.op->layout() == LayoutPreference::channels_last) {
      std::vector<TensorType> types;
      for (const int v : node.inputs) types.push_back(g.value(v).type);
      const auto infos = node.op->operands(node.attributes, types);
      if (i == 0 && reads_any_order(node, g)) return std::nullopt;
      if (i < infos.size() && is_data(infos[i], in)) return channels_last(in.rank());
    }
    return std::nullopt;
  }

  void place(const Node& node) {
    if (is_shape_arithmetic(from_, node)) {
      Node copy = node;
      for (int& v : copy.inputs) v = carry(v);
      for (int& v : copy.outputs) v = carry(v);
      to_.nodes.push_back(std::move(copy));
      return;
    }
    Node placed = node;
    std::vector<Order> results;
    if (const auto permutation = transpose_permutation(node, from_)) {
      placed.inputs = {renamed(node.inputs[0])};
      results = {transposed_order(type(node.inputs[0]).order(), *permutation)};
    } else if (is_reshape(node)) {
      results = {place_reshape(node, placed)};
    } else {
      place_kernel(node, placed, results);
    }
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      const int v = carry(node.outputs[i]);
      placed.outputs[i] = v;
      to_.value(v).type.layout.order = results[std::min(i, results.size() - 1)];
      if (to_.value(v).type.layout.order.size() != to_.value(v).type.shape.size())
        to_.value(v).type.layout.order.clear();
      to_.value(v).type.layout = canonical_layout(to_.value(v).type);
    }
    to_.nodes.push_back(std::move(placed));
  }

  Order place_reshape(const Node& node, Node& placed) {
    const TensorType in = type(node.inputs[0]);
    const TensorType& out = from_.value(node.outputs[0]).type;
    placed.inputs = {renamed(node.inputs[0])};
    for (std::size_t i = 1; i < node.inputs.size(); ++i) placed.inputs.push_back(carry(node.inputs[i]));
    if (const auto order = reshaped_order(in.shape, in.order(), out.shape)) return *order;
    // No view: rearrange first, into what makes the result as its consumers want it if that can be said.
    const Order target = wanted(node.outputs[0]).value_or(row_major(out.rank()));
    const auto before = reshaped_order(out.shape, target, in.shape);
    placed.inputs[0] = in_order(node.inputs[0], before ? *before : row_major(in.rank()));
    return before ? target : row_major(out.rank());
  }

  void place_kernel(const Node& node, Node& placed, std::vector<Order>& results) {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const int v = node.inputs[i];
      carry(v);
      const auto order = from_.value(v).constant ? std::nullopt : demand(from_, node, i);
      placed.inputs[i] = order ? in_order(v, *order) : renamed(v);
    }
    const TensorType& out = from_.value(node.outputs[0]).type;
    if (takes_strides(node)) return place_contraction(node, placed, results);
    switch (node.op->layout()) {
      case LayoutPreference::row_major: results = {row_major(out.rank())}; return;
      case LayoutPreference::channels_last:
        for (const int v : node.outputs) {
          const int rank = from_.value(v).type.rank();
          results.push_back(rank >= 3 ? channels_last(rank) : row_major(rank));
        }
        return;
      case LayoutPreference::any: break;
    }
    if (node.op->kind() == OperatorKind::elementwise) return place_elementwise(node, placed, results);
    for (const int v : node.outputs) {
      // What moves elements anyway moves them to where they are wanted.
      const auto order = node.op->kind() == OperatorKind::movement ? wanted(v) : std::nullopt;
      results.push_back(order ? *order : following(node, from_.value(v).type));
    }
  }

  static Order with_innermost(int rank, int d) {
    Order order = row_major(rank);
    order.erase(order.begin() + d);
    order.push_back(d);
    return order;
  }

  void place_contraction(const Node& node, Node& placed, std::vector<Order>& results) {
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const int v = node.inputs[i];
      const auto vectors = vector_dimension(node, i, from_);
      if (vectors && !is_innermost(type(v), type(v).order(), *vectors))
        placed.inputs[i] = in_order(v, with_innermost(type(v).rank(), *vectors));
    }
    const TensorType& out = from_.value(node.outputs[0]).type;
    const auto order = wanted(node.outputs[0]);
    results = {order && is_innermost(out, *order, out.rank() - 1) ? *order : row_major(out.rank())};
  }

  void place_elementwise(const Node& node, Node& placed, std::vector<Order>& results) {
    const TensorType& out = from_.value(node.outputs[0]).type;
    std::map<Order, int> votes;  // by significant order
    std::optional<Order> result;
    int most = 0;
    for (const int v : node.inputs) {
      const TensorType& in = type(v);
      if (in.shape != out.shape || from_.value(v).constant) continue;
      const int count = ++votes[significant_order(in)];
      // Of equally many, channels last: more convolutions will want it again than not.
      const bool preferred = count == most && out.rank() >= 3 && same_order(in, channels_last(out.rank()));
      if (count > most || preferred) {
        most = count;
        result = in.order();
      }
    }
    if (!result) result = following(node, out);
    for (std::size_t i = 0; i < node.inputs.size(); ++i)
      if (type(node.inputs[i]).shape == out.shape) placed.inputs[i] = in_order(node.inputs[i], *result);
    results.assign(node.outputs.size(), *result);
  }

  /// The order of the first operand of the result's rank, so that elements keep their neighbours; of one of another
  /// rank, what is left of it where the operator says which dimensions go.
  Order following(const Node& node, const TensorType& out) {
    for (const int v : node.inputs) {
      if (from_.value(v).constant || from_.value(v).type.rank() != out.rank() || out.rank() == 0) continue;
      return type(v).order();
    }
    if (const auto order = wanted(node.outputs[0]); order && out.rank() >= 3) {
      // A broadcast of smaller operands writes in any order as well as in another.
      if (node.op->kind() == OperatorKind::elementwise) return *order;
    }
    if (const auto removed = removed_dimensions(node, from_)) {
      std::map<int, int> left;
      for (int d = 0, next = 0; d < from_.value(node.inputs[0]).type.rank(); ++d)
        if (!removed->contains(d)) left[d] = next++;
      Order order;
      for (const int d : type(node.inputs[0]).order())
        if (const auto at = left.find(d); at != left.end()) order.push_back(at->second);
      if (static_cast<int>(order.size()) == out.rank()) return order;
    }
    return row_major(out.rank());
  }

  const Graph& from_;
  Graph to_;
  std::vector<std::vector<int>> consumers_;
  std::vector<int> renamed_;
  std::map<std::pair<int, Order>, int> copies_;
  std::vector<std::optional<std::optional<Order>>> wanted_;
};

/// A padded window reads its input's border instead of testing every index.
class Borders {
 public:
  explicit Borders(Graph graph) : g_(std::move(graph)) {}

  Graph run() {
    std::map<int, std::vector<Border>> needed;  // by value
    std::map<int, double> holds;
    const auto producer = g_.producer();
    const auto consumers = g_.consumers();
    for (const Node& node : g_.nodes)
      if (const auto pads = wanted_border(node)) {
        // A copy with a border costs pooling as much as padding for itself does; and other readers, like convolutions
        // of one element, which run along whole images, would rather have none.
        const int x = node.inputs[0];
        const bool alone = consumers[static_cast<std::size_t>(x)].size() == 1;
        if (node.op->name() != "conv" && !(alone && may_have_border(g_, x, producer, consumers))) continue;
        // A second window that wants other values around the same operand pads for itself.
        const double value = border_value(node);
        if (holds.try_emplace(x, value).first->second != value) continue;
        auto& border = needed[x];
        border.resize(pads->size());
        for (std::size_t d = 0; d < pads->size(); ++d) {
          border[d].before = std::max(border[d].before, (*pads)[d].before);
          border[d].after = std::max(border[d].after, (*pads)[d].after);
        }
      }
    std::map<int, TensorType> copies;
    for (const auto& [v, border] : needed) {
      TensorType bordered = g_.value(v).type;
      bordered.layout.border = border;
      bordered.layout.border_value = holds.at(v);
      bordered.layout = canonical_layout(bordered, true);
      if (may_have_border(g_, v, producer, consumers)) g_.value(v).type = bordered;
      else copies.emplace(v, bordered);
    }
    insert(copies);
    return std::move(g_);
  }

 private:
  double border_value(const Node& node) const { return wanted_border_value(node, g_.value(node.inputs[0]).type.dtype); }

  void insert(const std::map<int, TensorType>& bordered) {
    OperandTypes wanted;
    for (std::size_t n = 0; n < g_.nodes.size(); ++n) {
      const Node& node = g_.nodes[n];
      if (!wanted_border(node)) continue;
      const auto type = bordered.find(node.inputs[0]);
      if (type != bordered.end() && type->second.layout.border_value == border_value(node))
        wanted.emplace(std::pair(n, 0), type->second);
    }
    g_ = with_copies(std::move(g_), wanted);
  }

  Graph g_;
};

}  // namespace

bool is_view(const Graph& graph, const Node& node) {
  const auto permutation = transpose_permutation(node, graph);
  if (!permutation && !is_reshape(node)) return false;
  TensorType in = graph.value(node.inputs[0]).type;
  const TensorType& out = graph.value(node.outputs[0]).type;
  if (in.has_border() || out.has_border()) return false;
  TensorType seen = out;
  if (permutation) {
    seen.layout.order = transposed_order(in.order(), *permutation);
  } else {
    const auto order = reshaped_order(in.shape, in.order(), out.shape);
    if (!order) return false;
    seen.layout.order = *order;
  }
  return significant_order(seen) == significant_order(out);
}

bool may_have_border(const Graph& g, int v, const std::vector<int>& producer,
                     const std::vector<std::vector<int>>& consumers) {
  return may_have_border(g, v, producer, consumers,
                         [](const Node& node) { return node.op->kind() != OperatorKind::contraction; });
}

bool may_have_border(const Graph& g, int v, const std::vector<int>& producer,
                     const std::vector<std::vector<int>>& consumers,
                     const std::function<bool(const Node&)>& steps_over) {
  const int n = producer[static_cast<std::size_t>(v)];
  if (n < 0 || is_view(g, g.nodes[static_cast<std::size_t>(n)])) return false;
  if (std::find(g.outputs.begin(), g.outputs.end(), v) != g.outputs.end()) return false;
  const auto& readers = consumers[static_cast<std::size_t>(v)];
  return std::all_of(readers.begin(), readers.end(), [&](int reader) {
    const Node& node = g.nodes[static_cast<std::size_t>(reader)];
    return !is_view(g, node) && node.op->layout() != LayoutPreference::row_major && steps_over(node);
  });
}

Graph with_copies(Graph g, const OperandTypes& wanted) {
  if (wanted.empty()) return g;
  std::map<std::pair<int, std::string>, int> copies;
  const std::vector<Node> nodes = std::exchange(g.nodes, {});
  for (std::size_t n = 0; n < nodes.size(); ++n) {
    Node node = nodes[n];
    for (std::size_t i = 0; i < node.inputs.size(); ++i) {
      const auto type = wanted.find({n, i});
      if (type == wanted.end()) continue;
      const auto [copy, is_new] = copies.try_emplace({node.inputs[i], type->second.str()}, -1);
      if (is_new) copy->second = add_copy(g, node.inputs[i], type->second);
      node.inputs[i] = copy->second;
    }
    g.nodes.push_back(std::move(node));
  }
  return g;
}

Graph assign_layouts(const Graph& graph, Padding padding) {
  Graph ordered = Orders(graph).run();
  if (padding == Padding::in_kernel) return compact(ordered);
  return compact(join_operands(with_gaps(Borders(std::move(ordered)).run())));
}

}  // namespace heddle::graph
