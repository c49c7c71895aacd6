#include "tests/targets/gpu_jit.hpp"

#include <cstdlib>

#include "dsl/halide_error.hpp"
#include "targets/gpu/passes.hpp"
#include "targets/target.hpp"
#include "tests/support/device_room.hpp"

namespace heddle::testing {

Halide::Target device_target(DeviceApi api) {
  // Halide reads them when it first opens the device.
  ::setenv("HL_OCL_PLATFORM_NAME", "Portable Computing Language", 1);
  ::setenv("HL_OCL_DEVICE_TYPE", "cpu", 1);
  ::setenv("HL_VK_DEVICE_TYPE", "cpu", 1);
  // Its Vulkan allocator rounds sizes down to 64 bytes unless told otherwise.
  ::setenv("HL_VK_ALLOC_CONFIG", "0:0:0:0:64", 0);
  Halide::Target target = find_target(api == DeviceApi::opencl ? "opencl" : "vulkan").halide;
  target.set_feature(Halide::Target::NoRuntime, false);
  target.set_feature(Halide::Target::UserContext, false);
  return target;
}

Gpu device_of(DeviceApi api) { return *find_target(api == DeviceApi::opencl ? "opencl" : "vulkan").machine.gpu; }

Halide::Buffer<> run_on_device(Halide::Func f, std::vector<int> sizes, DeviceApi api) {
  return translate_halide_errors(f.name(), [&] {
    Halide::Pipeline pipeline(f);
    targets::add_gpu_passes(pipeline, device_of(api));
    const Halide::Target target = device_target(api);
    Halide::Buffer<> out(f.type(), std::move(sizes));
    const DeviceRoom room(out, target);
    pipeline.realize(out, target);
    out.copy_to_host();
    return out;
  });
}

}  // namespace heddle::testing
