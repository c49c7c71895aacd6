#pragma once
#include <volk.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/vulkan/context.hpp"
#include "runtime/vulkan/spirv.hpp"

namespace heddle::runtime::gpu::vulkan {

/// An entry's module and the pipelines made of it: one for each block size and size of shared memory that launches use.
class VulkanCode final : public Code {
 public:
  VulkanCode(std::shared_ptr<Context> context, const plan::DeviceKernel& kernel, std::string_view code,
             const std::string& cache);
  ~VulkanCode() override;
  VulkanCode(const VulkanCode&) = delete;
  VulkanCode& operator=(const VulkanCode&) = delete;

  const plan::DeviceKernel& kernel() const { return kernel_; }
  const Context::Layout& layout() const { return *layout_; }
  const std::vector<SpirvModule::Scalar>& scalars() const { return scalars_; }
  PipelineCache& cache() const { return *cache_; }

  /// Throws Error{unsupported} for a block that the device or the code does not allow, or with the driver's reason.
  VkPipeline pipeline(const Launch& launch);

 private:
  void check_block(const Launch& launch) const;
  /// The values of the specialisation constants, by their ids.
  std::map<std::uint32_t, std::uint32_t> constants(const Launch& launch) const;

  std::shared_ptr<Context> context_;
  plan::DeviceKernel kernel_;
  std::array<std::uint32_t, 3> threads_ = {};  ///< that the code fixes; 0: the launch says
  std::vector<SpirvModule::Scalar> scalars_;
  const Context::Layout* layout_ = nullptr;
  PipelineCache* cache_ = nullptr;
  VkShaderModule module_ = VK_NULL_HANDLE;
  std::mutex mutex_;
  std::map<std::map<std::uint32_t, std::uint32_t>, VkPipeline> pipelines_;  ///< by constants
};

}  // namespace heddle::runtime::gpu::vulkan
