#include "targets/gpu/prefetch_stages.hpp"

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "targets/gpu/kernels.hpp"

namespace heddle::targets {
namespace {

using namespace Halide::Internal;
using Halide::Expr;
using Halide::MemoryType;
using Halide::Type;

/// Registers of 32 bits that prefetching may take of each thread: more would spill.
constexpr int most_registers = 64;

bool is_barrier(const Evaluate* op) {
  const Call* call = op->value.as<Call>();
  return call != nullptr && call->is_intrinsic(Call::gpu_thread_barrier);
}

/// What a kernel allocates and writes.
class Memory : public IRVisitor {
 public:
  std::set<std::string> shared, own, written;

 protected:
  using IRVisitor::visit;
  void visit(const Allocate* op) override {
    (op->memory_type == MemoryType::GPUShared ? shared : own).insert(op->name);
    IRVisitor::visit(op);
  }
  void visit(const Store* op) override {
    written.insert(op->name);
    IRVisitor::visit(op);
  }
};

/// Whether a loop's body has the form that can be rewritten, and what it stages.
class Survey : public IRVisitor {
 public:
  explicit Survey(const Memory& memory) : memory_(memory) {}

  std::vector<Type> staged;  ///< of each store to shared memory, in order

  bool fits() const {
    int registers = 0;
    for (const Type& type : staged) registers += (type.bits() * type.lanes() + 31) / 32;
    return form_ && !staged.empty() && reads_ && barrier_since_write_ && ends_with_barrier_ &&
           registers <= most_registers;
  }

 protected:
  using IRVisitor::visit;

  void visit(const Store* op) override {
    const bool shared = memory_.shared.count(op->name) > 0;
    in_staged_ = shared;
    fetches_ = false;
    IRVisitor::visit(op);
    in_staged_ = false;
    ends_with_barrier_ = false;
    if (!shared) return;
    // A stage that was read already, or one that is computed from something else than memory.
    form_ = form_ && !reads_ && loops_ == 0 && fetches_ && is_const_one(op->predicate);
    barrier_since_write_ = false;
    staged.push_back(op->value.type());
  }

  void visit(const Load* op) override {
    IRVisitor::visit(op);
    if (memory_.shared.count(op->name) > 0) {
      form_ = form_ && !in_staged_;
      reads_ = true;
      // What is read without a barrier after the writes is some thread's own.
      form_ = form_ && barrier_since_write_;
    } else if (in_staged_) {
      form_ = form_ && memory_.own.count(op->name) == 0 && memory_.written.count(op->name) == 0;
      fetches_ = true;
    }
  }

  void visit(const Evaluate* op) override {
    IRVisitor::visit(op);
    if (is_barrier(op)) barrier_since_write_ = ends_with_barrier_ = true;
  }

  void visit(const For* op) override {
    ++loops_;
    IRVisitor::visit(op);
    --loops_;
    ends_with_barrier_ = false;
  }

  void visit(const Allocate* op) override {
    form_ = false;
    IRVisitor::visit(op);
  }

 private:
  const Memory& memory_;
  bool form_ = true, reads_ = false, in_staged_ = false, fetches_ = false;
  bool barrier_since_write_ = false, ends_with_barrier_ = false;
  int loops_ = 0;
};

/// A thread's registers for what one iteration stages: an array for each type of element, a constant place for each
/// store.
class Registers {
 public:
  Registers(const std::vector<Type>& staged, const std::string& loop) {
    for (const Type& type : staged) {
      Array& array = arrays_[type.element_of()];
      if (array.name.empty()) array.name = unique_name(loop + ".staged");
      places_.push_back({&array, array.elements});
      array.elements += type.lanes();
    }
  }

  Stmt store(std::size_t i, const Expr& value) const {
    const auto& [array, place] = places_[i];
    return Store::make(array->name, value, index(place, value.type()), Halide::Parameter(),
                       const_true(value.type().lanes()), ModulusRemainder());
  }

  Expr load(std::size_t i, Type type) const {
    const auto& [array, place] = places_[i];
    return Load::make(type, array->name, index(place, type), Halide::Buffer<>(), Halide::Parameter(),
                      const_true(type.lanes()), ModulusRemainder());
  }

  Stmt allocate(Stmt body) const {
    for (const auto& [type, array] : arrays_)
      body = Allocate::make(array.name, type, MemoryType::Register, {Expr(array.elements)}, const_true(),
                            Block::make(body, Free::make(array.name)));
    return body;
  }

 private:
  struct Array {
    std::string name;
    int elements = 0;
  };
  static Expr index(int place, Type type) {
    return type.is_scalar() ? Expr(place) : Ramp::make(Expr(place), Expr(1), type.lanes());
  }

  std::map<Type, Array> arrays_;
  std::vector<std::pair<Array*, int>> places_;
};

/// The fetches of an iteration alone, into registers.
class Fetch : public IRMutator {
 public:
  Fetch(const Memory& memory, const Registers& registers) : memory_(memory), registers_(registers) {}

 protected:
  using IRMutator::visit;
  static Stmt nothing() { return Evaluate::make(0); }

  Stmt visit(const Store* op) override {
    return memory_.shared.count(op->name) > 0 ? registers_.store(next_++, op->value) : nothing();
  }
  Stmt visit(const Evaluate*) override { return nothing(); }
  Stmt visit(const For*) override { return nothing(); }
  Stmt visit(const AssertStmt*) override { return nothing(); }
  Stmt visit(const ProducerConsumer* op) override { return mutate(op->body); }
  Stmt visit(const Block* op) override {
    const Stmt first = mutate(op->first), rest = mutate(op->rest);
    if (is_no_op(first)) return rest;
    return is_no_op(rest) ? first : Block::make(first, rest);
  }
  Stmt visit(const IfThenElse* op) override {
    const Stmt then_case = mutate(op->then_case);
    const Stmt else_case = op->else_case.defined() ? mutate(op->else_case) : Stmt();
    const bool has_else = else_case.defined() && !is_no_op(else_case);
    if (is_no_op(then_case) && !has_else) return nothing();
    return IfThenElse::make(op->condition, then_case, has_else ? else_case : Stmt());
  }
  Stmt visit(const LetStmt* op) override {
    const Stmt body = mutate(op->body);
    if (is_no_op(body)) return nothing();
    // The statement stands in several places, one within the scope of the other.
    const std::string name = unique_name(op->name);
    return LetStmt::make(name, op->value, substitute(op->name, Variable::make(op->value.type(), name), body));
  }

 private:
  const Memory& memory_;
  const Registers& registers_;
  std::size_t next_ = 0;
};

/// The iteration itself: stages from registers, and starts the next fetch once all threads have staged.
class Iteration : public IRMutator {
 public:
  Iteration(const Memory& memory, const Registers& registers, std::size_t staged, Stmt next_fetch)
      : memory_(memory), registers_(registers), staged_(staged), next_fetch_(std::move(next_fetch)) {}

 protected:
  using IRMutator::visit;

  Stmt visit(const Store* op) override {
    if (memory_.shared.count(op->name) == 0) return op;
    const Expr value = registers_.load(next_++, op->value.type());
    return Store::make(op->name, value, op->index, op->param, op->predicate, op->alignment);
  }

  Stmt visit(const Evaluate* op) override {
    if (!is_barrier(op) || next_ == 0) return op;
    if (next_ < staged_) return Evaluate::make(0);
    if (!next_fetch_.defined()) return op;
    return Block::make(op, std::exchange(next_fetch_, Stmt()));
  }

 private:
  const Memory& memory_;
  const Registers& registers_;
  std::size_t staged_, next_ = 0;
  Stmt next_fetch_;
};

class Loops : public IRMutator {
 public:
  explicit Loops(Memory memory) : memory_(std::move(memory)) {}

 protected:
  using IRMutator::visit;

  Stmt visit(const For* op) override {
    if (op->for_type != ForType::Serial) return IRMutator::visit(op);
    Survey survey(memory_);
    op->body.accept(&survey);
    if (!survey.fits()) return IRMutator::visit(op);
    const Registers registers(survey.staged, op->name);
    const auto fetch = [&](const Expr& iteration) {
      return substitute(op->name, iteration, Fetch(memory_, registers).mutate(op->body));
    };
    const Expr next = Variable::make(Halide::Int(32), op->name) + 1;
    const Stmt ahead = IfThenElse::make(next < op->min + op->extent, fetch(next));
    const Stmt body = Iteration(memory_, registers, survey.staged.size(), ahead).mutate(op->body);
    const Stmt loop =
        For::make(op->name, op->min, op->extent, op->for_type, op->partition_policy, op->device_api, body);
    const Stmt first = IfThenElse::make(op->extent > 0, fetch(op->min));
    return registers.allocate(Block::make(simplify(first), loop));
  }

 private:
  Memory memory_;
};

}  // namespace

Stmt prefetch_stages(const Stmt& s) {
  return rewrite_kernels(s, [](const Stmt& kernel) {
    Memory memory;
    kernel.accept(&memory);
    return Loops(std::move(memory)).mutate(kernel);
  });
}

}  // namespace heddle::targets
