#include "generators/fingerprint.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <deque>
#include <unordered_map>

#include "base/file.hpp"

namespace heddle {
namespace {

namespace hi = Halide::Internal;

class Canonical : public hi::IRVisitor {
 public:
  std::string of(const Pipeline& pipeline) {
    // In the order of the kernel's arguments, so that exchanging two of them shows.
    for (const auto& symbol : pipeline.symbols) parameter(symbol.parameter());
    for (const auto& input : pipeline.inputs) parameter(input.parameter());
    for (const auto& output : pipeline.outputs) {
      function(output.function());
      for (const auto& buffer : output.function().output_buffers()) parameter(buffer);
    }
    while (!pending_.empty()) {
      const hi::Function f = pending_.front();
      pending_.pop_front();
      define(f);
    }
    return std::move(text_);
  }

 private:
  std::string text_;
  std::unordered_map<std::string, int> names_;
  std::unordered_map<const hi::IRNode*, int> nodes_;
  std::vector<Halide::Expr> kept_;  ///< so that no address is used twice
  std::unordered_map<const hi::FunctionContents*, int> functions_;
  std::deque<hi::Function> pending_;

  void word(std::string_view text) {
    text_ += text;
    text_ += ' ';
  }
  void number(std::int64_t value) {
    char digits[24];
    const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    word({digits, static_cast<std::size_t>(end - digits)});
  }
  template <class E>
    requires std::is_enum_v<E>
  void number(E value) {
    number(static_cast<std::int64_t>(value));
  }
  void name(const std::string& text) {
    number(names_.try_emplace(text, static_cast<int>(names_.size())).first->second);
  }
  void type(Halide::Type t) {
    number(t.code());
    number(t.bits());
    number(t.lanes());
  }

  void expr(const Halide::Expr& e) {
    if (!e.defined()) return word("-");
    const auto [known, fresh] = nodes_.try_emplace(e.get(), static_cast<int>(nodes_.size()));
    if (!fresh) {
      word("#");
      return number(known->second);
    }
    kept_.push_back(e);
    word("(");
    number(e.node_type());
    type(e.type());
    e.accept(this);
    word(")");
  }
  void exprs(const std::vector<Halide::Expr>& list) {
    number(static_cast<std::int64_t>(list.size()));
    for (const auto& e : list) expr(e);
  }

  void function(const hi::Function& f) {
    const auto [known, fresh] = functions_.try_emplace(f.get_contents().get(), static_cast<int>(functions_.size()));
    word("f");
    number(known->second);
    name(f.name());
    if (fresh) pending_.push_back(f);
  }

  void parameter(const Halide::Parameter& p) {
    word("param");
    name(p.name());
    type(p.type());
    if (!p.is_buffer()) {
      expr(p.min_value());
      return expr(p.max_value());
    }
    number(p.dimensions());
    number(p.host_alignment());
    for (int d = 0; d < p.dimensions(); ++d) {
      expr(p.min_constraint(d));
      expr(p.extent_constraint(d));
      expr(p.stride_constraint(d));
    }
  }

  void define(const hi::Function& f) {
    word("\nfunc");
    name(f.name());
    for (const auto& argument : f.args()) name(argument);
    for (const auto& t : f.output_types()) type(t);
    word(f.debug_file().empty() ? "." : f.debug_file());
    number((f.is_tracing_loads() ? 1 : 0) + (f.is_tracing_stores() ? 2 : 0) + (f.is_tracing_realizations() ? 4 : 0));
    schedule(f.schedule());
    if (f.has_extern_definition()) {
      word("extern");
      word(f.extern_function_name());
      for (const auto& argument : f.extern_arguments()) {
        number(argument.arg_type);
        if (argument.is_func()) function(hi::Function(argument.func));
        if (argument.is_expr()) expr(argument.expr);
        if (argument.is_image_param()) parameter(argument.image_param);
        if (argument.is_buffer()) image(argument.buffer);
      }
      return;
    }
    definition(f.definition());
    for (const auto& update : f.updates()) definition(update);
  }

  void definition(const hi::Definition& d) {
    word("\n ");
    schedule(d.schedule());
    exprs(d.args());
    exprs(d.values());
    expr(d.predicate());
    for (const auto& special : d.specializations()) {
      word("specialize");
      expr(special.condition);
      word(special.failure_message);
      if (special.definition.defined()) definition(special.definition);
    }
  }

  void level(Halide::LoopLevel l) {
    l.lock();  // Halide lets nobody look at a level before; no directive comes after
    if (!l.defined()) return word("-");
    name(l.func_name());
    name(l.var_name());
    number(l.get_stage_index());
    number(l.is_rvar() ? 1 : 0);
  }

  void schedule(const hi::FuncSchedule& s) {
    level(s.store_level());
    level(s.compute_level());
    level(s.hoist_storage_level());
    number(s.memory_type());
    number((s.memoized() ? 1 : 0) + (s.async() ? 2 : 0));
    expr(s.memoize_eviction_key());
    expr(s.ring_buffer());
    for (const auto& d : s.storage_dims()) {
      word("store");
      name(d.var);
      expr(d.alignment);
      expr(d.bound);
      expr(d.fold_factor);
      number(d.fold_forward ? 1 : 0);
    }
    for (const auto& b : s.bounds()) {
      word("bound");
      name(b.var);
      expr(b.min);
      expr(b.extent);
      expr(b.modulus);
      expr(b.remainder);
    }
    // Halide keeps them sorted by a name that differs from run to run.
    std::vector<std::pair<int, const hi::FunctionPtr*>> wrappers;
    for (const auto& [consumer, wrapper] : s.wrappers())
      wrappers.emplace_back(names_.try_emplace(consumer, static_cast<int>(names_.size())).first->second, &wrapper);
    std::ranges::sort(wrappers, {}, [](const auto& w) { return w.first; });
    for (const auto& [consumer, wrapper] : wrappers) {
      word("wrap");
      number(consumer);
      function(hi::Function(*wrapper));
    }
  }

  void schedule(const hi::StageSchedule& s) {
    for (const auto& r : s.rvars()) {
      word("r");
      name(r.var);
      expr(r.min);
      expr(r.extent);
    }
    for (const auto& split : s.splits()) {
      word("split");
      number(split.split_type);
      name(split.old_var);
      name(split.outer);
      name(split.inner);
      expr(split.factor);
      number(split.exact ? 1 : 0);
      number(split.tail);
    }
    for (const auto& dim : s.dims()) {
      word("dim");
      name(dim.var);
      number(dim.for_type);
      number(dim.device_api);
      number(dim.dim_type);
      number(dim.partition_policy);
    }
    for (const auto& prefetch : s.prefetches()) {
      word("prefetch");
      name(prefetch.name);
      name(prefetch.at);
      name(prefetch.from);
      expr(prefetch.offset);
      number(prefetch.strategy);
    }
    level(s.fuse_level().level);
    for (const auto& [dim, align] : s.fuse_level().align) {
      name(dim);
      number(align);
    }
    for (const auto& pair : s.fused_pairs()) {
      word("fused");
      name(pair.func_1);
      name(pair.func_2);
      number(static_cast<std::int64_t>(pair.stage_1));
      number(static_cast<std::int64_t>(pair.stage_2));
      name(pair.var_name);
    }
    number((s.atomic() ? 1 : 0) + (s.allow_race_conditions() ? 2 : 0) +
           (s.override_atomic_associativity_test() ? 4 : 0));
  }

  void image(const Halide::Buffer<void>& buffer) {
    word("image");
    type(buffer.type());
    for (int d = 0; d < buffer.dimensions(); ++d) {
      number(buffer.dim(d).min());
      number(buffer.dim(d).extent());
      number(buffer.dim(d).stride());
    }
    word(sha256({reinterpret_cast<const char*>(buffer.get()->begin()), buffer.size_in_bytes()}));
  }

  template <class Node>
  void binary(const Node* op) {
    expr(op->a);
    expr(op->b);
  }

  using IRVisitor::visit;
  void visit(const hi::IntImm* op) override { number(op->value); }
  void visit(const hi::UIntImm* op) override { number(static_cast<std::int64_t>(op->value)); }
  void visit(const hi::FloatImm* op) override { number(std::bit_cast<std::int64_t>(op->value)); }
  void visit(const hi::StringImm* op) override {
    number(static_cast<std::int64_t>(op->value.size()));
    word(op->value);
  }
  void visit(const hi::Cast* op) override { expr(op->value); }
  void visit(const hi::Reinterpret* op) override { expr(op->value); }
  void visit(const hi::Variable* op) override {
    name(op->name);
    // The bounds of a reduction variable belong to the definition's schedule; the pipeline's own parameters were
    // written at the start, but an operator might capture one that is not an argument.
    number((op->param.defined() ? 1 : 0) + (op->reduction_domain.defined() ? 2 : 0) + (op->image.defined() ? 4 : 0));
  }
  void visit(const hi::Add* op) override { binary(op); }
  void visit(const hi::Sub* op) override { binary(op); }
  void visit(const hi::Mul* op) override { binary(op); }
  void visit(const hi::Div* op) override { binary(op); }
  void visit(const hi::Mod* op) override { binary(op); }
  void visit(const hi::Min* op) override { binary(op); }
  void visit(const hi::Max* op) override { binary(op); }
  void visit(const hi::EQ* op) override { binary(op); }
  void visit(const hi::NE* op) override { binary(op); }
  void visit(const hi::LT* op) override { binary(op); }
  void visit(const hi::LE* op) override { binary(op); }
  void visit(const hi::GT* op) override { binary(op); }
  void visit(const hi::GE* op) override { binary(op); }
  void visit(const hi::And* op) override { binary(op); }
  void visit(const hi::Or* op) override { binary(op); }
  void visit(const hi::Not* op) override { expr(op->a); }
  void visit(const hi::Select* op) override {
    expr(op->condition);
    expr(op->true_value);
    expr(op->false_value);
  }
  void visit(const hi::Load* op) override {
    name(op->name);
    expr(op->index);
    expr(op->predicate);
  }
  void visit(const hi::Ramp* op) override {
    expr(op->base);
    expr(op->stride);
    number(op->lanes);
  }
  void visit(const hi::Broadcast* op) override {
    expr(op->value);
    number(op->lanes);
  }
  void visit(const hi::Call* op) override {
    number(op->call_type);
    number(op->value_index);
    if (op->call_type == hi::Call::Halide) {
      if (op->func.defined()) function(hi::Function(op->func));
      else name(op->name);
    } else if (op->call_type == hi::Call::Image) {
      name(op->name);
      if (op->image.defined()) image(op->image);
    } else {
      word(op->name);  // an intrinsic or a C function
    }
    exprs(op->args);
  }
  void visit(const hi::Let* op) override {
    name(op->name);
    expr(op->value);
    expr(op->body);
  }
  void visit(const hi::Shuffle* op) override {
    exprs(op->vectors);
    for (const int index : op->indices) number(index);
  }
  void visit(const hi::VectorReduce* op) override {
    number(op->op);
    expr(op->value);
  }
};

}  // namespace

std::string canonical_form(const Pipeline& pipeline) { return Canonical().of(pipeline); }

}  // namespace heddle
