#include "graph/groups.hpp"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"
#include "dsl/flatten.hpp"
#include "graph/attributes.hpp"
#include "graph/layout.hpp"
#include "schedules/family.hpp"

namespace heddle::graph {
namespace {

/// Compile time grows faster than linearly with a kernel's size.
constexpr std::size_t most_nodes = 12;

bool is_symbolic(const Graph& g, int v) { return g.value(v).extents.has_value() && !g.value(v).constant; }

/// Results of fixed places in memory: nothing may be computed into them on the way.
bool takes_epilogue(const Node& node) {
  if (node.outputs.size() != 1) return false;
  switch (node.op->kind()) {
    case OperatorKind::window:
    case OperatorKind::contraction:
    case OperatorKind::reduction: return true;
    // A copy changes the order, a concatenation picks between operands element by element: both are written as fast as
    // memory goes, and what follows is better off alone.
    case OperatorKind::movement: return node.op->name() != "copy" && node.op->name() != "concat";
    case OperatorKind::elementwise: return true;
  }
  return false;
}

class Grouper {
 public:
  Grouper(const Graph& graph, const Machine& machine, const GroupOptions& options)
      : g_(graph),
        machine_(machine),
        options_(options),
        producer_(graph.producer()),
        consumers_(graph.consumers()),
        taken_(graph.nodes.size(), false),
        is_output_(graph.values.size(), false) {
    for (const int v : graph.outputs) is_output_[static_cast<std::size_t>(v)] = true;
  }

  std::vector<Group> run() {
    // Anchors first: an activation belongs to the convolution before it, not to the elementwise chain after.
    for (std::size_t n = 0; n < g_.nodes.size(); ++n) {
      const Node& node = g_.nodes[n];
      if (taken_[n] || is_shape_arithmetic(node)) continue;
      if (is_view(g_, node)) {
        taken_[n] = true;
        groups_.push_back({Group::Kind::view, {static_cast<int>(n)}, 0, {node.inputs[0]}, node.outputs, {}});
      } else if (is_join(g_, node)) {
        taken_[n] = true;
        groups_.push_back({Group::Kind::join, {static_cast<int>(n)}, 0, node.inputs, node.outputs, {}});
      } else if (node.op->kind() != OperatorKind::elementwise) {
        add_kernel({static_cast<int>(n)});
      }
    }
    for (std::size_t n = 0; n < g_.nodes.size(); ++n)
      if (!taken_[n] && !is_shape_arithmetic(g_.nodes[n])) add_kernel({static_cast<int>(n)});
    add_host_values();
    std::stable_sort(groups_.begin(), groups_.end(),
                     [](const Group& a, const Group& b) { return a.nodes.back() < b.nodes.back(); });
    return std::move(groups_);
  }

 private:
  const Node& node(int n) const { return g_.nodes[static_cast<std::size_t>(n)]; }
  int producer(int v) const { return producer_[static_cast<std::size_t>(v)]; }

  bool is_shape_arithmetic(const Node& node) const {
    return std::all_of(node.outputs.begin(), node.outputs.end(),
                       [&](int v) { return g_.value(v).extents.has_value(); });
  }

  void add_kernel(std::vector<int> nodes) {
    const int first = nodes[0];
    if (takes_epilogue(node(first))) grow(nodes, first);
    std::optional<Group> group = joined(nodes);
    if (!group) {
      const bool elementwise = node(first).op->kind() == OperatorKind::elementwise;
      if (elementwise) pull_in(nodes);
      else pull_in_narrow(nodes, first);
      // The loops are out's. An elementwise group's last node has them; other anchors' dimensions are the epilogue's
      // too.
      group = grouped(nodes, elementwise ? nodes.back() : first);
    }
    for (const int n : group->nodes) taken_[static_cast<std::size_t>(n)] = true;
    groups_.push_back(*std::move(group));
  }

  Group grouped(const std::vector<int>& nodes, int anchor) {
    Group group;
    group.nodes = nodes;
    group.anchor = static_cast<int>(std::find(nodes.begin(), nodes.end(), anchor) - nodes.begin());
    group.outputs = node(nodes.back()).outputs;
    compose(group);
    return group;
  }

  /// Values of the group that something outside reads.
  std::set<int> open_values(const std::vector<int>& nodes) const {
    const std::set<int> inside(nodes.begin(), nodes.end());
    std::set<int> open;
    for (const int n : nodes)
      for (const int v : node(n).outputs) {
        const auto& readers = consumers_[static_cast<std::size_t>(v)];
        const bool read = std::any_of(readers.begin(), readers.end(), [&](int r) { return !inside.contains(r); });
        if (read || readers.empty() || is_output_[static_cast<std::size_t>(v)]) open.insert(v);
      }
    return open;
  }

  /// Adds elementwise consumers for as long as a single value leaves the group. Branches that meet again (x *
  /// sigmoid(x)) are taken whole or not at all. With one value leaving, by the last node, no path can leave the group
  /// and return.
  void grow(std::vector<int>& nodes, int anchor) const {
    const TensorType& out = result(anchor);
    std::vector<int> trial = nodes;
    while (trial.size() < most_nodes) {
      const auto next = next_consumer(trial, out);
      if (!next) break;
      trial.insert(std::upper_bound(trial.begin(), trial.end(), *next), *next);
      const auto open = open_values(trial);
      if (open.size() == 1 && node(trial.back()).outputs[0] == *open.begin() && !widens_integers(nodes, trial))
        nodes = trial;
    }
  }

  /// The group of a convolution and its epilogue, together with the convolution that alone reads its result and that
  /// one's epilogue, if they are faster in one kernel.
  std::optional<Group> joined(const std::vector<int>& nodes) {
    if (node(nodes[0]).op->name() != "conv" || open_values(nodes).size() != 1) return std::nullopt;
    const int v = node(nodes.back()).outputs[0];
    const auto& readers = consumers_[static_cast<std::size_t>(v)];
    if (is_output_[static_cast<std::size_t>(v)] || readers.size() != 1 || node(readers[0]).op->name() != "conv")
      return std::nullopt;
    std::vector<int> both = nodes;
    both.push_back(readers[0]);
    grow(both, readers[0]);
    Group group = grouped(both, readers[0]);
    return pays_together(*group.workload, machine_) ? std::optional(group) : std::nullopt;
  }

  /// Quantised numbers go to memory as they are; floats are made of them where they are read.
  bool widens_integers(const std::vector<int>& now, const std::vector<int>& further) const {
    const DType before = result(now.back()).dtype, after = result(further.back()).dtype;
    return is_integer(before) && size_of(before) < size_of(after) && size_of(before) <= 2;
  }

  bool widens(int n) const {
    if (node(n).op->name() == "dequantize") return true;
    if (node(n).op->name() != "cast") return false;
    const DType from = g_.value(node(n).inputs[0]).type.dtype, to = result(n).dtype;
    return is_float(from) && is_float(to) && size_of(from) < size_of(to);
  }

  const TensorType& result(int n) const { return g_.value(node(n).outputs[0]).type; }

  /// Takes in what widens the operands of what follows the anchor, a residual, if nobody else reads it: the kernel then
  /// reads integers or narrow floats. A reduction reads its own operand once as well.
  void pull_in_narrow(std::vector<int>& nodes, int anchor) const {
    const TensorType& out = result(nodes.back());
    for (const int n : std::vector<int>(nodes)) {
      const bool own = n == anchor;
      if (own && (node(n).op->kind() != OperatorKind::reduction || !node(n).op->name().starts_with("reduce_")))
        continue;
      for (const int v : node(n).inputs) {
        const int p = producer(v);
        if (p >= 0 && widens(p)) take_in(nodes, p, own ? result(p) : out);
      }
    }
  }

  /// Adds what makes an operand, a node or -1, if it is elementwise, fits loops over `out` and nobody else reads it.
  bool take_in(std::vector<int>& nodes, int p, const TensorType& out) const {
    if (p < 0 || nodes.size() >= most_nodes || std::find(nodes.begin(), nodes.end(), p) != nodes.end()) return false;
    std::vector<int> with = nodes;
    with.insert(std::upper_bound(with.begin(), with.end(), p), p);
    if (!fits(p, out) || open_values(with).size() != 1) return false;
    nodes = std::move(with);
    return true;
  }

  std::optional<int> next_consumer(const std::vector<int>& nodes, const TensorType& out) const {
    std::optional<int> best;
    for (const int v : open_values(nodes)) {
      if (is_output_[static_cast<std::size_t>(v)]) continue;
      for (const int n : consumers_[static_cast<std::size_t>(v)]) {
        if (std::find(nodes.begin(), nodes.end(), n) != nodes.end() || (best && *best <= n)) continue;
        if (fits(n, out)) best = n;
      }
    }
    return best;
  }

  bool fits(int n, const TensorType& out) const {
    const Node& candidate = node(n);
    if (taken_[static_cast<std::size_t>(n)] || candidate.op->kind() != OperatorKind::elementwise) return false;
    if (candidate.op->name() == "copy" || candidate.outputs.size() != 1 || is_shape_arithmetic(candidate)) return false;
    const TensorType& result = g_.value(candidate.outputs[0]).type;
    // A smaller value computed in a larger loop would be computed again and again.
    return result.shape == out.shape && significant_order(unbordered(result)) == significant_order(unbordered(out));
  }

  static TensorType unbordered(TensorType type) {
    type.layout.border.clear();
    return type;
  }

  /// Takes in elementwise operands of the same shape that nobody else reads.
  void pull_in(std::vector<int>& nodes) const {
    const TensorType& out = result(nodes.back());
    for (bool changed = true; changed && nodes.size() < most_nodes;) {
      changed = false;
      for (const int n : std::vector<int>(nodes))
        for (const int v : node(n).inputs)
          if (take_in(nodes, producer(v), out)) changed = true;
    }
  }

  void compose(Group& group) {
    Composition c;
    const std::set<int> inside(group.nodes.begin(), group.nodes.end());
    const int anchor = group.nodes[static_cast<std::size_t>(group.anchor)];
    const bool channels_last_first = node(anchor).op->layout() == LayoutPreference::channels_last;
    std::map<int, int> numbers;
    const auto add_inputs = [&](const Node& reader) {
      for (const int v : reader.inputs) {
        if (producer(v) >= 0 && inside.contains(producer(v))) continue;
        if (!numbers.emplace(v, static_cast<int>(c.inputs.size())).second) continue;
        TensorType type = g_.value(v).type;
        type.layout = canonical_layout(type, channels_last_first && !g_.value(v).constant);
        c.inputs.push_back({std::move(type), g_.value(v).constant.has_value()});
        group.inputs.push_back(v);
      }
    };
    add_inputs(node(anchor));
    for (const int n : group.nodes) add_inputs(node(n));
    int next = static_cast<int>(c.inputs.size());
    for (const int n : group.nodes) {
      Composition::Node composed{node(n).op, node(n).attributes, {}};
      for (const int v : node(n).inputs) composed.operands.push_back(numbers.at(v));
      for (const int v : node(n).outputs) numbers[v] = next++;
      c.nodes.push_back(std::move(composed));
    }
    c.anchor = group.anchor;
    std::set<std::string> symbols;
    const auto note = [&](const TensorType& type) {
      for (const Extent& extent : type.shape) symbols.merge(extent.symbols());
    };
    for (const auto& input : c.inputs) note(input.type);
    for (const int v : group.outputs) {
      const TensorType& type = g_.value(v).type;
      note(type);
      c.outputs.push_back(numbers.at(v));
      c.output_layouts.push_back(canonical_layout(type, channels_last_first));
    }
    for (const auto& name : symbols) c.symbols.emplace(name, g_.symbols.at(name));
    c.threads = options_.threads;
    c.exact = options_.exact;
    try {
      Composition flat = flatten(c);
      group.workload.emplace(flat);
      if (flat.threads > 1 && !options_.share_all && !worth_sharing(*group.workload, machine_)) {
        flat.threads = 1;
        group.workload.emplace(std::move(flat));
      }
    } catch (const Error& e) {
      throw e.within(fmt::format("the group of node '{}'", node(anchor).name));
    }
  }

  /// Shapes computed at run time that a kernel or the caller reads.
  void add_host_values() {
    std::set<int> needed;
    for (const Group& group : groups_)
      for (const int v : group.inputs)
        if (is_symbolic(g_, v)) needed.insert(v);
    for (const int v : g_.outputs)
      if (is_symbolic(g_, v)) needed.insert(v);
    for (const int v : needed)
      if (producer(v) >= 0) groups_.push_back({Group::Kind::host, {producer(v)}, 0, {}, {v}, {}});
  }

  const Graph& g_;
  const Machine& machine_;
  GroupOptions options_;
  std::vector<int> producer_;
  std::vector<std::vector<int>> consumers_;
  std::vector<bool> taken_, is_output_;
  std::vector<Group> groups_;
};

}  // namespace

std::vector<Group> make_groups(const Graph& graph, const Machine& machine, const GroupOptions& options) {
  return Grouper(graph, machine, options).run();
}

std::string_view name_of(Group::Kind kind) {
  switch (kind) {
    case Group::Kind::kernel: return "kernel";
    case Group::Kind::view: return "view";
    case Group::Kind::join: return "join";
    case Group::Kind::host: break;
  }
  return "host";
}

std::string label(const Group& group, const Graph& graph) {
  std::vector<std::string> names;
  for (const int n : group.nodes) names.emplace_back(graph.nodes[static_cast<std::size_t>(n)].op->name());
  const Node& anchor = graph.nodes[static_cast<std::size_t>(group.nodes[static_cast<std::size_t>(group.anchor)])];
  return fmt::format("{} ({})", anchor.name, fmt::join(names, "+"));
}

std::string print(const std::vector<Group>& groups, const Graph& graph) {
  std::string text;
  const auto named = [&](const std::vector<int>& values) {
    std::vector<std::string> names;
    for (const int v : values)
      names.push_back(fmt::format("%{} {}: {}", v, graph.value(v).name, graph.value(v).type.str()));
    return names;
  };
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const Group& group = groups[i];
    text += fmt::format("group {} {} {}\n", i, name_of(group.kind), label(group, graph));
    for (const auto& name : named(group.inputs)) text += fmt::format("  in  {}\n", name);
    for (const auto& name : named(group.outputs)) text += fmt::format("  out {}\n", name);
    if (group.workload) text += fmt::format("  as  {}\n", group.workload->text());
  }
  return text;
}

}  // namespace heddle::graph
