#include "runtime/opencl/context.hpp"

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::runtime::gpu::opencl {

Context::Context(FoundDevice found) : found_(std::move(found)) {
  const auto properties = std::to_array<cl_context_properties>(
      {CL_CONTEXT_PLATFORM, reinterpret_cast<cl_context_properties>(found_.platform), 0});
  const std::string doing = fmt::format("open the device '{}'", info().name);
  cl_int status = CL_SUCCESS;
  context_ = cl().own(cl().create_context(properties.data(), 1, &found_.device, nullptr, nullptr, &status));
  opencl::check(status, doing);
  plain_ = cl().own(cl().create_queue(get(), found_.device, 0, &status));
  opencl::check(status, doing);
}

void Context::check_alive(std::string_view doing) const {
  if (lost_)
    throw Error(ErrorCode::device,
                fmt::format("OpenCL cannot {}: the device '{}' stopped earlier; open it again", doing, info().name));
}

void Context::check(cl_int status, std::string_view doing) {
  if (means_lost(status)) lost_ = true;
  opencl::check(status, doing);
}

void Context::wait(cl_event event, std::string_view doing) {
  cl_int status = cl().wait_for_events(1, &event);
  if (status == CL_SUCCESS) return;
  if (status == CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST) {
    cl_int execution = CL_COMPLETE;
    if (cl().get_event_info(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof execution, &execution, nullptr) ==
            CL_SUCCESS &&
        execution < 0)
      status = execution;
  }
  // Only a command whose memory could not be had leaves the context usable.
  if (status != CL_MEM_OBJECT_ALLOCATION_FAILURE && status != CL_OUT_OF_HOST_MEMORY) lost_ = true;
  fail(status, doing);
}

cl_command_queue Context::choose_queue(bool timestamps) {
  if (timestamps && !measuring_) {
    cl_int status = CL_SUCCESS;
    measuring_ = cl().own(cl().create_queue(get(), found_.device, CL_QUEUE_PROFILING_ENABLE, &status));
    check(status, "make a queue with timestamps");
  }
  const cl_command_queue queue = timestamps ? measuring_.get() : plain_.get();
  if (latest_ && latest_ != queue) {
    cl_event marker = nullptr;
    check(cl().enqueue_marker(latest_, 0, nullptr, &marker), "change queues");
    const Handle<cl_event> earlier = cl().own(marker);
    check(cl().flush(latest_), "change queues");
    check(cl().enqueue_barrier(queue, 1, &marker, nullptr), "change queues");
  }
  latest_ = queue;
  return queue;
}

}  // namespace heddle::runtime::gpu::opencl
