#include "generators/rename.hpp"

#include <cctype>
#include <set>
#include <unordered_map>

#include <fmt/format.h>

namespace heddle {
namespace {

namespace hi = Halide::Internal;

/// "blur_out$7.stride.1" -> "blur_out.stride.1"
std::string without_numbers(const std::string& text) {
  std::string clean;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '$') {
      while (i + 1 < text.size() && std::isdigit(static_cast<unsigned char>(text[i + 1])) != 0) ++i;
      continue;
    }
    clean += text[i];
  }
  return clean;
}

/// Allocations in the order in which they are met.
class Allocations : public hi::IRVisitor {
 public:
  std::vector<std::string> names;

 protected:
  using IRVisitor::visit;
  void visit(const hi::Allocate* op) override {
    names.push_back(op->name);
    IRVisitor::visit(op);
  }
};

class Rename : public hi::IRGraphMutator {
 public:
  explicit Rename(const std::unordered_map<std::string, std::string>& names) : names_(names) {}

 protected:
  using IRGraphMutator::visit;
  Halide::Expr visit(const hi::Variable* op) override {
    const std::string* name = renamed(op->name);
    return name ? hi::Variable::make(op->type, *name, op->image, op->param, op->reduction_domain) : Halide::Expr(op);
  }
  Halide::Expr visit(const hi::Call* op) override {
    const bool outer = in_error_;
    in_error_ = in_error_ || op->name.starts_with("halide_error");
    const Halide::Expr mutated = IRGraphMutator::visit(op);
    in_error_ = outer;
    const std::string* name = renamed(op->name);
    const hi::Call* call = mutated.as<hi::Call>();
    return name ? hi::Call::make(call->type, *name, call->args, call->call_type) : mutated;
  }
  Halide::Expr visit(const hi::StringImm* op) override {
    return in_error_ ? hi::StringImm::make(without_numbers(op->value)) : Halide::Expr(op);
  }
  Halide::Expr visit(const hi::Load* op) override {
    const Halide::Expr mutated = IRGraphMutator::visit(op);
    const std::string* name = renamed(op->name);
    const hi::Load* load = mutated.as<hi::Load>();
    return name ? hi::Load::make(load->type, *name, load->index, load->image, load->param, load->predicate,
                                 load->alignment)
                : mutated;
  }
  Halide::Expr visit(const hi::Let* op) override {
    const Halide::Expr mutated = IRGraphMutator::visit(op);
    const std::string* name = renamed(op->name);
    const hi::Let* let = mutated.as<hi::Let>();
    return name ? hi::Let::make(*name, let->value, let->body) : mutated;
  }
  hi::Stmt visit(const hi::LetStmt* op) override {
    const hi::Stmt mutated = IRGraphMutator::visit(op);
    const std::string* name = renamed(op->name);
    const hi::LetStmt* let = mutated.as<hi::LetStmt>();
    return name ? hi::LetStmt::make(*name, let->value, let->body) : mutated;
  }
  hi::Stmt visit(const hi::Store* op) override {
    const hi::Stmt mutated = IRGraphMutator::visit(op);
    const std::string* name = renamed(op->name);
    const hi::Store* store = mutated.as<hi::Store>();
    return name ? hi::Store::make(*name, store->value, store->index, store->param, store->predicate, store->alignment)
                : mutated;
  }
  hi::Stmt visit(const hi::Allocate* op) override {
    const hi::Stmt mutated = IRGraphMutator::visit(op);
    const std::string* name = renamed(op->name);
    const hi::Allocate* a = mutated.as<hi::Allocate>();
    return name ? hi::Allocate::make(*name, a->type, a->memory_type, a->extents, a->condition, a->body, a->new_expr,
                                     a->free_function, a->padding)
                : mutated;
  }
  hi::Stmt visit(const hi::Free* op) override {
    const std::string* name = renamed(op->name);
    return name ? hi::Free::make(*name) : hi::Stmt(op);
  }
  hi::Stmt visit(const hi::Atomic* op) override {
    const hi::Stmt mutated = IRGraphMutator::visit(op);
    const std::string* mutex = renamed(op->mutex_name);
    const hi::Atomic* atomic = mutated.as<hi::Atomic>();
    return mutex ? hi::Atomic::make(atomic->producer_name, *mutex, atomic->body) : mutated;
  }

 private:
  const std::unordered_map<std::string, std::string>& names_;
  bool in_error_ = false;

  const std::string* renamed(const std::string& name) const {
    const auto found = names_.find(name);
    return found == names_.end() ? nullptr : &found->second;
  }
};

}  // namespace

void normalise_names(Halide::Module& module, const std::string& symbol) {
  std::unordered_map<std::string, std::string> names;
  Allocations allocations;
  std::set<std::string> taken;
  int tasks = 0;
  for (const auto& f : module.functions()) {
    f.body.accept(&allocations);
    for (const auto& argument : f.args) taken.insert(argument.name);
    if (f.name == symbol) continue;
    const std::string task = fmt::format("{}_task{}", symbol, tasks++);
    names[f.name] = task;
    names["::" + f.name] = "::" + task;  // how the body that starts the loop names it
  }
  const auto is_numbered = [](const std::string& name) { return name.find('$') != std::string::npos; };
  for (const auto& name : allocations.names)
    if (!is_numbered(name)) taken.insert(name);
  for (const auto& name : allocations.names) {
    if (!is_numbered(name) || names.contains(name)) continue;
    std::string clean = without_numbers(name);
    for (int again = 2; taken.contains(clean); ++again) clean = fmt::format("{}_{}", without_numbers(name), again);
    taken.insert(clean);
    names[name] = clean;
  }
  Rename rename(names);
  for (auto& f : module.functions()) {
    f.body = rename.mutate(f.body);
    const auto renamed = names.find(f.name);
    if (renamed != names.end()) f.name = renamed->second;
  }
}

}  // namespace heddle
