#include "targets/gpu/boolean_arguments.hpp"

#include "targets/gpu/kernels.hpp"

namespace heddle::targets {

using namespace Halide::Internal;
using Halide::Expr;

Stmt boolean_arguments(const Stmt& s) {
  return rewrite_kernels(s, [](const Stmt& kernel) {
    return recode_arguments(
        kernel, [](Halide::Type type) { return type.is_bool(); }, [](const Expr& e) { return Halide::cast<int>(e); },
        [](const Expr& e, Halide::Type) { return e != 0; });
  });
}

}  // namespace heddle::targets
