#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/device_api.hpp"
#include "runtime/plan.hpp"

// What the executor asks of a device. runtime/opencl and runtime/vulkan implement it; neither knows Halide, packages or
// sessions.
namespace heddle::runtime::gpu {

struct DeviceInfo {
  DeviceApi api = DeviceApi::opencl;
  int index = 0;       ///< among the API's devices, in the drivers' order
  std::string name;    ///< "NVIDIA H100 80GB HBM3"
  std::string driver;  ///< its name and version, for people; part of the key of cached binaries
  enum class Kind { cpu, integrated, discrete, other } kind = Kind::other;
  std::uint64_t memory_bytes = 0;
  std::uint64_t most_allocation_bytes = 0;  ///< of one allocation
  std::uint64_t most_buffer_bytes = 0;  ///< of one buffer as a kernel sees it: a part of an allocation, or all of it
  std::uint64_t alignment = 256;        ///< of a buffer's offset in its memory; at least 256
  int block_threads = 0;                ///< threads in a block at most
  int shared_bytes = 0;                 ///< shared memory of a block at most
  bool f16 = false, f64 = false, int8 = false, int16 = false, int64 = false;
};

struct DeviceList {
  std::vector<DeviceInfo> devices;
  std::string reason;  ///< why there are none: no loader, no driver
};

/// The API's devices. Never throws for their absence.
DeviceList list_devices(DeviceApi api);

/// The device to run on: `selector` is an index, or a part of its name in any case; empty takes HEDDLE_DEVICE, else the
/// first discrete one, else integrated, other, cpu. Throws Error{not_found} listing what there is.
DeviceInfo choose_device(DeviceApi api, std::string_view selector);

/// A range of device memory, of fixed size, owned by whoever allocated it.
class Memory {
 public:
  virtual ~Memory() = default;
  std::uint64_t bytes() const { return bytes_; }
  /// Where the host reads and writes it, if both see the same bytes; nullptr where it lies in a device's own memory.
  virtual std::byte* host() const = 0;

 protected:
  explicit Memory(std::uint64_t bytes) : bytes_(bytes) {}

 private:
  std::uint64_t bytes_;
};

/// Device code, compiled by the driver for the device.
class Code {
 public:
  virtual ~Code() = default;
};

struct Binding {
  Memory* memory = nullptr;
  std::uint64_t offset = 0;  ///< bytes, a multiple of DeviceInfo::alignment
  std::uint64_t bytes = 0;   ///< that the kernel may touch
};

/// One launch of an entry, with everything that the kernel's host code computed.
struct Launch {
  const plan::DeviceKernel* kernel = nullptr;
  Code* code = nullptr;
  std::array<std::uint32_t, 3> blocks = {1, 1, 1};
  std::array<std::uint32_t, 3> threads = {1, 1, 1};
  std::uint32_t shared_bytes = 0;  ///< of arrays whose size is known only now
  struct Argument {
    bool is_buffer = false;
    Binding buffer = {};
    std::array<std::byte, 8> scalar = {};
    std::uint32_t scalar_bytes = 0;
  };
  std::vector<Argument> arguments;  ///< in the order of Halide's call: OpenCL's kernel arguments, in order
};

struct Copy {
  Binding from, to;  ///< of equal size; a staging side may be at any offset that is a multiple of 4
};

/// Work in order: all uploads, then the launches, then all downloads. Launches that touch the same bytes, one of them
/// writing, take effect in order; others may overlap.
struct Commands {
  std::vector<Copy> uploads;
  std::vector<Launch> launches;
  std::vector<Copy> downloads;
  bool timestamps = false;
};

/// Commands recorded once, to be executed any number of times. The memories and the code must outlive it.
class Program {
 public:
  virtual ~Program() = default;
  /// Starts one execution; host writes to staging memory before are seen. One execution at a time.
  virtual void submit() = 0;
  /// Until it is complete: staging memory then holds what was downloaded. Throws Error{device} if the device was lost.
  virtual void wait() = 0;
  /// Of the latest execution, nanoseconds a launch: start since the first one's start, and duration. Empty without
  /// timestamps.
  struct Interval {
    std::int64_t start_ns = 0, duration_ns = 0;
  };
  virtual std::vector<Interval> intervals() const = 0;
};

/// An open device. All functions may be called from any thread; programs of one device run one after the other.
class Device {
 public:
  virtual ~Device() = default;
  virtual const DeviceInfo& info() const = 0;
  /// After an Error{device} that the driver will not recover from: everything made with this Device is of no more use,
  /// and open_device opens it anew.
  virtual bool lost() const { return false; }
  /// How many threads may be in build() at once without risk; 0: any number.
  virtual int most_build_threads() const { return 0; }

  /// Device memory that kernels work on. Throws Error{out_of_memory}.
  virtual std::unique_ptr<Memory> allocate(std::uint64_t bytes) = 0;
  /// Memory of the host that the device can copy from and to; host() is never null.
  virtual std::unique_ptr<Memory> allocate_staging(std::uint64_t bytes) = 0;

  /// Builds an entry from its file's content: OpenCL C, or SPIR-V words. The driver's result is kept in `cache`, a
  /// directory, unless it is empty; a damaged entry there is built anew. Throws Error{unsupported} with the driver's
  /// log.
  virtual std::shared_ptr<Code> build(const plan::DeviceKernel& kernel, std::string_view code,
                                      const std::string& cache) = 0;

  virtual std::unique_ptr<Program> record(const Commands& commands) = 0;

  /// Copies between the host and device memory, complete on return. Not for the path of a run.
  virtual void write(Memory& to, std::uint64_t offset, const void* from, std::uint64_t bytes) = 0;
  virtual void read(const Memory& from, std::uint64_t offset, void* to, std::uint64_t bytes) = 0;
};

/// The device opened, shared within the process until it is lost. Throws Error{not_found} or Error{unsupported} with
/// the driver's reason.
std::shared_ptr<Device> open_device(const DeviceInfo& info);

}  // namespace heddle::runtime::gpu
