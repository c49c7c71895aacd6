#include "generators/lower.hpp"

#include <exception>
#include <mutex>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "dsl/halide_error.hpp"
#include "generators/rename.hpp"
#include "targets/gpu/passes.hpp"

namespace heddle {
namespace {

namespace hi = Halide::Internal;

thread_local bool collects_warnings = false;

/// Halide has one reporter a process, so it must also serve those who use Halide beside us: what it does outside of
/// with_halide is what Halide does without one.
class Reporter : public Halide::CompileTimeErrorReporter {
 public:
  void warning(const char* message) override {
    if (collects_warnings) spdlog::debug("Halide: {}", message);
    else fmt::print(stderr, "{}", message);
  }
  void error(const char* message) override {
    const std::string_view text = message;
    if (text.find("Internal Error") != text.npos || text.find("Internal error") != text.npos)
      throw Halide::InternalError(message);
    throw Halide::CompileError(message);
  }
};

void install_reporter() {
  static Reporter reporter;
  static std::once_flag once;
  std::call_once(once, [] { Halide::set_custom_compile_time_error_reporter(&reporter); });
}

/// Halide names its temporaries t1, t2... and passes those that a parallel loop needs in a struct, sorted by name: a
/// kernel that is compiled as the count goes from t999 to t1000 has another struct than one that was compiled before.
/// Names of one length sort as they were made, so the short ones are used up (28 ms); the next change of length is some
/// ten thousand kernels away.
void use_up_short_names() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (int i = 0; i < 1000000; ++i) hi::unique_name('t');
  });
}

}  // namespace

void with_halide(const KernelRequest& request, const std::function<void()>& f) {
  install_reporter();
  const std::string where = fmt::format("{} with {}", request.workload->name(), request.schedule_file);
  // An exception that left through the switched stack would not find its handlers' frames.
  std::exception_ptr failure;
  hi::run_with_large_stack([&] {
    const bool outer = std::exchange(collects_warnings, true);
    try {
      translate_halide_errors(where, f);
    } catch (...) {
      failure = std::current_exception();
    }
    collects_warnings = outer;
  });
  if (failure) std::rethrow_exception(failure);
}

Halide::Target halide_target(const KernelRequest& request) {
  Halide::Target target = request.target.halide;
  if (!request.asserts) target.set_features({Halide::Target::NoAsserts, Halide::Target::NoBoundsQuery});
  return target;
}

Halide::Module lower(const KernelRequest& request, const std::string& symbol) {
  use_up_short_names();
  const Pipeline pipeline = request.workload->instantiate(request.implementation, request.schedule_file);
  Halide::Pipeline scheduled(pipeline.outputs);
  if (request.target.is_gpu()) targets::add_gpu_passes(scheduled, *request.target.machine.gpu);
  Halide::Module module = scheduled.compile_to_module(pipeline.arguments(), symbol, halide_target(request),
                                                      Halide::LinkageType::ExternalPlusArgv);
  normalise_names(module, symbol);
  return module;
}

}  // namespace heddle
