#include "targets/pass.hpp"

#include <utility>

namespace heddle::targets {
namespace {

using namespace Halide::Internal;

/// A function from statement to statement, as Halide takes it.
class Pass : public IRMutator {
 public:
  explicit Pass(std::function<Stmt(const Stmt&)> rewrite) : rewrite_(std::move(rewrite)) {}
  using IRMutator::mutate;
  Stmt mutate(const Stmt& s) override { return rewrite_(s); }

 private:
  std::function<Stmt(const Stmt&)> rewrite_;
};

}  // namespace

void add_pass(Halide::Pipeline& pipeline, std::function<Stmt(const Stmt&)> rewrite) {
  pipeline.add_custom_lowering_pass(new Pass(std::move(rewrite)));
}

}  // namespace heddle::targets
