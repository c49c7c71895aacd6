// An operator whose variants fail in every way in which a candidate can: what a search must survive.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "dsl/user_module.hpp"

namespace {

using namespace heddle;

/// What an unrolled schedule does to the compiler, only faster.
void allocate_without_end() {
  std::vector<std::unique_ptr<char[]>> all;
  for (;;) all.push_back(std::make_unique_for_overwrite<char[]>(std::size_t{16} << 20));
}

/// Leaves a process behind that has left the group of its parent, too.
void leave_a_process() {
  if (::fork() != 0) return;
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, 0);
  ::prctl(PR_SET_NAME, "heddle-stray");
  ::sleep(300);
  ::_exit(0);
}

struct Increment {
  static constexpr auto name = "faulty_increment";
  static constexpr auto summary = "x + 1, in good and bad ways";
  static constexpr auto kind = OperatorKind::window;

  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes);
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, sum), (Halide::Func, out));
  };

  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) { return {{"x"}}; }
  static TensorType infer(const Attributes&, std::span<const TensorType> in) { return in[0]; }
  static std::vector<std::string> variants(const Attributes&, std::span<const TensorType>) {
    return {"direct", "slow",  "endless", "wrong",  "outside", "segfault", "abort",
            "exit",   "throw", "hang",    "greedy", "scratch", "stray"};
  }

  static void define(const Attributes&, Algorithm& a, Stages& s) {
    const Halide::Var x = a.loops[0];
    const auto plus = [&](const Halide::Expr& shift, float what) { s.out(x) = a.in[0].at({x + shift}) + what; };
    // Every step depends on the one before, so that no compiler shortens it.
    const auto wait = [&](int steps) {
      const Reduction r = a.reduce({{"r", steps}});
      s.sum(x) = 0.0F;
      s.sum(x) = s.sum(x) * 0.5F + Halide::sin(a.in[0].at({x}) + Halide::cast<float>(r["r"]));
      s.out(x) = a.in[0].at({x}) + 1.0F + s.sum(x) * 1e-30F;
    };
    if (a.variant == "slow") return wait(300);
    if (a.variant == "endless") return wait(1 << 30);
    if (a.variant == "wrong") return plus(0, 1.5F);
    if (a.variant == "outside") return plus(1, 1);
    if (a.variant == "segfault") return plus(1 << 28, 1);
    if (a.variant == "abort") {
      ::write(STDERR_FILENO, "an assertion failed\n", 20);
      std::abort();
    }
    if (a.variant == "exit") std::exit(0);
    if (a.variant == "throw") throw 42;
    if (a.variant == "hang")
      for (;;) ::usleep(1000);
    if (a.variant == "greedy") allocate_without_end();
    if (a.variant == "stray") leave_a_process();
    if (a.variant == "scratch") {
      const Halide::Var y("y");
      s.sum(x, y) = a.in[0].at({x}) + Halide::cast<float>(y);
      s.out(x) = s.sum(x, 0) + 1.0F + 0.0F * s.sum(x, 1 << 19);
      s.sum.compute_root();
      return;
    }
    plus(0, 1);
  }

  static void reference(const Attributes&, std::span<const Array> in, Array& out) {
    for (std::int64_t i = 0; i < out.size(); ++i) out.set(i, in[0].at(i) + 1);
  }
  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) {
    return {.relative = 1e-6, .special_values = SpecialValues::ignored, .reason = "one addition"};
  }
  static std::vector<Case> cases() { return {{.inputs = {TensorType::parse("f32[7]")}}}; }
};

}  // namespace

extern "C" heddle::UserModule heddle_operators() {
  static const Erased<Increment> increment;
  static const Operator* const all[] = {&increment};
  return {.operators = all};
}
