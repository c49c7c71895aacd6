#include <fmt/format.h>

#include "base/error.hpp"
#include "runtime/opencl/code.hpp"
#include "runtime/opencl/memory.hpp"
#include "runtime/opencl/opencl.hpp"
#include "runtime/opencl/program.hpp"

namespace heddle::runtime::gpu {
namespace opencl {
namespace {

class OpenClDevice final : public Device {
 public:
  explicit OpenClDevice(FoundDevice found)
      : context_(std::make_shared<Context>(std::move(found))), programs_(context_) {}

  const DeviceInfo& info() const override { return context_->info(); }
  bool lost() const override { return context_->lost(); }
  int most_build_threads() const override { return context_->found().build_threads; }

  std::unique_ptr<Memory> allocate(std::uint64_t bytes) override {
    return std::make_unique<DeviceMemory>(context_, bytes);
  }
  std::unique_ptr<Memory> allocate_staging(std::uint64_t bytes) override {
    return std::make_unique<StagingMemory>(context_, bytes);
  }

  std::shared_ptr<Code> build(const plan::DeviceKernel& kernel, std::string_view code,
                              const std::string& cache) override {
    return std::make_shared<OpenClCode>(*context_, programs_.get(kernel, std::string(code), cache), kernel.entry);
  }

  std::unique_ptr<Program> record(const Commands& commands) override {
    return std::make_unique<OpenClProgram>(context_, commands);
  }

  void write(Memory& to, std::uint64_t offset, const void* from, std::uint64_t bytes) override {
    copy(to, offset, bytes, "copy to the device", [&](cl_command_queue queue, cl_mem buffer, cl_event* event) {
      return context_->cl().enqueue_write(queue, buffer, CL_FALSE, offset, bytes, from, 0, nullptr, event);
    });
  }
  void read(const Memory& from, std::uint64_t offset, void* to, std::uint64_t bytes) override {
    copy(from, offset, bytes, "copy from the device", [&](cl_command_queue queue, cl_mem buffer, cl_event* event) {
      return context_->cl().enqueue_read(queue, buffer, CL_FALSE, offset, bytes, to, 0, nullptr, event);
    });
  }

 private:
  template <class Enqueue>
  void copy(const Memory& memory, std::uint64_t offset, std::uint64_t bytes, std::string_view doing, Enqueue enqueue) {
    const cl_mem buffer = device_memory(&memory, offset, bytes).buffer();
    if (bytes == 0) return;
    const Handle<cl_event> done = context_->enqueue(false, doing, [&](cl_command_queue queue) {
      cl_event event = nullptr;
      context_->check(enqueue(queue, buffer, &event), doing);
      return event;
    });
    context_->wait(done.get(), doing);
  }

  std::shared_ptr<Context> context_;
  ProgramStore programs_;
};

}  // namespace
}  // namespace opencl

DeviceList list_opencl_devices() {
  const opencl::FoundDevices found = opencl::find_devices();
  DeviceList list{{}, found.reason};
  for (const opencl::FoundDevice& device : found.devices) list.devices.push_back(device.info);
  return list;
}

std::shared_ptr<Device> open_opencl_device(const DeviceInfo& info) {
  opencl::FoundDevices found = opencl::find_devices();
  const auto count = static_cast<int>(found.devices.size());
  if (info.index < 0 || info.index >= count)
    throw Error(ErrorCode::not_found,
                fmt::format("there is no OpenCL device {}{}", info.index,
                            count == 0 ? ": " + found.reason : fmt::format("; there are {}", count)));
  return std::make_shared<opencl::OpenClDevice>(std::move(found.devices[static_cast<std::size_t>(info.index)]));
}

}  // namespace heddle::runtime::gpu
