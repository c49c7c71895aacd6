#pragma once
#include <volk.h>

#include <string_view>

namespace heddle::runtime::gpu::vulkan {

/// Throws what `result` means, unless it is success: Error{out_of_memory}, Error{device}, or Error{unsupported} for
/// what the driver refuses. `what` completes "the Vulkan driver failed to ...".
void check(VkResult result, std::string_view what);

/// The connection to the loader and its drivers.
class Instance {
 public:
  /// Throws Error{not_found} where there is no loader, no driver or, if it is asked for, no validation layer.
  explicit Instance(bool validate);
  ~Instance();
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  /// The one that the process shares, made by the first call that succeeds.
  static Instance& get();

  VkInstance handle() const { return handle_; }

 private:
  VkInstance handle_ = VK_NULL_HANDLE;
  VkDebugUtilsMessengerEXT messenger_ = VK_NULL_HANDLE;
};

}  // namespace heddle::runtime::gpu::vulkan
