#include "targets/gpu/register_tiles.hpp"

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/error.hpp"
#include "targets/affine.hpp"
#include "targets/gpu/kernels.hpp"

namespace heddle::targets {
namespace {

using namespace Halide::Internal;
using Halide::Expr;
using Halide::MemoryType;

/// More than any block has, and than any thread has registers: beyond, the proof below would take long.
constexpr std::int64_t most_threads = 1024, most_positions = 4096;

struct Loop {
  std::string name;
  Expr extent;
};

[[noreturn]] void refuse(const std::string& allocation, const std::string& why) {
  throw Error(ErrorCode::unsupported,
              fmt::format("stage '{}' is computed at a GPU block and stored in registers, but {}. Split its dimensions "
                          "and its updates over the threads as its consumer's are, compute it inside of the loops over "
                          "threads, or store it in GPUShared",
                          stage_of(allocation), why));
}

using Conditions = std::vector<Expr>;

/// Calls `access` with the index of each load and store of one allocation; what it returns becomes the index.
class Accesses : public IRMutator {
 public:
  using Access = std::function<Expr(const Expr& index)>;
  Accesses(std::string name, Access access) : access(std::move(access)), name_(std::move(name)) {}

  Access access;
  Lets lets;                  ///< in scope at the access
  std::vector<Loop> serial;   ///< around the access, inside of the allocation
  std::vector<Loop> threads;  ///< around the access; all of them, after a visit
  Conditions conditions;      ///< that hold at the access

  using IRMutator::mutate;

 protected:
  using IRMutator::visit;

  Expr visit(const Load* op) override {
    if (op->name != name_) return IRMutator::visit(op);
    // Its alignment is not known: the allocation may start anywhere in a thread's memory.
    return Load::make(op->type, op->name, access(mutate(op->index)), op->image, op->param, mutate(op->predicate),
                      ModulusRemainder());
  }

  Stmt visit(const Store* op) override {
    if (op->name != name_) return IRMutator::visit(op);
    const Expr value = mutate(op->value);
    return Store::make(op->name, value, access(mutate(op->index)), op->param, mutate(op->predicate),
                       ModulusRemainder());
  }

  Expr visit(const Variable* op) override {
    if (op->name == name_) refuse(name_, "its address is taken");
    return op;
  }

  template <class T>
  auto visit_let(const T* op) {
    const Expr value = mutate(op->value);
    const ScopedBinding<Expr> bind(lets, op->name, value);
    return T::make(op->name, value, mutate(op->body));
  }
  Expr visit(const Let* op) override { return visit_let(op); }
  Stmt visit(const LetStmt* op) override { return visit_let(op); }

  Stmt visit(const For* op) override {
    auto& loops = is_gpu(op->for_type) ? threads : serial;
    loops.push_back({op->name, op->extent});
    const Stmt result = IRMutator::visit(op);
    if (!is_gpu(op->for_type)) loops.pop_back();
    return result;
  }

  Stmt visit(const IfThenElse* op) override {
    const Expr condition = mutate(op->condition);
    conditions.push_back(expand(condition, lets));
    const Stmt yes = mutate(op->then_case);
    conditions.back() = !conditions.back();
    const Stmt no = op->else_case.defined() ? mutate(op->else_case) : Stmt();
    conditions.pop_back();
    return IfThenElse::make(condition, yes, no);
  }

 private:
  std::string name_;
};

/// The threads of a block, one after the other.
class Threads {
 public:
  using Ids = std::map<std::string, Expr>;

  explicit Threads(const std::vector<Loop>& loops) : loops_(loops) {}

  /// Why they cannot be enumerated; empty if they can.
  std::string obstacle() const {
    std::int64_t count = 1;
    for (const auto& loop : loops_) {
      const auto extent = as_const_int(loop.extent);
      if (!extent) return fmt::format("the number of threads {} is not constant", print(loop.extent));
      count *= *extent;
    }
    return count > most_threads ? fmt::format("its block has {} threads", count) : "";
  }

  /// Calls f(ids) for those that the conditions do not exclude.
  template <class F>
  void for_each(const Conditions& conditions, F&& f) const {
    Ids ids;
    visit(0, ids, [&] {
      const bool excluded = std::any_of(conditions.begin(), conditions.end(), [&](const Expr& condition) {
        return is_const_zero(simplify(substitute(ids, condition)));
      });
      if (!excluded) f(ids);
    });
  }

 private:
  template <class F>
  void visit(std::size_t depth, Ids& ids, const F& f) const {
    if (depth == loops_.size()) return f();
    for (int i = 0; i < *as_const_int(loops_[depth].extent); ++i) {
      ids[loops_[depth].name] = i;
      visit(depth + 1, ids, f);
    }
  }

  const std::vector<Loop>& loops_;
};

/// Where in a thread's part an access goes, for one lane: a constant, and loops around it with their coefficients.
struct Position {
  std::int64_t constant = 0;
  std::vector<std::pair<Loop, std::int64_t>> loops = {};
};

struct Access {
  Expr index;   ///< as Halide wrote it
  Affine base;  ///< of the thread's part, as this access says it
  Conditions conditions;
  std::vector<Position> lanes;
};

/// One thread's part of an allocation: gathers all accesses, proves that they stay inside of it, and says where in it
/// each goes.
class Part {
 public:
  explicit Part(std::string name) : name_(std::move(name)) {}

  void gather(const Expr& index, const Accesses& at) {
    const auto affines = affine_lanes(index, at.lets);
    if (!affines) refuse(name_, fmt::format("the vector index {} is no ramp", print(index)));
    Access access{index, {}, at.conditions, {}};
    for (const Affine& lane : *affines) {
      Affine base;
      access.lanes.push_back(split(lane, index, at, base));
      if (access.lanes.size() == 1) access.base = base;
      else if (!(base == access.base))
        refuse(name_, fmt::format("the lanes of {} are not constants apart", print(index)));
    }
    accesses_.push_back(std::move(access));
  }

  bool empty() const { return accesses_.empty(); }

  /// That no element belongs to two threads, and every access goes to the thread's own.
  void prove(const std::vector<Loop>& loops) {
    const Threads threads(loops);
    if (const std::string why = threads.obstacle(); !why.empty()) refuse(name_, why);
    choose_base(loops);
    for (Access& access : accesses_) {
      const std::int64_t apart = access.base == base_ ? 0 : distance(access, threads);
      for (Position& lane : access.lanes) {
        lane.constant += apart;
        add_elements(lane, 0, lane.constant);
      }
    }
    std::vector<std::int64_t> addressed;
    threads.for_each({}, [&](const Threads::Ids& ids) {
      const auto base = value_of(base_, ids);
      for (const std::int64_t element : elements_) addressed.push_back(base + element);
    });
    std::sort(addressed.begin(), addressed.end());
    if (std::adjacent_find(addressed.begin(), addressed.end()) != addressed.end())
      refuse(name_, fmt::format("several threads address the same element ({}): values would have to cross threads",
                                print(accesses_[0].index)));
  }

  /// Packs if every access is then still a constant or a ramp.
  void pack() {
    const auto all = [&](const auto& holds) { return std::all_of(accesses_.begin(), accesses_.end(), holds); };
    packed_ = all([](const Access& a) { return a.lanes[0].loops.empty(); });
    packed_ = packed_ && all([&](const Access& a) { return evenly(a); });
    if (!packed_ && !all([&](const Access& a) { return evenly(a); }))
      refuse(name_, "the lanes of a vector are not evenly spaced");
  }

  int size() const {
    return static_cast<int>(packed_ ? static_cast<std::int64_t>(elements_.size())
                                    : *elements_.rbegin() - *elements_.begin() + 1);
  }

  /// The index of the n-th access gathered.
  Expr place(std::size_t n) const {
    const auto& lanes = accesses_.at(n).lanes;
    Expr first = static_cast<int>(offset(lanes[0]));
    for (const auto& [loop, coefficient] : lanes[0].loops)
      first = first + Variable::make(Halide::Int(32), loop.name) * static_cast<int>(coefficient);
    first = simplify(first);
    if (lanes.size() == 1) return first;
    const std::int64_t stride = offset(lanes[1]) - offset(lanes[0]);
    const int count = static_cast<int>(lanes.size());
    return stride == 0 ? Broadcast::make(first, count) : Ramp::make(first, static_cast<int>(stride), count);
  }

 private:
  /// Splits an index into the base and the position.
  Position split(const Affine& index, const Expr& shown, const Accesses& at, Affine& base) const {
    Position position{index.constant};
    for (const auto& [term, coefficient] : index.terms) {
      const auto* variable = term.as<Variable>();
      const auto loop =
          std::find_if(at.serial.begin(), at.serial.end(), [&](const Loop& l) { return expr_uses_var(term, l.name); });
      if (loop == at.serial.end()) {
        if (!is_pure(term))
          refuse(name_, fmt::format("the index {} is not known before the kernel runs", print(shown)));
        base.terms[term] = coefficient;
      } else if (variable != nullptr && as_const_int(loop->extent)) {
        position.loops.emplace_back(*loop, coefficient);
      } else {
        refuse(name_, fmt::format("the index {} moves with the loop over {}", print(shown), loop->name));
      }
    }
    return position;
  }

  /// The base that names the most loops over threads: where a condition leaves one thread of a loop, Halide writes its
  /// number instead.
  void choose_base(const std::vector<Loop>& loops) {
    const auto named = [&](const Access& access) {
      return std::count_if(loops.begin(), loops.end(), [&](const Loop& loop) { return access.base.uses(loop.name); });
    };
    base_ = std::max_element(accesses_.begin(), accesses_.end(), [&](const Access& a, const Access& b) {
              return named(a) < named(b);
            })->base;
  }

  /// What an access is apart from the base in every thread that comes to it.
  std::int64_t distance(const Access& access, const Threads& threads) {
    for (const auto& known : distances_)
      if (known.base == access.base && same(known.conditions, access.conditions)) return known.distance;
    const Affine difference = Affine(access.base).add(base_, -1);
    std::optional<std::int64_t> apart;
    threads.for_each(access.conditions, [&](const Threads::Ids& ids) {
      const auto here = constant_of(difference, ids);
      if (!here || (apart && *apart != *here))
        refuse(name_, fmt::format("its threads' parts differ between accesses: {} and {}", print(base_.expr()),
                                  print(access.index)));
      apart = here;
    });
    distances_.push_back({access.base, access.conditions, apart.value_or(0)});
    return apart.value_or(0);
  }

  static bool same(const Conditions& a, const Conditions& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Expr& x, const Expr& y) { return equal(x, y); });
  }

  void add_elements(const Position& p, std::size_t loop, std::int64_t at) {
    if (loop < p.loops.size()) {
      const auto& [over, coefficient] = p.loops[loop];
      for (std::int64_t i = 0; i < *as_const_int(over.extent); ++i) add_elements(p, loop + 1, at + i * coefficient);
      return;
    }
    elements_.insert(at);
    if (static_cast<std::int64_t>(elements_.size()) > most_positions)
      refuse(name_, fmt::format("each thread's part has more than {} elements", most_positions));
  }

  static std::optional<std::int64_t> constant_of(const Affine& sum, const Threads::Ids& ids) {
    std::int64_t value = sum.constant;
    for (const auto& [term, coefficient] : sum.terms) {
      const auto number = as_const_int(simplify(substitute(ids, term)));
      if (!number) return {};
      value += coefficient * *number;
    }
    return value;
  }

  /// Up to what is the same for all threads of a block.
  std::int64_t value_of(const Affine& base, const Threads::Ids& ids) const {
    Affine of_thread;
    for (const auto& [term, coefficient] : base.terms)
      if (std::any_of(ids.begin(), ids.end(), [&](const auto& id) { return expr_uses_var(term, id.first); }))
        of_thread.terms[term] = coefficient;
    const auto value = constant_of(of_thread, ids);
    if (!value) refuse(name_, fmt::format("{} is no constant in each thread", print(base.expr())));
    return *value;
  }

  std::int64_t offset(const Position& p) const {
    if (!packed_) return p.constant - *elements_.begin();
    return std::distance(elements_.begin(), elements_.find(p.constant));
  }

  bool evenly(const Access& access) const {
    const auto& lanes = access.lanes;
    for (std::size_t i = 2; i < lanes.size(); ++i)
      if (offset(lanes[i]) - offset(lanes[i - 1]) != offset(lanes[1]) - offset(lanes[0])) return false;
    return true;
  }

  struct Distance {
    Affine base;
    Conditions conditions;
    std::int64_t distance;
  };

  std::string name_;
  Affine base_;
  std::vector<Access> accesses_;
  std::vector<Distance> distances_;
  std::set<std::int64_t> elements_;
  bool packed_ = true;
};

class RegisterTiles : public IRMutator {
 public:
  using IRMutator::mutate;

 protected:
  using IRMutator::visit;

  Stmt visit(const For* op) override {
    const ScopedValue<bool> inside(in_kernel_, in_kernel_ || op->for_type == ForType::GPUBlock);
    return IRMutator::visit(op);
  }

  Stmt visit(const Allocate* op) override {
    const Stmt s = IRMutator::visit(op);
    const bool of_threads = op->memory_type != MemoryType::GPUShared && op->memory_type != MemoryType::Heap;
    if (!in_kernel_ || !of_threads) return s;
    const auto* allocation = s.as<Allocate>();
    Part part(op->name);
    Accesses gather(op->name, nullptr);
    gather.access = [&](const Expr& index) {
      part.gather(index, gather);
      return index;
    };
    gather.mutate(allocation->body);
    if (gather.threads.empty() || part.empty()) return s;
    part.prove(gather.threads);
    part.pack();
    std::size_t next = 0;
    Accesses rewrite(op->name, [&](const Expr&) { return part.place(next++); });
    return Allocate::make(op->name, op->type, op->memory_type, {part.size()}, op->condition,
                          rewrite.mutate(allocation->body), op->new_expr, op->free_function, op->padding);
  }

 private:
  bool in_kernel_ = false;
};

}  // namespace

Stmt register_tiles(const Stmt& s) { return RegisterTiles().mutate(s); }

}  // namespace heddle::targets
