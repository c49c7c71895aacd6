#include "schedules/gpu_access.hpp"

#include <algorithm>
#include <functional>
#include <map>

namespace heddle::schedules {
namespace {

using Halide::Expr;
using Halide::Internal::Function;

/// Follows calls from a Func to what it is computed from, with indices in terms of the first one's loops.
class Reader : public Halide::Internal::IRGraphVisitor {
 public:
  std::vector<Access> found;

  void read(const Function& function, const std::vector<Expr>& index) {
    const auto seen = std::any_of(visited_.begin(), visited_.end(), [&](const auto& one) {
      return one.first == function.name() &&
             std::equal(one.second.begin(), one.second.end(), index.begin(), index.end(),
                        [](const Expr& a, const Expr& b) { return equal(a, b); });
    });
    if (seen) return;
    visited_.emplace_back(function.name(), index);
    std::map<std::string, Expr> loops;
    for (std::size_t i = 0; i < index.size(); ++i) loops[function.args()[i]] = index[i];
    std::vector<Expr> values = function.values();
    for (const auto& update : function.updates())
      values.insert(values.end(), update.values().begin(), update.values().end());
    // Nodes are visited once a Func and index: another call of it has other loops to put in.
    Reader inner;
    inner.visited_ = std::move(visited_);
    inner.loops_ = std::move(loops);
    inner.own_ = function.name();
    for (const auto& value : values) value.accept(&inner);
    visited_ = std::move(inner.visited_);
    found.insert(found.end(), inner.found.begin(), inner.found.end());
  }

 protected:
  using IRGraphVisitor::visit;
  void visit(const Halide::Internal::Call* call) override {
    IRGraphVisitor::visit(call);
    const bool image = call->call_type == Halide::Internal::Call::Image;
    if (!image && call->call_type != Halide::Internal::Call::Halide) return;
    if (call->name == own_) return;  // an update of itself
    std::vector<Expr> index;
    for (const auto& argument : call->args)
      index.push_back(Halide::Internal::simplify(Halide::Internal::substitute(loops_, argument)));
    if (!image) read(Function(call->func), index);
    else found.push_back({call->name, {index.rbegin(), index.rend()}});
  }

 private:
  std::map<std::string, Expr> loops_;
  std::string own_;
  std::vector<std::pair<std::string, std::vector<Expr>>> visited_;
};

}  // namespace

std::vector<Access> accesses(const Workload& workload, const Pipeline& pipeline) {
  const Function out = pipeline.outputs.at(0).function();
  std::vector<Expr> loops;
  for (const auto& name : out.args()) loops.emplace_back(Halide::Var(name));
  Reader reader;
  reader.read(out, loops);
  for (auto& access : reader.found)
    for (std::size_t i = 0; i < pipeline.inputs.size(); ++i)
      if (pipeline.inputs[i].name() == access.operand) access.operand = workload.inputs()[i].role;
  return reader.found;
}

std::optional<std::int64_t> step(const Expr& index, std::string_view loop) {
  const std::string name(loop);
  const Expr next = Halide::Internal::substitute(name, Halide::Var(name) + 1, index);
  const auto difference = Halide::Internal::as_const_int(Halide::Internal::simplify(next - index));
  return difference ? std::optional<std::int64_t>(*difference) : std::nullopt;
}

bool reads_dense(const Workload& workload, const Pipeline& pipeline, std::string_view loop,
                 const std::vector<std::string>& except) {
  for (const auto& access : accesses(workload, pipeline)) {
    if (std::find(except.begin(), except.end(), access.operand) != except.end()) continue;
    const int innermost = workload.input_type(access.operand).innermost();
    for (std::size_t d = 0; d < access.index.size(); ++d) {
      const auto along = step(access.index[d], loop);
      if (!along || (*along != 0 && !(*along == 1 && static_cast<int>(d) == innermost))) return false;
    }
  }
  return true;
}

}  // namespace heddle::schedules
