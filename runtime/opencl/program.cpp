#include "runtime/opencl/program.hpp"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::runtime::gpu::opencl {
namespace {

std::string edges(const std::array<std::uint32_t, 3>& extents) {
  return fmt::format("{}x{}x{}", extents[0], extents[1], extents[2]);
}

/// On processors a command buffer gains nothing: PoCL 3.1 replays it at 3.3 us a kernel, and takes 1.5 us a kernel that
/// is enqueued. HEDDLE_OPENCL_COMMAND_BUFFERS=0 or 1 decides otherwise, should a driver's be faulty or faster.
bool wants_command_buffers(const FoundDevice& found) {
  if (!found.command_buffers) return false;
  if (const char* wanted = std::getenv("HEDDLE_OPENCL_COMMAND_BUFFERS"); wanted && *wanted)
    return std::string_view(wanted) != "0";
  return found.info.kind != DeviceInfo::Kind::cpu;
}

}  // namespace

OpenClProgram::OpenClProgram(std::shared_ptr<Context> context, const Commands& commands)
    : context_(std::move(context)), timestamps_(commands.timestamps) {
  context_->check_alive("record commands");
  const auto transfer = [](const Binding& device, const Binding& host) {
    if (device.bytes != host.bytes)
      throw Error(ErrorCode::internal, fmt::format("a copy from {} bytes to {} bytes", device.bytes, host.bytes));
    return Transfer{device_memory(device.memory, device.offset, device.bytes).buffer(), device.offset, device.bytes,
                    host_memory(host.memory, host.offset, host.bytes)};
  };
  for (const Copy& copy : commands.uploads)
    if (copy.to.bytes > 0) uploads_.push_back(transfer(copy.to, copy.from));
  for (const Launch& launch : commands.launches) kernels_.push_back(prepare(launch));
  for (const Copy& copy : commands.downloads)
    if (copy.to.bytes > 0) downloads_.push_back(transfer(copy.from, copy.to));
  launched_ = static_cast<std::size_t>(std::ranges::count(kernels_, false, &Kernel::empty));
  if (timestamps_) measured_.resize(kernels_.size());
  else if (launched_ > 1 && wants_command_buffers(context_->found())) record_command_buffer();
}

OpenClProgram::~OpenClProgram() {
  // The device may still read what is about to go.
  try {
    wait();
  } catch (const Error&) {
  }
}

void OpenClProgram::check_limits(const Launch& launch, const OpenClCode& code) const {
  const FoundDevice& found = context_->found();
  const DeviceInfo& info = found.info;
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorCode::unsupported, fmt::format("kernel '{}' cannot run on '{}': {}; compile the model for this "
                                                    "device, or choose another",
                                                    code.entry(), info.name, what));
  };
  std::uint64_t threads = 1;
  for (int i = 0; i < 3; ++i) {
    threads *= launch.threads[i];
    if (launch.threads[i] > found.block_edges[i])
      refuse(fmt::format("its blocks have {} threads, and along dimension {} at most {} are possible",
                         edges(launch.threads), i, found.block_edges[i]));
  }
  if (threads == 0) refuse("its blocks have no threads");
  const auto most = std::min<std::uint64_t>(static_cast<std::uint64_t>(info.block_threads), code.block_threads());
  if (threads > most)
    refuse(fmt::format(
        "its blocks have {} threads ({}), and at most {} are possible{}", threads, edges(launch.threads), most,
        code.block_threads() < static_cast<std::size_t>(info.block_threads) ? " with the registers that it needs"
                                                                            : ""));
  const std::uint64_t shared = code.shared_bytes() + launch.shared_bytes;
  if (shared > static_cast<std::uint64_t>(info.shared_bytes))
    refuse(fmt::format("it needs {} bytes of shared memory, and a block has {}", shared, info.shared_bytes));
  if (launch.arguments.size() + 1 != code.arguments())
    throw Error(ErrorCode::internal,
                fmt::format("kernel '{}' is launched with {} arguments and one for shared memory, and takes {}",
                            code.entry(), launch.arguments.size(), code.arguments()));
}

cl_mem OpenClProgram::sub_buffer(const Binding& binding) {
  // A null buffer is a valid argument; an empty one is not.
  if (binding.bytes == 0) return nullptr;
  const DeviceMemory& memory = device_memory(binding.memory, binding.offset, binding.bytes);
  if (binding.offset == 0 && binding.bytes == memory.bytes()) return memory.buffer();
  if (binding.offset % context_->info().alignment != 0)
    throw Error(ErrorCode::internal, fmt::format("a buffer at offset {} of its memory, and the device needs multiples "
                                                 "of {}",
                                                 binding.offset, context_->info().alignment));
  Handle<cl_mem>& known = sub_buffers_[{binding.memory, binding.offset, binding.bytes}];
  if (!known) {
    const cl_buffer_region region = {binding.offset, binding.bytes};
    cl_int status = CL_SUCCESS;
    known = context_->cl().own(context_->cl().create_sub_buffer(memory.buffer(), CL_MEM_READ_WRITE,
                                                                CL_BUFFER_CREATE_TYPE_REGION, &region, &status));
    context_->check(status, fmt::format("make a buffer of {} bytes at offset {}", binding.bytes, binding.offset));
  }
  return known.get();
}

OpenClProgram::Kernel OpenClProgram::prepare(const Launch& launch) {
  const auto* code = dynamic_cast<const OpenClCode*>(launch.code);
  if (!code) throw Error(ErrorCode::internal, "a launch on an OpenCL device without code for it");
  check_limits(launch, *code);
  Kernel kernel;
  kernel.object = code->make_kernel(*context_);
  kernel.entry = code->entry();
  const Library& cl = context_->cl();
  cl_uint index = 0;
  const auto set = [&](std::size_t bytes, const void* value) {
    const cl_int status = cl.set_kernel_argument(kernel.object.get(), index, bytes, value);
    if (status == CL_INVALID_ARG_SIZE || status == CL_INVALID_ARG_VALUE)
      throw Error(ErrorCode::internal, fmt::format("argument {} of kernel '{}' does not take {} bytes ({})", index,
                                                   kernel.entry, bytes, status_name(status)));
    context_->check(status, fmt::format("set argument {} of kernel '{}'", index, kernel.entry));
    ++index;
  };
  for (const Launch::Argument& argument : launch.arguments) {
    if (argument.is_buffer) {
      const cl_mem buffer = sub_buffer(argument.buffer);
      set(sizeof buffer, &buffer);
    } else {
      set(argument.scalar_bytes, argument.scalar.data());
    }
  }
  // Halide's kernels end with an argument for shared memory whether they use it or not, and OpenCL refuses 0 bytes.
  set(std::max<std::size_t>(launch.shared_bytes, 1), nullptr);
  for (int i = 0; i < 3; ++i) {
    kernel.block[i] = launch.threads[i];
    kernel.threads[i] = std::size_t{launch.blocks[i]} * launch.threads[i];
    kernel.empty = kernel.empty || launch.blocks[i] == 0;
  }
  return kernel;
}

/// If the driver refuses, the kernels are enqueued one by one as on any other device.
void OpenClProgram::record_command_buffer() {
  command_buffers_ = CommandBuffers::of(context_->cl(), context_->found().platform);
  cl_int status = CL_SUCCESS;
  Handle<cl_command_buffer_khr> buffer;
  // The buffer is made for the plain queue; recording enqueues nothing there.
  const Handle<cl_event> none = context_->enqueue(false, "record commands", [&](cl_command_queue queue) -> cl_event {
    buffer = {command_buffers_.create(1, &queue, nullptr, &status), {command_buffers_.release}};
    return nullptr;
  });
  if (status != CL_SUCCESS) return;
  for (const Kernel& kernel : kernels_) {
    if (kernel.empty) continue;
    if (command_buffers_.add_kernel(buffer.get(), nullptr, nullptr, kernel.object.get(), 3, nullptr,
                                    kernel.threads.data(), kernel.block.data(), 0, nullptr, nullptr,
                                    nullptr) != CL_SUCCESS)
      return;
  }
  if (command_buffers_.finalize(buffer.get()) == CL_SUCCESS) command_buffer_ = std::move(buffer);
}

void OpenClProgram::enqueue_kernels(cl_command_queue queue, std::size_t& commands_left, cl_event* last) {
  const Library& cl = context_->cl();
  if (command_buffer_) {
    context_->check(
        command_buffers_.enqueue(0, nullptr, command_buffer_.get(), 0, nullptr, --commands_left == 0 ? last : nullptr),
        "submit recorded kernels");
    return;
  }
  for (std::size_t i = 0; i < kernels_.size(); ++i) {
    const Kernel& kernel = kernels_[i];
    if (kernel.empty) continue;
    const bool is_last = --commands_left == 0;
    cl_event event = nullptr;
    const cl_int status = cl.enqueue_kernel(queue, kernel.object.get(), 3, nullptr, kernel.threads.data(),
                                            kernel.block.data(), 0, nullptr, timestamps_ || is_last ? &event : nullptr);
    if (status != CL_SUCCESS) context_->check(status, fmt::format("submit kernel '{}'", kernel.entry));
    if (timestamps_) {
      measured_[i] = cl.own(event);
      if (is_last) cl.retain_event(event);
    }
    if (is_last) *last = event;
  }
}

cl_event OpenClProgram::enqueue_all(cl_command_queue queue) {
  const Library& cl = context_->cl();
  std::size_t commands_left = uploads_.size() + (command_buffer_ ? 1 : launched_) + downloads_.size();
  cl_event last = nullptr;
  for (const Transfer& t : uploads_)
    context_->check(cl.enqueue_write(queue, t.memory, CL_FALSE, t.offset, t.bytes, t.host, 0, nullptr,
                                     --commands_left == 0 ? &last : nullptr),
                    "copy to the device");
  enqueue_kernels(queue, commands_left, &last);
  for (const Transfer& t : downloads_)
    context_->check(cl.enqueue_read(queue, t.memory, CL_FALSE, t.offset, t.bytes, t.host, 0, nullptr,
                                    --commands_left == 0 ? &last : nullptr),
                    "copy from the device");
  return last;
}

void OpenClProgram::submit() {
  if (pending_) throw Error(ErrorCode::internal, "a program was submitted again before anybody waited for it");
  pending_ =
      context_->enqueue(timestamps_, "submit commands", [this](cl_command_queue queue) { return enqueue_all(queue); });
}

void OpenClProgram::wait() {
  if (!pending_) return;
  // Not by asking for the event's state in a loop: that takes the lock that PoCL's threads need to go on (30 us a
  // kernel instead of 1.5), and drivers of discrete devices spin inside.
  const Handle<cl_event> last = std::move(pending_);
  context_->wait(last.get(), "run commands");
}

std::vector<Program::Interval> OpenClProgram::intervals() const {
  std::vector<Interval> intervals;
  if (!timestamps_ || pending_) return intervals;
  std::int64_t first = -1, end = 0;
  for (const Handle<cl_event>& event : measured_) {
    if (!event) {
      intervals.push_back({end, 0});
      continue;
    }
    cl_ulong from = 0, to = 0;
    check(context_->cl().get_event_profiling_info(event.get(), CL_PROFILING_COMMAND_START, sizeof from, &from, nullptr),
          "read timestamps");
    check(context_->cl().get_event_profiling_info(event.get(), CL_PROFILING_COMMAND_END, sizeof to, &to, nullptr),
          "read timestamps");
    if (first < 0) first = static_cast<std::int64_t>(from);
    intervals.push_back({static_cast<std::int64_t>(from) - first, static_cast<std::int64_t>(to - from)});
    end = static_cast<std::int64_t>(to) - first;
  }
  return intervals;
}

}  // namespace heddle::runtime::gpu::opencl
