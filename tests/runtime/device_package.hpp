#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "runtime/plan.hpp"
#include "tests/runtime/fake_device.hpp"

namespace heddle::test {

/// A package for a device, for an input x: f32[2, W] and a constant factor = [3, 5]:
///   0  a = x + 1                 k_add on the device
///   1  download a
///   2  b[r, i] = a[r, i] * factor[r]   k_scale on the host
///   3  upload b
///   4  out = (b + 1) * 2         k_chain on the device, two launches with an intermediate
///   5  rows[r, i] = a[r, i] * factor[r]   k_rows on the device
/// Outputs: out, rows. Values in order: x, a, b, factor, out, rows.
plan::Package device_package();
struct DeviceReference {
  std::vector<float> a, out, rows;
};
DeviceReference device_reference(const std::vector<float>& x);

/// Writes manifest, host code, device code and weights into `directory`, with their checksums.
void write_device_package(const plan::Package& package, const std::filesystem::path& directory,
                          const std::string& device_code = "add multiply rows");

/// A fake device that has the package's entries.
std::shared_ptr<FakeDevice> fake_device(const runtime::gpu::DeviceInfo& info = FakeDevice::typical());

}  // namespace heddle::test
