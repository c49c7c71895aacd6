#include "tests/runtime/fake_device.hpp"

#include <cstring>
#include <thread>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::test {
namespace {

using namespace runtime::gpu;

class FakeMemory final : public Memory {
 public:
  FakeMemory(FakeDevice& device, std::uint64_t bytes, bool visible)
      : Memory(bytes), data(bytes), device_(device), visible_(visible) {
    device_.used += bytes;
  }
  ~FakeMemory() override { device_.used -= bytes(); }
  std::byte* host() const override { return visible_ ? const_cast<std::byte*>(data.data()) : nullptr; }

  std::vector<std::byte> data;

 private:
  FakeDevice& device_;
  bool visible_;
};

struct FakeCode final : Code {
  std::string entry;
};

void require(bool kept, const char* rule) {
  if (!kept) throw Error(ErrorCode::internal, fmt::format("a rule of device.hpp is broken: {}", rule));
}

std::byte* at(const Binding& binding) {
  auto& memory = dynamic_cast<FakeMemory&>(*binding.memory);
  require(binding.bytes <= memory.bytes() && binding.offset <= memory.bytes() - binding.bytes,
          "a binding leaves its memory");
  return memory.data.data() + binding.offset;
}

class FakeProgram final : public Program {
 public:
  FakeProgram(FakeDevice& device, const Commands& commands) : device_(device), commands_(commands) {}
  void submit() override {
    ++device_.submissions;
    require(!running_, "one execution at a time");
    running_ = true;
  }
  void wait() override {
    require(running_, "nothing was submitted");
    running_ = false;
    if (device_.lost) throw Error(ErrorCode::device, "the device was lost");
    device_.execute(commands_);
  }
  std::vector<Interval> intervals() const override {
    std::vector<Interval> result;
    if (commands_.timestamps)
      for (std::size_t i = 0; i < commands_.launches.size(); ++i)
        result.push_back({static_cast<std::int64_t>(1000 * i), 100});
    return result;
  }

 private:
  FakeDevice& device_;
  Commands commands_;
  bool running_ = false;
};

}  // namespace

FakeDevice::FakeDevice(DeviceInfo info) : info_(std::move(info)) {}

DeviceInfo FakeDevice::typical() {
  return {.api = DeviceApi::opencl,
          .name = "fake",
          .driver = "1.0",
          .kind = DeviceInfo::Kind::discrete,
          .memory_bytes = std::uint64_t{1} << 30,
          .most_allocation_bytes = std::uint64_t{1} << 28,
          .most_buffer_bytes = std::uint64_t{1} << 28,
          .alignment = 256,
          .block_threads = 1024,
          .shared_bytes = 32768,
          .f16 = true,
          .f64 = true,
          .int8 = true,
          .int16 = true,
          .int64 = true};
}

std::unique_ptr<Memory> FakeDevice::allocate(std::uint64_t bytes) {
  ++allocations;
  require(bytes > 0 && bytes <= info_.most_allocation_bytes, "an allocation of nothing, or of too much");
  if (used + bytes > room) throw Error(ErrorCode::out_of_memory, fmt::format("no room for {} bytes on fake", bytes));
  return std::make_unique<FakeMemory>(*this, bytes, host_visible);
}

std::unique_ptr<Memory> FakeDevice::allocate_staging(std::uint64_t bytes) {
  return std::make_unique<FakeMemory>(*this, bytes, true);
}

std::shared_ptr<Code> FakeDevice::build(const plan::DeviceKernel& kernel, std::string_view code, const std::string&) {
  require(++building_ <= (builders > 0 ? builders : 1000), "more threads build than may");
  std::this_thread::yield();
  --building_;
  const std::lock_guard lock(mutex_);
  if (code.find("broken") != std::string_view::npos)
    throw Error(ErrorCode::unsupported, "the driver rejects it: line 1: broken");
  built.push_back(fmt::format("{}: {}", kernel.entry, code));
  auto result = std::make_shared<FakeCode>();
  result->entry = kernel.entry;
  return result;
}

std::unique_ptr<Program> FakeDevice::record(const Commands& commands) {
  const std::lock_guard lock(mutex_);
  ++programs;
  for (const Launch& launch : commands.launches)
    for (const Launch::Argument& argument : launch.arguments) {
      if (!argument.is_buffer) continue;
      at(argument.buffer);
      require(argument.buffer.offset % info_.alignment == 0, "a buffer's offset is not aligned");
      require(argument.buffer.bytes > 0, "a buffer of nothing");
    }
  for (const auto* copies : {&commands.uploads, &commands.downloads})
    for (const Copy& copy : *copies) {
      at(copy.from);
      at(copy.to);
      require(copy.from.bytes == copy.to.bytes && copy.from.offset % 4 == 0 && copy.to.offset % 4 == 0,
              "a copy's sides differ or are not aligned");
    }
  recorded.push_back(commands);
  return std::make_unique<FakeProgram>(*this, commands);
}

void FakeDevice::execute(const Commands& commands) {
  const std::lock_guard lock(mutex_);
  const auto copy = [](const std::vector<Copy>& copies) {
    for (const Copy& c : copies) std::memcpy(at(c.to), at(c.from), c.from.bytes);
  };
  copy(commands.uploads);
  for (const Launch& launch : commands.launches) {
    std::vector<std::byte*> buffers;
    for (const Launch::Argument& argument : launch.arguments)
      if (argument.is_buffer) buffers.push_back(at(argument.buffer));
    entries.at(dynamic_cast<const FakeCode&>(*launch.code).entry)(buffers, launch);
  }
  copy(commands.downloads);
}

void FakeDevice::write(Memory& to, std::uint64_t offset, const void* from, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  ++writes;
  if (bytes > 0) std::memcpy(at({&to, offset, bytes}), from, bytes);
}

void FakeDevice::read(const Memory& from, std::uint64_t offset, void* to, std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (bytes > 0) std::memcpy(to, at({const_cast<Memory*>(&from), offset, bytes}), bytes);
}

}  // namespace heddle::test
