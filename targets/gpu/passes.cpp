#include "targets/gpu/passes.hpp"

#include <functional>
#include <utility>

#include <fmt/format.h>

#include "targets/gpu/boolean_arguments.hpp"
#include "targets/gpu/check_kernels.hpp"
#include "targets/gpu/doubles.hpp"
#include "targets/gpu/integers.hpp"
#include "targets/gpu/narrow_floats.hpp"
#include "targets/gpu/opencl_vectors.hpp"
#include "targets/gpu/prefetch_stages.hpp"
#include "targets/gpu/register_tiles.hpp"
#include "targets/gpu/special_values.hpp"
#include "targets/gpu/vulkan_values.hpp"
#include "targets/pass.hpp"

namespace heddle::targets {
namespace {

using namespace Halide::Internal;

/// The first call of a function that the device lacks.
class Lacking : public IRGraphVisitor {
 public:
  std::string function;

 protected:
  using IRGraphVisitor::visit;
  void visit(const Call* op) override {
    if (function.empty() && lacks_f64(op->name)) function = op->name;
    IRGraphVisitor::visit(op);
  }
};

}  // namespace

void add_gpu_passes(Halide::Pipeline& pipeline, const Gpu& gpu) {
  const bool vulkan = gpu.api == DeviceApi::vulkan;
  const auto add = [&](std::function<Stmt(const Stmt&)> pass) { add_pass(pipeline, std::move(pass)); };
  add(register_tiles);
  add(prefetch_stages);
  add(special_values);
  add([api = gpu.api](const Stmt& s) { return narrow_floats(s, api); });
  add([api = gpu.api](const Stmt& s) { return doubles(s, api); });
  add([api = gpu.api](const Stmt& s) { return integers(s, api); });
  add(vulkan ? vulkan_values : opencl_vectors);
  add(boolean_arguments);
  add([gpu](const Stmt& s) { return check_kernels(s, gpu); });
}

std::string gpu_obstacle(const std::vector<Halide::Func>& outputs, DeviceApi api) {
  for (const auto& output : outputs)
    for (const auto& [name, function] : find_transitive_calls(output.function())) {
      if (function.has_extern_definition()) return fmt::format("{} is computed by a function outside of Halide", name);
      if (api != DeviceApi::vulkan) continue;
      Lacking lacking;
      function.accept(&lacking);
      if (!lacking.function.empty())
        return fmt::format("Vulkan has no {} of doubles", lacking.function.substr(0, lacking.function.size() - 4));
    }
  return "";
}

}  // namespace heddle::targets
