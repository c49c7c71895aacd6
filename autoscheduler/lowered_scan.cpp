#include "autoscheduler/lowered_scan.hpp"

#include <algorithm>
#include <utility>

namespace heddle::autoscheduler {
namespace {

namespace hi = Halide::Internal;
using Halide::Expr;

class Scan : public hi::IRVisitor {
 public:
  BufferScan found;
  explicit Scan(std::set<std::string> variables) : tainted_(std::move(variables)) {}

 private:
  using hi::IRVisitor::visit;
  bool taints(const Expr& e) const {
    return std::ranges::any_of(tainted_, [&](const std::string& name) { return hi::expr_uses_var(e, name); });
  }
  template <class Let>
  void bind(const Let* let) {
    let->value.accept(this);
    if (taints(let->value)) tainted_.insert(let->name);
    let->body.accept(this);
  }
  void visit(const hi::LetStmt* let) override { bind(let); }
  void visit(const hi::Let* let) override { bind(let); }
  void visit(const hi::For* loop) override {
    found.has_loops = true;
    tainted_.insert(loop->name);
    hi::IRVisitor::visit(loop);
  }
  void visit(const hi::Load* load) override {
    if (taints(load->index)) found.varying.insert(load->name);
    hi::IRVisitor::visit(load);
  }
  void visit(const hi::Store* store) override {
    found.stored.insert(store->name);
    if (taints(store->index)) found.varying.insert(store->name);
    hi::IRVisitor::visit(store);
  }
  std::set<std::string> tainted_;
};

class FindLoad : public hi::IRVisitor {
 public:
  bool found = false;
  explicit FindLoad(const std::string& buffer) : buffer_(buffer) {}

 private:
  using hi::IRVisitor::visit;
  void visit(const hi::Load* load) override {
    found = found || load->name == buffer_;
    if (!found) hi::IRVisitor::visit(load);
  }
  const std::string& buffer_;
};

}  // namespace

BufferScan scan(const hi::Stmt& statement, std::set<std::string> variables) {
  Scan visitor(std::move(variables));
  statement.accept(&visitor);
  return std::move(visitor.found);
}

bool loads_from(const Expr& e, const std::string& buffer) {
  FindLoad visitor(buffer);
  e.accept(&visitor);
  return visitor.found;
}

}  // namespace heddle::autoscheduler
