#include "runtime/vulkan/pipeline_cache.hpp"

#include <cstring>
#include <string_view>

#include <fmt/format.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "runtime/plan.hpp"
#include "runtime/vulkan/context.hpp"

namespace heddle::runtime::gpu::vulkan {
namespace {

// Pipelines of models that are long gone stay in the file; past this it starts anew.
constexpr std::size_t most_bytes = 256 << 20;

std::string hexadecimal(const std::uint8_t (&bytes)[VK_UUID_SIZE]) {
  std::string text;
  for (const std::uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

// Drivers check the header that they write, not what follows it.
std::string seal(std::string_view data) {
  return fmt::format("heddle pipelines {} {}\n", plan::checksum(data), data.size());
}

bool made_by(const VkPhysicalDeviceProperties& device, std::string_view data) {
  VkPipelineCacheHeaderVersionOne header;
  if (data.size() < sizeof header) return false;
  std::memcpy(&header, data.data(), sizeof header);
  return header.headerSize == sizeof header && header.headerVersion == VK_PIPELINE_CACHE_HEADER_VERSION_ONE &&
         header.vendorID == device.vendorID && header.deviceID == device.deviceID &&
         std::memcmp(header.pipelineCacheUUID, device.pipelineCacheUUID, VK_UUID_SIZE) == 0;
}

/// The driver's part of a file that is whole and from this driver; else nothing.
std::string_view intact(std::string_view file, const VkPhysicalDeviceProperties& device) {
  const std::size_t end = file.find('\n');
  if (end == std::string_view::npos) return {};
  const std::string_view data = file.substr(end + 1);
  const bool whole = data.size() <= most_bytes && file.substr(0, end + 1) == seal(data);
  return whole && made_by(device, data) ? data : std::string_view{};
}

}  // namespace

PipelineCache::PipelineCache(Context& context, const std::string& directory) : context_(context) {
  std::string file;
  std::string_view data;
  if (!directory.empty()) {
    const VkPhysicalDeviceProperties& device = context.physical().properties;
    path_ = std::filesystem::path(directory) / fmt::format("vulkan-{:x}-{:x}-{:x}-{}.pipelines", device.vendorID,
                                                           device.deviceID, device.driverVersion,
                                                           hexadecimal(device.pipelineCacheUUID));
    try {
      file = read_file(path_);
      data = intact(file, device);
    } catch (const Error&) {  // the first time, or not readable
    }
  }
  found_ = !data.empty();
  saved_bytes_ = data.size();
  const VkPipelineCacheCreateInfo info{.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                       .initialDataSize = data.size(),
                                       .pInitialData = data.data()};
  context.check(context.call().vkCreatePipelineCache(context.device(), &info, nullptr, &handle_),
                "make a cache of pipelines");
}

PipelineCache::~PipelineCache() { context_.call().vkDestroyPipelineCache(context_.device(), handle_, nullptr); }

void PipelineCache::save() {
  if (path_.empty()) return;
  const std::lock_guard lock(mutex_);
  std::size_t bytes = 0;
  context_.check(context_.call().vkGetPipelineCacheData(context_.device(), handle_, &bytes, nullptr),
                 "give its cache of pipelines");
  if (bytes == saved_bytes_ || bytes > most_bytes) return;
  std::string data(bytes, '\0');
  const VkResult result = context_.call().vkGetPipelineCacheData(context_.device(), handle_, &bytes, data.data());
  if (result == VK_INCOMPLETE) return;  // another thread built a pipeline just now, and saves after us
  context_.check(result, "give its cache of pipelines");
  data.resize(bytes);
  try {
    write_file(path_, seal(data) + data);
    saved_bytes_ = bytes;
  } catch (const Error& error) {
    if (!warned_) fmt::print(stderr, "heddle: the driver's pipelines are not kept: {}\n", error.what());
    warned_ = true;
  }
}

}  // namespace heddle::runtime::gpu::vulkan
