#include "autoscheduler/lowered_program.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "autoscheduler/lowered_cost.hpp"
#include "autoscheduler/lowered_scan.hpp"
#include "autoscheduler/lowered_value.hpp"
#include "base/error.hpp"

namespace heddle::autoscheduler {
namespace {

namespace hi = Halide::Internal;
using Halide::Expr;
using Halide::Type;

/// More different values than a compiler takes in seconds.
constexpr double most_values = 40000;
/// More instructions than a compiler takes in seconds, and about twice what a first cache of instructions holds.
constexpr double most_code = 10000;
/// Stack that registers can stand for, in vectors.
constexpr double most_resident = 40;
constexpr double addition_latency = 4;
/// Cycles that putting a vector on the stack, or taking it from there, costs beside its instruction (Cascade Lake).
constexpr double spilled = 2;
/// The same of what was loaded: sums that use it may be done in another order, and most loads are part of another
/// instruction (depthwise convolutions on Granite Rapids).
constexpr double reloaded = 1;
/// A sum whose place in memory depends on data waits for the store before it.
constexpr double forwarded_store = 3;

class Walker {
 public:
  Walker(const Machine& machine, const std::map<std::string, double>& arguments)
      : vector_bits_(8.0 * machine.vector_bytes), registers_(machine.vector_registers), arguments_(arguments) {
    frames_.push_back({});
  }

  LoweredProgram run(const hi::Stmt& body) {
    walk(body);
    program_.body = std::move(frames_.front().work);
    program_.values = static_cast<double>(values_.size());
    program_.complete = !full();
    return std::move(program_);
  }

 private:
  struct Frame {
    LoopWork work;
    std::set<std::string> stored;       ///< within this loop
    std::set<std::string> in_register;  ///< buffers whose places do not change in this loop
    std::set<std::pair<std::string, int>> held;
    std::map<std::pair<std::string, int>, int> updates;
  };
  using Key = std::vector<std::int64_t>;

  bool full() const { return static_cast<double>(values_.size()) > most_values || code_ > most_code; }
  int depth() const { return static_cast<int>(frames_.size()) - 1; }
  Frame& frame(int depth) { return frames_[static_cast<std::size_t>(std::min(depth, this->depth()))]; }
  Value& value(int id) { return values_[static_cast<std::size_t>(id)]; }

  std::int64_t name_id(const std::string& name) {
    return names_.try_emplace(name, static_cast<std::int64_t>(names_.size())).first->second;
  }
  static std::int64_t code(const Type& t) {
    return (static_cast<std::int64_t>(t.code()) << 40) | (static_cast<std::int64_t>(t.bits()) << 32) | t.lanes();
  }
  /// Instructions for an operation on all lanes.
  double vectors(const Type& t) const {
    if (t.lanes() == 1) return 1;
    return std::max(1.0, std::ceil(std::max(t.bits(), 8) * t.lanes() / vector_bits_));
  }
  static bool is_address(const Type& t) { return t.lanes() == 1 && !t.is_float(); }

  /// Adds instructions where a value of that depth is computed: what does not depend on a loop is moved out of it.
  void charge(int at, double Instructions::* kind, double count) {
    if (count <= 0) return;
    frame(at).work.instructions.*kind += count * share_;
    code_ += count;
  }
  void compute(Value& v, const Type& t, double operations) {
    if (!is_address(t) && operations > 0) take_register(v, t);
    charge(v.depth, is_address(t) ? &Instructions::scalar : &Instructions::arithmetic,
           is_address(t) ? 0.3 * operations : operations * vectors(t));
  }

  void take_register(Value& v, const Type& t) {
    v.in_register = true;
    made_ += vectors(t);
  }

  /// The number of a value that is equal to one seen before, or of a new one; then `fill` is called.
  template <class Fill>
  int number(Key key, const std::vector<int>& operands, const Fill& fill) {
    for (const int o : operands) key.push_back(o);
    const auto [at, fresh] = numbers_.try_emplace(std::move(key), static_cast<int>(values_.size()));
    if (!fresh) {
      use_again(at->second);
      return at->second;
    }
    const int id = at->second;
    Value v;
    for (const int o : operands) {
      v.depth = std::max(v.depth, value(o).depth);
      v.from_memory = v.from_memory || value(o).from_memory;
    }
    fill(v);
    v.last_use = made_;
    values_.push_back(std::move(v));
    return id;
  }

  /// A vector that was made or used long ago is no longer in a register.
  void use_again(int id) {
    Value& v = value(id);
    if (!v.in_register) return;
    // Those that sums are kept in are not free.
    const double free = std::max(3.0, registers_ - static_cast<double>(frames_.back().held.size()));
    if (made_ - v.last_use > free) {
      charge(depth(), &Instructions::loads, 1);
      // The first time it has to be put somewhere, even if memory has it: a compiler keeps loaded values, not places.
      if (!v.spilled) charge(depth(), &Instructions::stores, 1);
      charge(depth(), &Instructions::calls, (v.loaded ? reloaded : spilled) * (v.spilled ? 1 : 2));
      v.spilled = true;
    }
    v.last_use = made_;
  }

  int constant(const Expr& e, std::optional<double> mid) {
    Key key = {static_cast<std::int64_t>(e.node_type()), code(e.type())};
    if (const auto* f = e.as<hi::FloatImm>()) key.push_back(std::bit_cast<std::int64_t>(f->value));
    else if (const auto* s = e.as<hi::StringImm>()) key.push_back(name_id(s->value));
    else key.push_back(static_cast<std::int64_t>(mid.value_or(0)));
    return number(std::move(key), {}, [&](Value& v) {
      v.mid = mid;
      if (e.type().is_bool()) v.odds = mid;
    });
  }

  template <class Combine>
  int binary(const Expr& e, const Expr& a, const Expr& b, double operations, const Combine& combine) {
    const int x = visit(a), y = visit(b);
    const Type type = a.type();
    return number({static_cast<std::int64_t>(e.node_type()), code(e.type())}, {x, y}, [&](Value& v) {
      const Value &left = value(x), &right = value(y);
      if (!e.type().is_float() && left.mid && right.mid) combine(v, left, right);
      const bool is_sum = e.node_type() == hi::IRNodeType::Add || e.node_type() == hi::IRNodeType::Sub;
      v.product = e.type().is_float() && e.node_type() == hi::IRNodeType::Mul;
      // A product's sum is one instruction with it; offsets are part of addresses.
      if (is_sum && e.type().is_float() && (left.product || right.product)) return;
      if (is_sum && is_address(type) && (hi::is_const(a) || hi::is_const(b))) return;
      compute(v, type, operations);
    });
  }

  int visit(const Expr& e) {
    if (full()) return 0;
    switch (e.node_type()) {
      case hi::IRNodeType::IntImm: return constant(e, static_cast<double>(e.as<hi::IntImm>()->value));
      case hi::IRNodeType::UIntImm: return constant(e, static_cast<double>(e.as<hi::UIntImm>()->value));
      case hi::IRNodeType::FloatImm:
      case hi::IRNodeType::StringImm: return constant(e, std::nullopt);
      case hi::IRNodeType::Variable: return variable(e.as<hi::Variable>());
      case hi::IRNodeType::Let: {
        const auto* let = e.as<hi::Let>();
        bind(let->name, visit(let->value));
        const int body = visit(let->body);
        unbind(let->name);
        return body;
      }
      case hi::IRNodeType::Add:
        return binary(e, e.as<hi::Add>()->a, e.as<hi::Add>()->b, 1,
                      [](Value& v, const Value& a, const Value& b) { sum(v, a, b, 1); });
      case hi::IRNodeType::Sub:
        return binary(e, e.as<hi::Sub>()->a, e.as<hi::Sub>()->b, 1,
                      [](Value& v, const Value& a, const Value& b) { sum(v, a, b, -1); });
      case hi::IRNodeType::Mul: {
        const bool wide_integers = !e.type().is_float() && e.type().bits() >= 32 && e.type().lanes() > 1;
        return binary(e, e.as<hi::Mul>()->a, e.as<hi::Mul>()->b, wide_integers ? 2 : 1,
                      [](Value& v, const Value& a, const Value& b) {
                        if (b.steps.empty()) scale(v, a, *b.mid);
                        else if (a.steps.empty()) scale(v, b, *a.mid);
                        else v.mid = *a.mid * *b.mid;
                      });
      }
      case hi::IRNodeType::Div: {
        const Expr& by = e.as<hi::Div>()->b;
        return binary(e, e.as<hi::Div>()->a, by, division_cost(e.type(), by),
                      [](Value& v, const Value& a, const Value& b) {
                        if (*b.mid == 0) return;
                        scale(v, a, 1 / *b.mid);
                        v.mid = std::floor(*v.mid);
                      });
      }
      case hi::IRNodeType::Mod: {
        const Expr& by = e.as<hi::Mod>()->b;
        return binary(e, e.as<hi::Mod>()->a, by, division_cost(e.type(), by),
                      [](Value& v, const Value& a, const Value& b) {
                        if (*b.mid != 0) v.mid = *a.mid - std::floor(*a.mid / *b.mid) * *b.mid;
                      });
      }
      case hi::IRNodeType::Min: return binary(e, e.as<hi::Min>()->a, e.as<hi::Min>()->b, 1, lesser);
      case hi::IRNodeType::Max: return binary(e, e.as<hi::Max>()->a, e.as<hi::Max>()->b, 1, greater);
      case hi::IRNodeType::EQ:
        return condition<hi::EQ>(e, [](double d, double range) { return range > 0 ? 1 / (2 * range + 1) : d == 0; });
      case hi::IRNodeType::NE:
        return condition<hi::NE>(e,
                                 [](double d, double range) { return range > 0 ? 1 - 1 / (2 * range + 1) : d != 0; });
      case hi::IRNodeType::LT: return condition<hi::LT>(e, [](double d, double range) { return below(-d, range); });
      case hi::IRNodeType::LE: return condition<hi::LE>(e, [](double d, double range) { return below(1 - d, range); });
      case hi::IRNodeType::GT: return condition<hi::GT>(e, [](double d, double range) { return below(d, range); });
      case hi::IRNodeType::GE: return condition<hi::GE>(e, [](double d, double range) { return below(1 + d, range); });
      case hi::IRNodeType::And: return junction<hi::And>(e, [](double a, double b) { return a * b; });
      case hi::IRNodeType::Or: return junction<hi::Or>(e, [](double a, double b) { return 1 - (1 - a) * (1 - b); });
      case hi::IRNodeType::Not:
        return unary(e, e.as<hi::Not>()->a, 1, [](Value& v, const Value& a) {
          if (a.odds) v.odds = 1 - *a.odds;
        });
      case hi::IRNodeType::Cast: {
        const Type from = e.as<hi::Cast>()->value.type(), to = e.type();
        // The same bits need no instruction; between sizes each vector of the larger is made or taken apart.
        const bool same = from.bits() == to.bits() && from.is_float() == to.is_float();
        const double operations =
            same || is_address(to) ? 0 : vectors(from.bits() > to.bits() ? from : to) / vectors(to);
        return unary(e, e.as<hi::Cast>()->value, operations, [](Value& v, const Value& a) { copy(v, a); });
      }
      case hi::IRNodeType::Reinterpret:
        return unary(e, e.as<hi::Reinterpret>()->value, 0, [](Value& v, const Value& a) { copy(v, a); });
      case hi::IRNodeType::Broadcast: {
        const Expr inner = e.as<hi::Broadcast>()->value;
        const bool loaded = inner.as<hi::Load>() != nullptr || hi::is_const(inner);
        return unary(e, inner, loaded ? 0 : 1 / vectors(e.type()), [&](Value& v, const Value& a) {
          copy(v, a);
          if (inner.as<hi::Load>() != nullptr) take_register(v, inner.type());
        });
      }
      case hi::IRNodeType::Ramp: return ramp(e.as<hi::Ramp>(), true);
      case hi::IRNodeType::Select: return select(e.as<hi::Select>());
      case hi::IRNodeType::Load: return load(e.as<hi::Load>());
      case hi::IRNodeType::Call: return call(e.as<hi::Call>());
      case hi::IRNodeType::Shuffle: {
        const auto* shuffle = e.as<hi::Shuffle>();
        std::vector<int> operands;
        Key key = {static_cast<std::int64_t>(hi::IRNodeType::Shuffle), code(e.type())};
        for (const Expr& part : shuffle->vectors) operands.push_back(visit(part));
        for (const int index : shuffle->indices) key.push_back(index);
        key.push_back(-1);
        return number(std::move(key), operands, [&](Value& v) { compute(v, e.type(), 1); });
      }
      case hi::IRNodeType::VectorReduce: {
        const auto* reduce = e.as<hi::VectorReduce>();
        const Type from = reduce->value.type();
        // Whole vectors first, then halves.
        const double steps =
            vectors(from) - vectors(e.type()) +
            2 * std::log2(std::max(1.0, std::min<double>(from.lanes(), vector_bits_ / from.bits()) / e.type().lanes()));
        return unary(
            e, reduce->value, std::max(1.0, steps) / vectors(e.type()), [](Value&, const Value&) {},
            static_cast<std::int64_t>(reduce->op));
      }
      default: return constant(Expr(0), 0.0);
    }
  }

  template <class Combine>
  int unary(const Expr& e, const Expr& of, double operations, const Combine& combine, std::int64_t extra = 0) {
    const int x = visit(of);
    return number({static_cast<std::int64_t>(e.node_type()), code(e.type()), extra}, {x}, [&](Value& v) {
      combine(v, value(x));
      compute(v, e.type(), operations);
    });
  }

  /// `odds`: that a difference with the given middle, which varies by so much to either side, fulfils the condition.
  template <class Node, class Odds>
  int condition(const Expr& e, const Odds& odds) {
    const Node* node = e.as<Node>();
    return binary(e, node->a, node->b, 1, [&](Value& v, const Value& a, const Value& b) {
      double range = 0;
      for (std::size_t l = 0; l < std::max(a.steps.size(), b.steps.size()) && l + 1 < frames_.size(); ++l)
        range += std::abs(step_of(a, l) - step_of(b, l)) * (frames_[l + 1].work.extent - 1) / 2;
      v.odds = odds(*a.mid - *b.mid, range);
    });
  }

  template <class Node, class Combine>
  int junction(const Expr& e, const Combine& combine) {
    const Node* node = e.as<Node>();
    const int x = visit(node->a), y = visit(node->b);
    return number({static_cast<std::int64_t>(e.node_type()), code(e.type())}, {x, y}, [&](Value& v) {
      if (value(x).odds && value(y).odds) v.odds = combine(*value(x).odds, *value(y).odds);
      compute(v, e.type(), 1);
    });
  }

  int variable(const hi::Variable* variable) {
    const auto bound = scope_.find(variable->name);
    if (bound != scope_.end() && !bound->second.empty()) return bound->second.back();
    return number({static_cast<std::int64_t>(hi::IRNodeType::Variable), name_id(variable->name)}, {}, [](Value&) {});
  }

  int select(const hi::Select* select) {
    const int condition = visit(select->condition), yes = visit(select->true_value), no = visit(select->false_value);
    return number({static_cast<std::int64_t>(hi::IRNodeType::Select), code(select->type)}, {condition, yes, no},
                  [&](Value& v) {
                    if (const auto odds = value(condition).odds) either(v, value(yes), value(no), *odds);
                    compute(v, select->type, 1);
                  });
  }

  int buffer(const std::string& name) {
    const auto [at, fresh] = buffers_.try_emplace(name, static_cast<int>(program_.buffers.size()));
    if (fresh) {
      const auto known = arguments_.find(name);
      program_.buffers.push_back({name, known == arguments_.end() ? 0 : known->second, -1, false});
    }
    return at->second;
  }

  /// Whether the loops up to the current one keep the buffer's places in registers.
  bool held(const std::string& name) const {
    return resident_.contains(name) || frames_.back().in_register.contains(name);
  }

  void access(const std::string& name, const Type& type, const Expr& index, int index_value, bool store) {
    const Value& place = value(index_value);
    const auto* ramp = index.as<hi::Ramp>();
    const auto stride = ramp != nullptr ? hi::as_const_int(ramp->stride) : std::optional<std::int64_t>(1);
    MemoryAccess a;
    a.buffer = buffer(name);
    a.store = store;
    const double element = type.bytes();
    a.scattered = !place.mid || (index.type().is_vector() && !stride);
    const double step = std::abs(static_cast<double>(stride.value_or(1)));
    a.pieces = step * element > 64 ? type.lanes() : 1;
    a.bytes = a.pieces > 1 ? element : element * (1 + (type.lanes() - 1) * step);
    if (!a.scattered) {
      a.offset = *place.mid * element;
      a.steps = place.steps;
      for (double& s : a.steps) s *= element;
    }
    frames_.back().work.accesses.push_back(std::move(a));
  }

  /// Instructions that move a vector: what lies side by side at once, the rest one by one.
  void move(int at, const Type& type, const Expr& index, const Expr& predicate, double Instructions::* kind) {
    const double whole = vectors(type);
    const bool store = kind == &Instructions::stores;
    const auto* ramp = index.as<hi::Ramp>();
    const auto stride = ramp != nullptr ? hi::as_const_int(ramp->stride) : std::nullopt;
    if (!hi::is_const_one(predicate)) {
      // Masked moves are for 32 and 64 bits; masked stores are microcode on some.
      charge(at, kind, type.bits() >= 32 ? whole * (store ? 6 : 1) : 2.0 * type.lanes());
      charge(at, &Instructions::arithmetic, whole * 2);
    } else if (type.lanes() == 1 || (stride && *stride == 1)) {
      charge(at, kind, whole);
    } else if (!store && stride && std::abs(*stride) <= 4) {
      charge(at, kind, whole * static_cast<double>(std::abs(*stride)));
      charge(at, &Instructions::arithmetic, whole * static_cast<double>(std::abs(*stride)));
    } else {
      charge(at, kind, type.lanes());
      charge(at, &Instructions::arithmetic, element_cost(type) * type.lanes());
    }
  }

  int ramp(const hi::Ramp* ramp, bool as_vector) {
    const int base = visit(ramp->base), stride = visit(ramp->stride);
    return number({static_cast<std::int64_t>(hi::IRNodeType::Ramp), code(ramp->type)}, {base, stride}, [&](Value& v) {
      if (value(base).mid) copy(v, value(base));
      if (as_vector) compute(v, ramp->type, 1);
    });
  }

  /// Where a load or a store begins: its lanes' places need no vector.
  int place(const Expr& index) {
    const auto* ramp = index.as<hi::Ramp>();
    return ramp != nullptr ? this->ramp(ramp, false) : visit(index);
  }

  int load(const hi::Load* load) {
    const int index = place(load->index);
    if (!hi::is_const_one(load->predicate)) visit(load->predicate);
    const Key key = {static_cast<std::int64_t>(hi::IRNodeType::Load), code(load->type), name_id(load->name),
                     versions_[load->name]};
    return number(key, {index}, [&](Value& v) {
      v.from_memory = true;
      for (int d = depth(); d > v.depth; --d)
        if (frame(d).stored.contains(load->name)) v.depth = d;
      if (held(load->name)) {
        frames_.back().held.insert({load->name, index});
        return;
      }
      if (load->type.lanes() > 1) take_register(v, load->type);
      v.loaded = true;
      move(v.depth, load->type, load->index, load->predicate, &Instructions::loads);
      access(load->name, load->type, load->index, index, false);
    });
  }

  int call(const hi::Call* call) {
    std::vector<int> operands;
    for (const Expr& argument : call->args) operands.push_back(visit(argument));
    Key key = {static_cast<std::int64_t>(hi::IRNodeType::Call), code(call->type), name_id(call->name)};
    return number(std::move(key), operands, [&](Value& v) {
      if (call->is_intrinsic({hi::Call::likely, hi::Call::likely_if_innermost, hi::Call::promise_clamped,
                              hi::Call::unsafe_promise_clamped})) {
        copy(v, value(operands[0]));
        v.odds = value(operands[0]).odds;
        return;
      }
      if (call->is_intrinsic(hi::Call::if_then_else) && value(operands[0]).odds && operands.size() > 2)
        copy(v, value(*value(operands[0]).odds >= 0.5 ? operands[1] : operands[2]));
      if (call->is_intrinsic()) {
        compute(v, call->type, 1);
        return;
      }
      if (const auto operations = function_cost(*call)) compute(v, call->type, *operations);
      else if (call->call_type == hi::Call::PureExtern || call->call_type == hi::Call::Extern)
        charge(v.depth, &Instructions::calls, library_call * call->type.lanes());
    });
  }

  void bind(const std::string& name, int id) { scope_[name].push_back(id); }
  void unbind(const std::string& name) { scope_[name].pop_back(); }

  void walk(const hi::Stmt& s) {
    if (!s.defined() || full()) return;
    switch (s.node_type()) {
      case hi::IRNodeType::LetStmt: {
        const auto* let = s.as<hi::LetStmt>();
        bind(let->name, visit(let->value));
        walk(let->body);
        unbind(let->name);
        break;
      }
      case hi::IRNodeType::Block:
        walk(s.as<hi::Block>()->first);
        walk(s.as<hi::Block>()->rest);
        break;
      case hi::IRNodeType::ProducerConsumer: walk(s.as<hi::ProducerConsumer>()->body); break;
      case hi::IRNodeType::Atomic: walk(s.as<hi::Atomic>()->body); break;
      case hi::IRNodeType::Fork:
        walk(s.as<hi::Fork>()->first);
        walk(s.as<hi::Fork>()->rest);
        break;
      case hi::IRNodeType::Acquire: walk(s.as<hi::Acquire>()->body); break;
      case hi::IRNodeType::HoistedStorage: walk(s.as<hi::HoistedStorage>()->body); break;
      case hi::IRNodeType::For: loop(s.as<hi::For>()); break;
      case hi::IRNodeType::Store: store(s.as<hi::Store>()); break;
      case hi::IRNodeType::Allocate: allocate(s.as<hi::Allocate>()); break;
      case hi::IRNodeType::IfThenElse: branch(s.as<hi::IfThenElse>()); break;
      case hi::IRNodeType::Evaluate: visit(s.as<hi::Evaluate>()->value); break;
      default: break;
    }
  }

  void branch(const hi::IfThenElse* branch) {
    const int condition = visit(branch->condition);
    charge(value(condition).depth, &Instructions::scalar, 1);
    const double share = share_, odds = value(condition).odds.value_or(0.5);
    share_ = share * odds;
    if (odds > 0) walk(branch->then_case);
    share_ = share * (1 - odds);
    if (odds < 1) walk(branch->else_case);
    share_ = share;
  }

  void allocate(const hi::Allocate* allocation) {
    double elements = 1;
    for (const Expr& extent : allocation->extents) elements *= value(visit(extent)).mid.value_or(64);
    LoweredBuffer made{allocation->name, elements * allocation->type.bytes(), depth(), true};
    made.stack = allocation->constant_allocation_size() > 0;
    // The runtime's allocation: a call and its bookkeeping.
    if (!made.stack) charge(depth(), &Instructions::calls, 60);
    buffers_[allocation->name] = static_cast<int>(program_.buffers.size());
    program_.buffers.push_back(made);
    bool in_registers = made.stack && made.bytes * 8 <= most_resident * vector_bits_;
    if (in_registers) {
      // Registers have no numbers that could be computed.
      std::set<std::string> variables;
      for (const auto& [name, ids] : scope_) variables.insert(name);
      in_registers = !scan(allocation->body, std::move(variables)).varying.contains(allocation->name);
    }
    if (in_registers) resident_.insert(allocation->name);
    walk(allocation->body);
    resident_.erase(allocation->name);
  }

  void store(const hi::Store* store) {
    const int stored = visit(store->value);
    const int index = place(store->index);
    if (!hi::is_const_one(store->predicate)) visit(store->predicate);
    const bool again = loads_from(store->value, store->name);
    if (held(store->name)) {
      frames_.back().held.insert({store->name, index});
      if (again) frames_.back().updates[{store->name, index}] += 1;
    } else {
      move(depth(), store->value.type(), store->index, store->predicate, &Instructions::stores);
      access(store->name, store->value.type(), store->index, index, true);
      if (again && value(index).from_memory) frames_.back().work.latency += forwarded_store * share_;
    }
    // What is loaded of the buffer from now on is new, except for what has just been stored. A register's content
    // changes from iteration to iteration, whatever it is made of.
    int kept = stored;
    if (held(store->name)) {
      Value v;
      v.depth = depth();
      v.from_memory = true;
      kept = static_cast<int>(values_.size());
      values_.push_back(std::move(v));
    }
    numbers_[{static_cast<std::int64_t>(hi::IRNodeType::Load), code(store->value.type()), name_id(store->name),
              ++versions_[store->name], index}] = kept;
  }

  void loop(const hi::For* loop) {
    const int min = visit(loop->min), extent = visit(loop->extent);
    Frame inner;
    inner.work.name = loop->name;
    inner.work.extent = value(extent).mid ? std::max(0.0, mean(value(extent))) : 8;
    inner.work.share = share_;
    if (inner.work.extent == 0) return;
    const BufferScan scan = autoscheduler::scan(loop->body, {loop->name});
    inner.stored = scan.stored;
    if (!scan.has_loops)
      for (const std::string& name : scan.stored)
        if (!scan.varying.contains(name)) inner.in_register.insert(name);
    const std::size_t at = frames_.size() - 1;
    Value v;
    v.depth = static_cast<int>(frames_.size());
    if (value(min).mid) v.mid = *value(min).mid + std::floor((inner.work.extent - 1) / 2);
    v.steps = value(min).steps;
    v.steps.resize(at + 1);
    v.steps[at] = 1;
    values_.push_back(std::move(v));
    bind(loop->name, static_cast<int>(values_.size()) - 1);
    for (const std::string& name : scan.stored) ++versions_[name];
    const double share = share_;
    share_ = 1;
    frames_.push_back(std::move(inner));
    walk(loop->body);
    Frame done = std::move(frames_.back());
    frames_.pop_back();
    share_ = share;
    for (const std::string& name : scan.stored) ++versions_[name];
    unbind(loop->name);
    finish(done);
    frames_.back().work.loops.push_back(std::move(done.work));
  }

  void finish(Frame& done) {
    for (const auto& [place, count] : done.updates)
      done.work.latency = std::max(done.work.latency, addition_latency * count);
    const double excess = static_cast<double>(done.held.size()) - (registers_ - 2);
    if (excess > 0) {
      done.work.instructions.loads += excess;
      done.work.instructions.stores += excess;
    }
    // Sums that a loop keeps in registers are loaded before it and stored after it.
    for (const auto& [name, index] : done.held)
      if (!resident_.contains(name)) {
        frames_.back().work.instructions.loads += share_;
        frames_.back().work.instructions.stores += share_;
      }
  }

  double vector_bits_, registers_;
  const std::map<std::string, double>& arguments_;
  LoweredProgram program_;
  std::vector<Frame> frames_;
  std::vector<Value> values_;
  std::map<Key, int> numbers_;
  std::map<std::string, std::int64_t> names_;
  std::map<std::string, std::int64_t> versions_;
  std::map<std::string, std::vector<int>> scope_;
  std::map<std::string, int> buffers_;
  std::set<std::string> resident_;
  double code_ = 0;   ///< instructions, those of each loop once
  double made_ = 0;   ///< vectors so far
  double share_ = 1;  ///< of the current loop's iterations that execute what is walked now
};

}  // namespace

LoweredProgram analyse_lowered(const Halide::Module& module, const Machine& machine,
                               const std::map<std::string, double>& arguments) {
  const auto& functions = module.functions();
  const auto kernel = std::ranges::find(functions, module.name(), &hi::LoweredFunc::name);
  if (kernel == functions.end())
    throw Error(ErrorCode::internal, fmt::format("a lowered module has no function '{}'", module.name()));
  return Walker(machine, arguments).run(kernel->body);
}

}  // namespace heddle::autoscheduler
