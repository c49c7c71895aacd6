#pragma once
#include <HalideRuntime.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "runtime/gpu/device.hpp"
#include "runtime/kernel_call.hpp"

namespace heddle::runtime::gpu {

/// What halide_buffer_t::device holds while kernels are recorded: one of the memories that a recording may use, by its
/// number, and a byte in it. Never 0, which Halide takes for a buffer without device memory; a crop is an addition.
struct Address {
  std::uint32_t memory = 0;
  std::uint64_t offset = 0;

  static constexpr int offset_bits = 48;
  static constexpr std::uint32_t most_memories = (1U << (64 - offset_bits)) - 1;

  std::uint64_t encoded() const { return (std::uint64_t{memory} + 1) << offset_bits | offset; }
  /// `encoded` is not 0.
  static Address decode(std::uint64_t encoded) {
    return {static_cast<std::uint32_t>((encoded >> offset_bits) - 1),
            encoded & ((std::uint64_t{1} << offset_bits) - 1)};
  }
};

/// The entries of a module's device code, built for a device.
class Entries {
 public:
  struct Entry {
    const plan::DeviceKernel* kernel = nullptr;
    std::shared_ptr<Code> code;
  };
  /// `kernel` must outlive this.
  void add(const plan::DeviceKernel& kernel, std::shared_ptr<Code> code);
  const Entry* find(std::string_view kernel, std::string_view entry) const;

 private:
  std::map<std::string, std::map<std::string, Entry, std::less<>>, std::less<>> kernels_;
};

/// Memory for the intermediates of kernels, handed out first fit: what was released is used again.
class ScratchPlan {
 public:
  explicit ScratchPlan(std::uint64_t alignment) : alignment_(alignment) {}
  std::uint64_t allocate(std::uint64_t bytes);   ///< the offset
  bool release(std::uint64_t offset);            ///< false: nothing was allocated there
  std::uint64_t bytes() const { return most_; }  ///< that all of it took at most

 private:
  std::uint64_t alignment_;
  std::map<std::uint64_t, std::uint64_t> used_;  ///< offset -> bytes
  std::uint64_t most_ = 0;
};

/// Receives what the host code of kernels asks of a device, and turns it into launches. Needs no device memory: buffers
/// are numbered memories, for which real ones are put in when all is recorded and the scratch memory's size is known.
class Recorder {
 public:
  /// The memory that `allocate` takes from; all others are the caller's to number.
  static constexpr std::uint32_t scratch_memory = 0;

  /// Becomes the recorder of `call` while it lives. `memory_bytes`: of each memory, by its number; what it says of the
  /// scratch memory is ignored. All must outlive it.
  Recorder(KernelCall& call, const Entries& entries, const DeviceInfo& device,
           std::span<const std::uint64_t> memory_bytes);
  ~Recorder() { call_.recorder = nullptr; }
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  // What kernels call. They return 0 or an error code of Halide, having given the call the message.

  int allocate(halide_buffer_t& buffer) noexcept;
  int release(halide_buffer_t& buffer) noexcept;
  int launch(const char* kernel, const char* entry, std::span<const int, 3> blocks, std::span<const int, 3> threads,
             int shared_bytes, const std::size_t* sizes, void* const* arguments, const std::int8_t* is_buffer) noexcept;

  // What the caller asks, between kernels.

  /// Throws the first error of the functions above, if there was one.
  void check() const;
  std::size_t launches() const { return launches_.size(); }
  std::uint64_t scratch_bytes() const { return scratch_.bytes(); }

  /// Where the numbered memories lie: ranges of real ones.
  struct Place {
    Memory* memory = nullptr;
    std::uint64_t offset = 0;
  };
  /// The launches recorded so far, in their order.
  std::vector<Launch> placed(std::span<const Place> places) const;

 private:
  template <class F>
  int guarded(F&& f) noexcept;
  Binding bind(const halide_buffer_t& buffer, std::uint32_t& memory) const;
  void check_limits(const Launch& launch) const;

  KernelCall& call_;
  const Entries& entries_;
  const DeviceInfo& device_;
  std::span<const std::uint64_t> memory_bytes_;
  ScratchPlan scratch_;
  std::vector<Launch> launches_;         ///< their buffers' memories not set
  std::vector<std::uint32_t> memories_;  ///< of all buffers of all launches, in order
  std::optional<Error> error_;
};

}  // namespace heddle::runtime::gpu
