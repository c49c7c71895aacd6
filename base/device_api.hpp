#pragma once
#include <string_view>

namespace heddle {

/// The ways in which a device is reached: how its kernels are written and who runs them.
enum class DeviceApi { opencl, vulkan };

std::string_view to_string(DeviceApi api);
DeviceApi device_api_from_string(std::string_view text);  ///< throws Error{invalid_argument}

}  // namespace heddle
