#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/gpu/device.hpp"

// A device in plain C++ for tests of what drives devices: it checks that commands keep the rules of device.hpp and
// executes entries as functions.
namespace heddle::test {

class FakeDevice final : public runtime::gpu::Device {
 public:
  explicit FakeDevice(runtime::gpu::DeviceInfo info);

  /// A discrete device with few limits.
  static runtime::gpu::DeviceInfo typical();

  /// Executes one launch: where its buffers begin, and the launch for its scalars.
  using Entry = std::function<void(std::span<std::byte* const> buffers, const runtime::gpu::Launch& launch)>;
  std::map<std::string, Entry> entries;

  bool host_visible = false;               ///< the host sees device memory
  bool lost = false;                       ///< every execution fails
  std::uint64_t room = ~std::uint64_t{0};  ///< bytes that can be allocated

  int builders = 0;  ///< threads that may build at once; 0: any number

  std::atomic<int> allocations = 0, programs = 0, submissions = 0, writes = 0;
  std::vector<runtime::gpu::Commands> recorded;
  std::vector<std::string> built;  ///< "entry: code"

  const runtime::gpu::DeviceInfo& info() const override { return info_; }
  int most_build_threads() const override { return builders; }
  std::unique_ptr<runtime::gpu::Memory> allocate(std::uint64_t bytes) override;
  std::unique_ptr<runtime::gpu::Memory> allocate_staging(std::uint64_t bytes) override;
  std::shared_ptr<runtime::gpu::Code> build(const plan::DeviceKernel& kernel, std::string_view code,
                                            const std::string& cache) override;
  std::unique_ptr<runtime::gpu::Program> record(const runtime::gpu::Commands& commands) override;
  void write(runtime::gpu::Memory& to, std::uint64_t offset, const void* from, std::uint64_t bytes) override;
  void read(const runtime::gpu::Memory& from, std::uint64_t offset, void* to, std::uint64_t bytes) override;

  /// What a program and its memory are made of.
  void execute(const runtime::gpu::Commands& commands);
  std::atomic<std::uint64_t> used = 0;

 private:
  runtime::gpu::DeviceInfo info_;
  std::mutex mutex_;
  std::atomic<int> building_ = 0;
};

}  // namespace heddle::test
