#pragma once
#include <volk.h>

#include <cstddef>
#include <filesystem>
#include <mutex>
#include <string>

namespace heddle::runtime::gpu::vulkan {

class Context;

/// What the driver keeps of the pipelines it built, in one file of a directory. The file's name tells the device and
/// the driver's build; damaged or foreign content is replaced.
class PipelineCache {
 public:
  /// Reads the file. An empty directory's name: nothing is kept.
  PipelineCache(Context& context, const std::string& directory);
  ~PipelineCache();
  PipelineCache(const PipelineCache&) = delete;
  PipelineCache& operator=(const PipelineCache&) = delete;

  VkPipelineCache handle() const { return handle_; }
  const std::filesystem::path& path() const { return path_; }
  bool found() const { return found_; }  ///< the file was there, and whole

  /// Writes the file if pipelines came since. A directory that cannot be written costs time at the next start, no
  /// more: it is said once on stderr.
  void save();

 private:
  Context& context_;
  std::filesystem::path path_;
  VkPipelineCache handle_ = VK_NULL_HANDLE;
  bool found_ = false;
  std::mutex mutex_;
  std::size_t saved_bytes_ = 0;
  bool warned_ = false;
};

}  // namespace heddle::runtime::gpu::vulkan
