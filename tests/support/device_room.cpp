#include "tests/support/device_room.hpp"

#include <utility>

namespace heddle::testing {

DeviceRoom::DeviceRoom(Halide::Buffer<> buffer, const Halide::Target& target) : buffer_(std::move(buffer)) {
  const Halide::DeviceAPI api = target.get_required_device_api();
  if (api == Halide::DeviceAPI::None) return;
  constexpr std::size_t unit = 256;
  room_ = Halide::Buffer<std::uint8_t>(static_cast<int>((buffer_.size_in_bytes() / unit + 1) * unit));
  room_.device_malloc(api, target);
  buffer_.raw_buffer()->device = room_.raw_buffer()->device;
  buffer_.raw_buffer()->device_interface = room_.raw_buffer()->device_interface;
}

DeviceRoom::~DeviceRoom() {
  if (!buffer_.defined() || !room_.defined()) return;
  buffer_.raw_buffer()->device = 0;
  buffer_.raw_buffer()->device_interface = nullptr;
}

}  // namespace heddle::testing
