#pragma once
#include <volk.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "runtime/vulkan/physical.hpp"
#include "runtime/vulkan/pipeline_cache.hpp"

namespace heddle::runtime::gpu::vulkan {

/// An open device and its queue, shared by all that is made on it: whoever holds it keeps the device open.
class Context {
 public:
  explicit Context(Physical device);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const Physical& physical() const { return physical_; }
  VkDevice device() const { return device_; }
  const VolkDeviceTable& call() const { return call_; }
  VolkDeviceTable& call() { return call_; }

  /// check() of instance.hpp, after which a lost device stays lost.
  void check(VkResult result, std::string_view what);
  bool lost() const { return lost_; }
  /// Throws Error{device} if it was lost.
  void must_live() const;

  /// Starts the commands; `fence` is signalled when they are complete.
  void submit(VkCommandBuffer commands, VkFence fence);
  /// Until the fence is signalled.
  void wait(VkFence fence);

  /// The index of a memory type among `allowed` (bits) for data of the device or of the host; the flags that it has.
  struct MemoryType {
    std::uint32_t index = 0;
    VkMemoryPropertyFlags flags = 0;
  };
  MemoryType device_memory(std::uint32_t allowed) const;
  MemoryType host_memory(std::uint32_t allowed) const;

  /// Bindings of a kernel: a uniform block if it has one, then storage buffers. Kernels that agree in them share the
  /// layout, so that a descriptor set bound for one serves the next.
  struct Layout {
    VkDescriptorSetLayout set = VK_NULL_HANDLE;
    VkPipelineLayout pipeline = VK_NULL_HANDLE;
    bool uniform_block = false;
    std::uint32_t buffers = 0;
  };
  const Layout& layout(bool uniform_block, std::uint32_t buffers);

  /// The driver's cache that is kept in a directory; empty: only in memory.
  PipelineCache& pipelines(const std::string& directory);

 private:
  Physical physical_;
  VkPhysicalDeviceMemoryProperties memory_{};
  VkDevice device_ = VK_NULL_HANDLE;
  VolkDeviceTable call_{};
  VkQueue queue_ = VK_NULL_HANDLE;
  std::mutex queue_mutex_;
  std::atomic<bool> lost_ = false;
  std::mutex mutex_;  ///< of what follows
  std::map<std::pair<bool, std::uint32_t>, Layout> layouts_;
  std::map<std::string, std::unique_ptr<PipelineCache>> caches_;
};

}  // namespace heddle::runtime::gpu::vulkan
