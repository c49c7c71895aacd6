#include "base/device_api.hpp"

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle {

std::string_view to_string(DeviceApi api) { return api == DeviceApi::opencl ? "opencl" : "vulkan"; }

DeviceApi device_api_from_string(std::string_view text) {
  if (text == "opencl") return DeviceApi::opencl;
  if (text == "vulkan") return DeviceApi::vulkan;
  throw Error(ErrorCode::invalid_argument, fmt::format("'{}' is no device API; there are opencl and vulkan", text));
}

}  // namespace heddle
