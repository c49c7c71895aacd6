#include "autoscheduler/phases.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "autoscheduler/dependence.hpp"
#include "ops/reference.hpp"

namespace heddle::autoscheduler {
namespace {

using Halide::Expr;
namespace hi = Halide::Internal;

/// Adds phases to a loop's unless they would be too many.
void combine(Phases& phases, const Phases& more) {
  if (!more.repeat || !phases.repeat) {
    // A loop that is unrolled whole repeats nothing: its iterations are as many kinds as the longer list has.
    const std::int64_t count = std::max(phases.repeat ? 1 : phases.count, more.repeat ? 1 : more.count);
    if (count <= most_phases) phases = {count, false};
    return;
  }
  if (const std::int64_t count = std::lcm(phases.count, more.count); count <= most_phases) phases.count = count;
}

class Asked : public hi::IRVisitor {
 public:
  explicit Asked(const std::vector<std::string>& loops) : phases(loops.size()), loops_(loops) {}

  std::vector<Phases> phases;

 private:
  using hi::IRVisitor::visit;

  void visit(const hi::Mod* mod) override {
    repeats(mod->a, mod->b);
    hi::IRVisitor::visit(mod);
  }
  void visit(const hi::Div* div) override {
    repeats(div->a, div->b);
    hi::IRVisitor::visit(div);
  }
  void visit(const hi::EQ* equal) override {
    // One kind for each number up to this one, and one for all the others.
    if (const auto number = hi::as_const_int(equal->b); number && *number >= 0) is_number(equal->a, *number + 2);
    if (const auto number = hi::as_const_int(equal->a); number && *number >= 0) is_number(equal->b, *number + 2);
    hi::IRVisitor::visit(equal);
  }
  void visit(const hi::Call* call) override {
    if (call->is_intrinsic(hi::Call::mux)) is_number(call->args[0], static_cast<std::int64_t>(call->args.size()) - 1);
    hi::IRVisitor::visit(call);
  }

  void repeats(const Expr& value, const Expr& by) {
    const auto modulus = hi::as_const_int(by);
    if (!modulus || *modulus < 2) return;
    for (std::size_t l = 0; l < loops_.size(); ++l) {
      if (!hi::expr_uses_var(value, loops_[l])) continue;
      const Expr next = hi::Variable::make(Halide::Int(32), loops_[l]) + 1;
      const auto step = hi::as_const_int(hi::simplify(hi::substitute(loops_[l], next, value) - value));
      if (step) combine(phases[l], {*modulus / std::gcd(*modulus, *step), true});
    }
  }

  void is_number(const Expr& value, std::int64_t kinds) {
    const auto* variable = value.as<hi::Variable>();
    if (variable == nullptr) return;
    const auto loop = std::ranges::find(loops_, variable->name);
    if (loop != loops_.end()) combine(phases[static_cast<std::size_t>(loop - loops_.begin())], {kinds, false});
  }

  const std::vector<std::string>& loops_;
};

using Inlined = std::function<bool(const StageNode&)>;
using Known = std::map<const StageNode*, std::vector<Phases>>;

/// A stage that is read at many places is looked at once.
const std::vector<Phases>& with_inlined(const Dependences& dependences, const StageNode& stage, const Inlined& inlined,
                                        Known& known) {
  if (const auto found = known.find(&stage); found != known.end()) return found->second;
  std::vector<Phases> phases = stage.phases;
  for (const Access& access : stage.accesses) {
    if (access.operand || access.in_update) continue;
    const StageNode& source = dependences.stage(access.source);
    if (!inlined(source)) continue;
    const std::vector<Phases>& asked = with_inlined(dependences, source, inlined, known);
    for (std::size_t d = 0; d < asked.size(); ++d) {
      if (asked[d].count == 1) continue;
      const AffineIndex& index = access.index[d];
      for (std::size_t l = 0; l < phases.size(); ++l) {
        if (index.affine) {
          const std::int64_t step = std::abs(index.coefficients[l]);
          if (step == 0) continue;
          if (asked[d].repeat) combine(phases[l], {asked[d].count / std::gcd(asked[d].count, step), true});
          else if (step == 1 && index.offset == 0) combine(phases[l], asked[d]);
        } else if (l < index.slopes.size() && index.slopes[l] > 0 && asked[d].repeat) {
          // Of x / 2 each value comes twice.
          combine(
              phases[l],
              {static_cast<std::int64_t>(std::lround(static_cast<double>(asked[d].count) / index.slopes[l])), true});
        }
      }
    }
  }
  return known[&stage] = std::move(phases);
}

}  // namespace

std::vector<Phases> find_phases(const Expr& expression, const std::vector<std::string>& loops) {
  Asked asked(loops);
  expression.accept(&asked);
  return asked.phases;
}

void each_phase(const Expr& expression, const std::vector<std::string>& loops, const std::vector<Phases>& phases,
                const std::function<void(const Expr&)>& use) {
  Shape counts;
  for (const Phases& p : phases) counts.push_back(p.count);
  ops::for_each(counts, [&](const std::vector<std::int64_t>& kinds) {
    std::map<std::string, Expr> numbers;
    for (std::size_t l = 0; l < loops.size(); ++l) {
      const int kind = static_cast<int>(kinds[l]);
      if (!phases[l].repeat) numbers[loops[l]] = kind;
      else if (phases[l].count > 1)
        numbers[loops[l]] = hi::Variable::make(Halide::Int(32), loops[l]) * static_cast<int>(phases[l].count) + kind;
    }
    use(hi::simplify(hi::substitute(numbers, expression)));
  });
}

std::vector<Phases> phases_with_inlined(const Dependences& dependences, const StageNode& stage,
                                        const std::function<bool(const StageNode&)>& inlined) {
  Known known;
  return with_inlined(dependences, stage, inlined, known);
}

}  // namespace heddle::autoscheduler
