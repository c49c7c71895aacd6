#include "tests/runtime/vulkan_kernels.hpp"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <spirv-tools/libspirv.hpp>

#include "base/file.hpp"
#include "runtime/vulkan/vulkan.hpp"

namespace heddle::test {
namespace {

namespace gpu = runtime::gpu;

// The layer is chosen when the process first asks for Vulkan, which may be in any test.
[[maybe_unused]] const bool validated = ::setenv("HEDDLE_VULKAN_VALIDATION", "1", 1) == 0;

std::string assemble(const std::string& name) {
  const auto path = std::filesystem::path(HEDDLE_SOURCE_DIR) / "tests/runtime/data/vulkan" / (name + ".spvasm");
  const spvtools::SpirvTools tools(SPV_ENV_VULKAN_1_3);
  std::vector<std::uint32_t> words;
  REQUIRE(tools.Assemble(read_file(path), &words));
  REQUIRE(tools.Validate(words));
  return {reinterpret_cast<const char*>(words.data()), words.size() * 4};
}

Kernel kernel(const std::string& name, const std::string& access) {
  Kernel kernel;
  kernel.manifest.kernel = kernel.manifest.entry = name;
  kernel.manifest.access = access;
  kernel.code = assemble(name);
  return kernel;
}

}  // namespace

Silence::Silence() : before_(gpu::validation_messages()) {}
Silence::~Silence() { CHECK(gpu::validation_messages() == before_); }

std::shared_ptr<gpu::Device> vulkan_device() { return gpu::open_device(gpu::choose_device(DeviceApi::vulkan, "")); }

gpu::vulkan::Physical vulkan_hardware(bool own_memory) {
  const gpu::DeviceInfo info = gpu::choose_device(DeviceApi::vulkan, "");
  auto devices = gpu::vulkan::physical_devices(gpu::vulkan::Instance::get());
  gpu::vulkan::Physical& device = devices.at(static_cast<std::size_t>(info.index));
  if (own_memory) device.info.kind = gpu::DeviceInfo::Kind::discrete;
  return device;
}

std::shared_ptr<gpu::vulkan::VulkanDevice> open_again(bool own_memory) {
  return std::make_shared<gpu::vulkan::VulkanDevice>(vulkan_hardware(own_memory));
}

Kernel scale_add() {
  Kernel k = kernel("scale_add", "rw");
  k.manifest.uniform_block = true;
  k.manifest.block_constants = {1, 0, 0};
  return k;
}

Kernel reverse() {
  Kernel k = kernel("reverse", "rw");
  k.manifest.block_constants = {3, 0, 0};
  k.manifest.shared = {{.constant = 7, .element_bytes = 4, .elements = 0}};
  return k;
}

Kernel step() { return kernel("step", "b"); }

Kernel mixed_scalars() {
  Kernel k = kernel("mixed_scalars", "w");
  k.manifest.uniform_block = true;
  return k;
}

gpu::Launch scale_add_of(const Built& kernel, gpu::Memory& memory, std::uint64_t in, std::uint64_t out, std::uint32_t n,
                         float scale, float add) {
  return kernel((n + 63) / 64, 64,
                {buffer(memory, in, n * 4), buffer(memory, out, n * 4), scalar(scale), scalar(add), scalar(n)});
}

void run(gpu::Device& device, const gpu::Commands& commands) {
  const auto program = device.record(commands);
  program->submit();
  program->wait();
}

}  // namespace heddle::test
