#include "runtime/vulkan/code.hpp"

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::runtime::gpu::vulkan {

VulkanCode::VulkanCode(std::shared_ptr<Context> context, const plan::DeviceKernel& kernel, std::string_view code,
                       const std::string& cache)
    : context_(std::move(context)), kernel_(kernel) {
  context_->must_live();
  const Physical& physical = context_->physical();
  SpirvModule module = read_spirv(code, kernel.entry, physical);
  threads_ = module.threads;
  scalars_ = std::move(module.scalars);
  if (kernel.uniform_block && scalars_.empty())
    throw Error(ErrorCode::corrupt, fmt::format("the SPIR-V of kernel '{}' has no uniform block of scalars, which its "
                                                "manifest lists; compile the package again",
                                                kernel.entry));
  const auto buffers = static_cast<std::uint32_t>(kernel.access.size());
  if (const std::uint32_t most = physical.properties.limits.maxPerStageDescriptorStorageBuffers; buffers > most)
    throw Error(ErrorCode::unsupported, fmt::format("kernel '{}' has {} buffers; '{}' allows {}", kernel.entry, buffers,
                                                    physical.info.name, most));
  layout_ = &context_->layout(kernel.uniform_block, buffers);
  cache_ = &context_->pipelines(cache);
  const VkShaderModuleCreateInfo info{.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                      .codeSize = module.words.size() * 4,
                                      .pCode = module.words.data()};
  context_->check(context_->call().vkCreateShaderModule(context_->device(), &info, nullptr, &module_),
                  fmt::format("take the SPIR-V of kernel '{}'", kernel.entry));
}

VulkanCode::~VulkanCode() {
  const VolkDeviceTable& call = context_->call();
  for (const auto& [constants, pipeline] : pipelines_) call.vkDestroyPipeline(context_->device(), pipeline, nullptr);
  call.vkDestroyShaderModule(context_->device(), module_, nullptr);
}

void VulkanCode::check_block(const Launch& launch) const {
  const VkPhysicalDeviceLimits& limits = context_->physical().properties.limits;
  const auto refuse = [&](const std::string& why) {
    throw Error(
        ErrorCode::unsupported,
        fmt::format("kernel '{}' cannot be launched with {} x {} x {} blocks of {} x {} x {} threads on '{}': {}",
                    kernel_.entry, launch.blocks[0], launch.blocks[1], launch.blocks[2], launch.threads[0],
                    launch.threads[1], launch.threads[2], context_->physical().info.name, why));
  };
  std::uint64_t all = 1;
  for (std::size_t d = 0; d < 3; ++d) {
    const std::uint32_t threads = launch.threads[d];
    if (threads == 0 || threads > limits.maxComputeWorkGroupSize[d])
      refuse(fmt::format("a block has 1 to {} threads in dimension {}", limits.maxComputeWorkGroupSize[d], d));
    if (kernel_.block_constants[d] == 0 && threads_[d] != 0 && threads_[d] != threads)
      refuse(fmt::format("the code has {} in dimension {}", threads_[d], d));
    if (launch.blocks[d] > limits.maxComputeWorkGroupCount[d])
      refuse(fmt::format("there are at most {} blocks in dimension {}", limits.maxComputeWorkGroupCount[d], d));
    all *= threads;
  }
  if (all > limits.maxComputeWorkGroupInvocations)
    refuse(fmt::format("a block has at most {} threads", limits.maxComputeWorkGroupInvocations));

  std::uint64_t shared = launch.shared_bytes;
  for (const plan::DeviceKernel::Shared& array : kernel_.shared)
    if (array.constant == 0) shared += static_cast<std::uint64_t>(array.element_bytes * array.elements);
  if (shared > limits.maxComputeSharedMemorySize)
    refuse(
        fmt::format("it needs {} bytes of shared memory and there are {}", shared, limits.maxComputeSharedMemorySize));
}

std::map<std::uint32_t, std::uint32_t> VulkanCode::constants(const Launch& launch) const {
  std::map<std::uint32_t, std::uint32_t> values;
  for (std::size_t d = 0; d < 3; ++d)
    if (kernel_.block_constants[d] != 0)
      values[static_cast<std::uint32_t>(kernel_.block_constants[d])] = launch.threads[d];
  const plan::DeviceKernel::Shared* sized = nullptr;
  for (const plan::DeviceKernel::Shared& array : kernel_.shared) {
    if (array.constant == 0) continue;
    if (sized != nullptr)
      throw Error(ErrorCode::unsupported,
                  fmt::format("kernel '{}' has several arrays in shared memory whose sizes come with the launch, which "
                              "tells only their sum; give them fixed sizes",
                              kernel_.entry));
    sized = &array;
    if (array.element_bytes <= 0 || launch.shared_bytes % array.element_bytes != 0)
      throw Error(ErrorCode::corrupt,
                  fmt::format("kernel '{}': {} bytes of shared memory are not whole elements of {} bytes",
                              kernel_.entry, launch.shared_bytes, array.element_bytes));
    // An array has an element even where none is used.
    const std::int64_t elements = std::max<std::int64_t>(1, launch.shared_bytes / array.element_bytes);
    values[static_cast<std::uint32_t>(array.constant)] = static_cast<std::uint32_t>(elements);
  }
  return values;
}

VkPipeline VulkanCode::pipeline(const Launch& launch) {
  check_block(launch);
  const std::map<std::uint32_t, std::uint32_t> values = constants(launch);
  const std::lock_guard lock(mutex_);
  if (const auto known = pipelines_.find(values); known != pipelines_.end()) return known->second;

  std::vector<VkSpecializationMapEntry> entries;
  std::vector<std::uint32_t> data;
  for (const auto& [id, value] : values) {
    entries.push_back({.constantID = id, .offset = static_cast<std::uint32_t>(data.size() * 4), .size = 4});
    data.push_back(value);
  }
  const VkSpecializationInfo specialization{.mapEntryCount = static_cast<std::uint32_t>(entries.size()),
                                            .pMapEntries = entries.data(),
                                            .dataSize = data.size() * 4,
                                            .pData = data.data()};
  const VkComputePipelineCreateInfo info{.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
                                         .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                                                   .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                                                   .module = module_,
                                                   .pName = kernel_.entry.c_str(),
                                                   .pSpecializationInfo = entries.empty() ? nullptr : &specialization},
                                         .layout = layout_->pipeline};
  VkPipeline pipeline = VK_NULL_HANDLE;
  context_->check(
      context_->call().vkCreateComputePipelines(context_->device(), cache_->handle(), 1, &info, nullptr, &pipeline),
      fmt::format("compile kernel '{}'", kernel_.entry));
  pipelines_[values] = pipeline;
  return pipeline;
}

}  // namespace heddle::runtime::gpu::vulkan
