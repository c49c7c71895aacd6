#include "graph/passes/rewrite.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::graph {

Rewriter::Rewriter(const Graph& from) : to_(from), source_outputs_(from.outputs) {
  to_.nodes.clear();
  current_.resize(from.values.size());
  std::iota(current_.begin(), current_.end(), 0);
  producer_.assign(from.values.size(), -1);
  uses_.assign(from.values.size(), 0);
  named_.assign(from.values.size(), true);
  for (const Node& node : from.nodes)
    for (const int id : node.inputs) ++uses_[static_cast<std::size_t>(id)];
  for (const int id : from.outputs) ++uses_[static_cast<std::size_t>(id)];
}

std::vector<int> Rewriter::operands(const Node& source_node) const {
  std::vector<int> ids;
  ids.reserve(source_node.inputs.size());
  for (const int id : source_node.inputs) ids.push_back(now(id));
  return ids;
}

const Node* Rewriter::producer(int id) const {
  const int node = producer_[static_cast<std::size_t>(id)];
  return node < 0 ? nullptr : &to_.nodes[static_cast<std::size_t>(node)];
}

const Node* Rewriter::producer(int id, std::string_view op) const {
  const Node* node = producer(id);
  return node != nullptr && node->op->name() == op ? node : nullptr;
}

int Rewriter::uses(int id) const { return uses_[static_cast<std::size_t>(id)]; }

bool Rewriter::is_output(int id) const {
  return std::any_of(source_outputs_.begin(), source_outputs_.end(), [&](int output) { return now(output) == id; });
}

std::optional<double> Rewriter::scalar(int id) const {
  const auto& array = constant(id);
  return array && array->size() == 1 ? std::optional(array->at(0)) : std::nullopt;
}

bool Rewriter::may_replace(const Node& source_node, int replacement) const {
  const bool output =
      std::find(source_outputs_.begin(), source_outputs_.end(), source_node.outputs.at(0)) != source_outputs_.end();
  return !output || (producer(replacement) != nullptr && !is_output(replacement));
}

void Rewriter::keep(const Node& source_node) {
  Node node = source_node;
  node.inputs = operands(source_node);
  for (const int id : node.outputs) producer_[static_cast<std::size_t>(id)] = static_cast<int>(to_.nodes.size());
  to_.nodes.push_back(std::move(node));
}

void Rewriter::replace(const Node& source_node, int replacement) {
  changed_ = true;
  const int old = source_node.outputs.at(0);
  const TensorType& was = type(old);
  const TensorType& is = type(replacement);
  if (was.dtype != is.dtype || was.shape != is.shape)
    throw Error(ErrorCode::internal,
                fmt::format("node '{}' ({}) of type {} is replaced by '{}' of type {}", source_node.name,
                            source_node.op->name(), was.str(), value(replacement).name, is.str()));
  current_[static_cast<std::size_t>(old)] = replacement;
  // The node's own reads are gone; what read its result reads the replacement.
  for (const int id : operands(source_node)) --uses_[static_cast<std::size_t>(id)];
  uses_[static_cast<std::size_t>(replacement)] += uses_[static_cast<std::size_t>(old)];
  if (!named_[static_cast<std::size_t>(replacement)]) {
    named_[static_cast<std::size_t>(replacement)] = true;
    Value& from = to_.value(old);
    Value& to = to_.value(replacement);
    to.name = from.name;
    from.name = fmt::format("{}~{}", from.name, old);
    to.origin = from.origin;
  } else if (value(replacement).origin.empty()) {
    to_.value(replacement).origin = value(old).origin;
  }
}

int Rewriter::add(const Operator& op, const Json& attributes, std::vector<int> inputs, const std::string& name) {
  changed_ = true;
  for (const int id : inputs) ++uses_[static_cast<std::size_t>(id)];
  const std::vector<int> outputs =
      to_.add_node(name, op, attributes, std::move(inputs), {fmt::format("{}~{}", name, op.name())});
  producer_.resize(to_.values.size(), static_cast<int>(to_.nodes.size()) - 1);
  uses_.resize(to_.values.size(), 0);
  named_.resize(to_.values.size(), false);
  return outputs.at(0);
}

int Rewriter::add_constant(Array array, const std::string& name) {
  const int id = to_.add_constant(name, std::move(array));
  producer_.resize(to_.values.size(), -1);
  uses_.resize(to_.values.size(), 0);
  named_.resize(to_.values.size(), false);
  return id;
}

Graph Rewriter::finish() {
  // The source may hand an input through or name one value twice; a pass must not make it so.
  std::map<int, int> taken;  // the result's value -> the source's
  for (const int id : to_.inputs) taken.emplace(id, id);
  for (std::size_t i = 0; i < source_outputs_.size(); ++i) {
    const int old = source_outputs_[i];
    const int id = now(old);
    const auto [at, fresh] = taken.try_emplace(id, old);
    if (!fresh && at->second != old)
      throw Error(ErrorCode::internal,
                  fmt::format("a pass made output '{}' the same value as another", value(old).name));
    // An intermediate that becomes the output takes its name; a new value has it already.
    if (fresh && id != old && id < static_cast<int>(current_.size()))
      std::swap(to_.value(id).name, to_.value(old).name);
    to_.outputs[i] = id;
  }
  return compact(to_);
}

bool near(double a, double b) { return std::fabs(a - b) <= 1e-5 * std::fabs(b); }

std::optional<BesideScalar> operand_beside_scalar(const Rewriter& r, int id, std::string_view op) {
  const Node* node = r.producer(id, op);
  if (node == nullptr || node->inputs.size() != 2) return std::nullopt;
  const bool commutes = op == "add" || op == "mul" || op == "max" || op == "min";
  for (const std::size_t c : {std::size_t(1), std::size_t(0)}) {
    if (c == 0 && !commutes) break;
    const auto scalar = r.scalar(node->inputs[c]);
    const int x = node->inputs[1 - c];
    // A constant of rank 4 beside a vector would make the result another shape.
    if (scalar && r.type(x).shape == r.type(id).shape) return BesideScalar{x, *scalar};
  }
  return std::nullopt;
}

std::optional<int> operand_beside(const Rewriter& r, int id, std::string_view op, double c) {
  const auto found = operand_beside_scalar(r, id, op);
  return found && near(found->scalar, c) ? std::optional(found->x) : std::nullopt;
}

}  // namespace heddle::graph
