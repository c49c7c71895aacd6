#pragma once
#include <Halide.h>

namespace heddle::testing {

/// A device's memory for a buffer, while this lives: Halide's Vulkan runtime rounds sizes down to 64 bytes and loses
/// what is beyond. Does nothing for processors.
class DeviceRoom {
 public:
  DeviceRoom(Halide::Buffer<> buffer, const Halide::Target& target);
  DeviceRoom(DeviceRoom&&) = default;
  DeviceRoom(const DeviceRoom&) = delete;
  ~DeviceRoom();

 private:
  Halide::Buffer<> buffer_;
  Halide::Buffer<std::uint8_t> room_;
};

}  // namespace heddle::testing
