#pragma once
#include <Halide.h>

#include "base/device_api.hpp"
#include "dsl/machine.hpp"

// Pipelines compiled and run in this process by Halide's own runtimes, with Heddle's passes: what the passes are for
// can be tested without ours.
namespace heddle::testing {

/// The devices that the test systems have: PoCL and lavapipe, chosen by name.
Halide::Target device_target(DeviceApi api);

/// The description that the passes get.
Gpu device_of(DeviceApi api);

/// Compiles for the device with the passes and runs. Throws heddle::Error.
Halide::Buffer<> run_on_device(Halide::Func f, std::vector<int> sizes, DeviceApi api);

}  // namespace heddle::testing
