#include "runtime/gpu/device.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <map>
#include <mutex>

#include <fmt/format.h>

#include "base/error.hpp"
#include "runtime/opencl/opencl.hpp"
#include "runtime/vulkan/vulkan.hpp"

namespace heddle::runtime::gpu {
namespace {

int preference(DeviceInfo::Kind kind) {
  switch (kind) {
    case DeviceInfo::Kind::discrete: return 3;
    case DeviceInfo::Kind::integrated: return 2;
    case DeviceInfo::Kind::other: return 1;
    case DeviceInfo::Kind::cpu: break;
  }
  return 0;
}

bool contains(std::string_view text, std::string_view part) {
  const auto same = [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); };
  return !std::ranges::search(text, part, same).empty();
}

}  // namespace

DeviceList list_devices(DeviceApi api) {
  return api == DeviceApi::opencl ? list_opencl_devices() : list_vulkan_devices();
}

DeviceInfo choose_device(DeviceApi api, std::string_view selector) {
  const DeviceList list = list_devices(api);
  if (list.devices.empty())
    throw Error(ErrorCode::not_found, fmt::format("there is no {} device here: {}", to_string(api), list.reason));
  if (selector.empty())
    if (const char* wanted = std::getenv("HEDDLE_DEVICE")) selector = wanted;
  if (selector.empty())
    return *std::ranges::max_element(list.devices, {}, [](const DeviceInfo& d) { return preference(d.kind); });

  int index = -1;
  const auto [end, error] = std::from_chars(selector.data(), selector.data() + selector.size(), index);
  const bool is_index = error == std::errc{} && end == selector.data() + selector.size();
  std::string names;
  for (const DeviceInfo& device : list.devices) {
    if (is_index ? device.index == index : contains(device.name, selector)) return device;
    names += fmt::format("\n  {} {} ({})", device.index, device.name, device.driver);
  }
  throw Error(ErrorCode::not_found, fmt::format("no {} device is '{}'; there {}:{}", to_string(api), selector,
                                                list.devices.size() == 1 ? "is" : "are", names));
}

std::shared_ptr<Device> open_device(const DeviceInfo& info) {
  // Opening takes up to a tenth of a second, and every context holds memory on the device.
  static std::mutex mutex;
  static std::map<std::pair<DeviceApi, int>, std::weak_ptr<Device>> open;
  const std::lock_guard lock(mutex);
  std::weak_ptr<Device>& known = open[{info.api, info.index}];
  if (auto device = known.lock(); device && !device->lost()) return device;
  auto device = info.api == DeviceApi::opencl ? open_opencl_device(info) : open_vulkan_device(info);
  known = device;
  return device;
}

}  // namespace heddle::runtime::gpu
