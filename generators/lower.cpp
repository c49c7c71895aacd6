#include "generators/lower.hpp"

#include <algorithm>
#include <exception>
#include <mutex>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/file.hpp"
#include "dsl/halide_error.hpp"
#include "generators/rename.hpp"
#include "targets/cpu/fetch_ahead.hpp"
#include "targets/cpu/tile_products.hpp"
#include "targets/cpu/whole_accumulators.hpp"
#include "targets/gpu/passes.hpp"
#include "targets/pass.hpp"

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

Halide::Target with_flags(Halide::Target target, const KernelRequest& request) {
  if (!request.asserts) target.set_features({Halide::Target::NoAsserts, Halide::Target::NoBoundsQuery});
  return target;
}

bool reads_bytes(const Workload& workload) {
  return std::ranges::any_of(workload.inputs(), [&](const OperandInfo& input) {
    const DType type = workload.input_type(input.role).dtype;
    return is_integer(type) && size_of(type) == 1;
  });
}

Halide::Module lower_for(const KernelRequest& request, const std::string& symbol, const Halide::Target& target) {
  const Pipeline pipeline = request.workload->instantiate(request.implementation, request.schedule_file);
  Halide::Pipeline scheduled(pipeline.outputs);
  if (request.target.is_gpu()) {
    targets::add_gpu_passes(scheduled, *request.target.machine.gpu);
  } else {
    if (request.target.machine.matrix_tiles) targets::add_pass(scheduled, targets::tile_products);
    targets::add_pass(scheduled, targets::whole_accumulators);
    targets::add_pass(scheduled, [&](const hi::Stmt& s) {
      return targets::fetch_ahead(s, request.target.machine, request.workload->composition().threads);
    });
  }
  Halide::Module module =
      scheduled.compile_to_module(pipeline.arguments(), symbol, target, Halide::LinkageType::ExternalPlusArgv);
  normalise_names(module, symbol);
  return module;
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

std::string compile_to_text(const Halide::Module& module, Halide::OutputFileType kind) {
  const TemporaryDirectory directory;
  const std::filesystem::path path = directory.path() / "kernel";
  module.compile({{kind, path.string()}});
  return read_file(path);
}

Halide::Target halide_target(const KernelRequest& request) { return with_flags(request.target.halide, request); }

Halide::Module lower(const KernelRequest& request, const std::string& symbol) {
  use_up_short_names();
  if (request.target.bytes && reads_bytes(*request.workload)) {
    Halide::Module module = lower_for(request, symbol, with_flags(request.target.bytes->halide, request));
    const std::string assembly = compile_to_text(module, Halide::OutputFileType::assembly);
    const std::string lacking = lacking_instruction(*request.target.bytes, assembly);
    if (lacking.empty()) return module;
    spdlog::info("{} is compiled without dot products of bytes: its code for {} needs '{}', which {} lacks",
                 request.workload->name(), request.target.bytes->halide.to_string(), lacking, request.target.name);
  }
  return lower_for(request, symbol, halide_target(request));
}

}  // namespace heddle
