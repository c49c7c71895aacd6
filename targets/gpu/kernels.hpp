#pragma once
#include <functional>
#include <string>

#include <Halide.h>

// What the passes know of the statements that Halide hands them: kernels before they are taken out of the host's code.
namespace heddle::targets {

/// The Func that an allocation inside of a kernel belongs to: Halide numbers them, `acc.0`.
std::string stage_of(const std::string& allocation);

/// The expression as people read it in messages.
std::string print(const Halide::Expr& e);

/// f(value), which may name its argument often: it is a variable if the value is more than a variable or a constant.
/// Back ends write an expression out wherever it stands, so what is built of copies of copies grows beyond all bounds.
Halide::Expr once(const Halide::Expr& value, const std::function<Halide::Expr(const Halide::Expr&)>& f);

/// Applies a rewrite to each kernel: the outermost loop over blocks with all that it contains.
Halide::Internal::Stmt rewrite_kernels(const Halide::Internal::Stmt& s,
                                       const std::function<Halide::Internal::Stmt(const Halide::Internal::Stmt&)>& f);

/// A mutator applied to each kernel.
template <class Mutator, class... Arguments>
Halide::Internal::Stmt mutate_kernels(const Halide::Internal::Stmt& s, const Arguments&... arguments) {
  return rewrite_kernels(s, [&](const Halide::Internal::Stmt& kernel) { return Mutator(arguments...).mutate(kernel); });
}

/// Hands values of some types over to a kernel in another form. What a kernel uses and does not compute becomes its
/// argument:
///
///   gpu_block (...) { ... t1 ... }   ->   let t1.argument = encode(t1)
///                                         gpu_block (...) { ... decode(t1.argument) ... }
Halide::Internal::Stmt recode_arguments(const Halide::Internal::Stmt& kernel,
                                        const std::function<bool(Halide::Type)>& applies,
                                        const std::function<Halide::Expr(const Halide::Expr&)>& encode,
                                        const std::function<Halide::Expr(const Halide::Expr&, Halide::Type)>& decode);

}  // namespace heddle::targets
