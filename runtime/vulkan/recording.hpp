#pragma once
#include <volk.h>

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "runtime/vulkan/code.hpp"
#include "runtime/vulkan/hazards.hpp"
#include "runtime/vulkan/program.hpp"

namespace heddle::runtime::gpu::vulkan {

/// Fills a program: decides its descriptor sets and scalars first, since pools are sized when they are made, and then
/// records.
class Recording {
 public:
  Recording(VulkanProgram& program, const Commands& commands);
  void run();

 private:
  /// What a launch binds: `set` is an index into sets_.
  struct Prepared {
    const Launch* launch = nullptr;
    VulkanCode* code = nullptr;
    VkPipeline pipeline = VK_NULL_HANDLE;
    std::size_t set = 0;
    std::vector<Hazards::Access> accesses;
  };
  struct Set {
    const Context::Layout* layout = nullptr;
    std::uint64_t scalars = 0, scalar_bytes = 0;  ///< the uniform block in the program's memory
    std::vector<VkDescriptorBufferInfo> buffers;
    VkDescriptorSet handle = VK_NULL_HANDLE;
  };

  void prepare(const Launch& launch);
  /// Where the block of the launch's scalars lies in the program's memory; equal ones are kept once.
  std::uint64_t place_scalars(const Launch& launch, const VulkanCode& code, std::uint64_t& bytes);
  void write_scalars();
  void make_sets();
  void make_timestamps();

  void copy_all(std::span<const Copy> copies);
  void launch_all();
  /// Everything before comes before everything after.
  void barrier(VkPipelineStageFlags from, VkPipelineStageFlags to) const;

  VulkanProgram& program_;
  Context& context_;
  const Commands& input_;
  std::vector<Prepared> launches_;
  std::vector<Set> sets_;
  std::map<std::vector<std::uint64_t>, std::size_t> known_sets_;
  std::vector<std::byte> scalars_;
  std::map<std::vector<std::byte>, std::uint64_t> known_scalars_;
};

}  // namespace heddle::runtime::gpu::vulkan
