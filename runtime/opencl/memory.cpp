#include "runtime/opencl/memory.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::runtime::gpu::opencl {
namespace {

/// OpenCL has no empty buffers.
std::size_t allocated(std::uint64_t bytes) { return std::max<std::size_t>(bytes, 1); }

void check_range(const Memory& memory, std::uint64_t offset, std::uint64_t bytes) {
  if (offset > memory.bytes() || bytes > memory.bytes() - offset)
    throw Error(ErrorCode::internal, fmt::format("{} bytes at offset {} lie outside a device memory of {} bytes", bytes,
                                                 offset, memory.bytes()));
}

}  // namespace

DeviceMemory::DeviceMemory(std::shared_ptr<Context> context, std::uint64_t bytes)
    : Memory(bytes), context_(std::move(context)), shared_(nullptr, {context_.get()}) {
  const Library& cl = context_->cl();
  const DeviceInfo& info = context_->info();
  const std::string doing = fmt::format("allocate {} bytes on '{}'", bytes, info.name);
  context_->check_alive(doing);
  const std::uint64_t most = std::min(info.most_allocation_bytes, info.memory_bytes);
  if (bytes > most)
    throw Error(ErrorCode::out_of_memory,
                fmt::format("OpenCL cannot {}: one allocation there holds at most {} bytes, of {} in all; run smaller "
                            "inputs, or a device with more memory",
                            doing, most, info.memory_bytes));
  cl_mem_flags flags = CL_MEM_READ_WRITE;
  if (context_->found().shares_memory) {
    // Alignment 0 is that of the largest type, which is also the most that may be asked for.
    shared_.reset(cl.svm_alloc(context_->get(), CL_MEM_READ_WRITE | CL_MEM_SVM_FINE_GRAIN_BUFFER, allocated(bytes), 0));
    // Without it the memory is an ordinary buffer, which the caller copies to and from.
    if (shared_) flags |= CL_MEM_USE_HOST_PTR;
  }
  cl_int status = CL_SUCCESS;
  buffer_ = cl.own(cl.create_buffer(context_->get(), flags, allocated(bytes), shared_.get(), &status));
  context_->check(status, doing);
  if (shared_) return;
  // Most drivers take the memory at its first use; whether there is enough must be known now.
  const Handle<cl_event> filled = context_->enqueue(false, doing, [&](cl_command_queue queue) {
    const unsigned char zero = 0;
    cl_event event = nullptr;
    context_->check(cl.enqueue_fill(queue, buffer_.get(), &zero, sizeof zero, 0, 1, 0, nullptr, &event), doing);
    return event;
  });
  context_->wait(filled.get(), doing);
}

StagingMemory::StagingMemory(std::shared_ptr<Context> context, std::uint64_t bytes)
    : Memory(bytes), context_(std::move(context)) {
  const Library& cl = context_->cl();
  const std::string doing = fmt::format("allocate {} bytes of the host for '{}'", bytes, context_->info().name);
  context_->check_alive(doing);
  if (bytes > context_->info().most_allocation_bytes)
    throw Error(ErrorCode::out_of_memory,
                fmt::format("OpenCL cannot {}: one allocation holds at most {} bytes; run smaller inputs", doing,
                            context_->info().most_allocation_bytes));
  cl_int status = CL_SUCCESS;
  buffer_ = cl.own(
      cl.create_buffer(context_->get(), CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR, allocated(bytes), nullptr, &status));
  context_->check(status, doing);
  const Handle<cl_event> mapped = context_->enqueue(false, doing, [&](cl_command_queue queue) {
    cl_event event = nullptr;
    host_ = static_cast<std::byte*>(cl.enqueue_map(queue, buffer_.get(), CL_FALSE, CL_MAP_READ | CL_MAP_WRITE, 0,
                                                   allocated(bytes), 0, nullptr, &event, &status));
    context_->check(status, doing);
    return event;
  });
  context_->wait(mapped.get(), doing);
}

StagingMemory::~StagingMemory() {
  // A lost device refuses; the memory goes with its context then.
  try {
    const Handle<cl_event> unmapped = context_->enqueue(false, "unmap memory", [&](cl_command_queue queue) -> cl_event {
      cl_event event = nullptr;
      context_->cl().enqueue_unmap(queue, buffer_.get(), host_, 0, nullptr, &event);
      return event;
    });
    if (unmapped) context_->wait(unmapped.get(), "unmap memory");
  } catch (const Error&) {
  }
}

const DeviceMemory& device_memory(const Memory* memory, std::uint64_t offset, std::uint64_t bytes) {
  const auto* ours = dynamic_cast<const DeviceMemory*>(memory);
  if (!ours) throw Error(ErrorCode::internal, "a command for an OpenCL device names memory that is not the device's");
  check_range(*memory, offset, bytes);
  return *ours;
}

std::byte* host_memory(const Memory* memory, std::uint64_t offset, std::uint64_t bytes) {
  if (!memory || !memory->host())
    throw Error(ErrorCode::internal, "a copy between host and OpenCL device names memory that the host does not see");
  check_range(*memory, offset, bytes);
  return memory->host() + offset;
}

}  // namespace heddle::runtime::gpu::opencl
