#include "runtime/opencl/status.hpp"

#include <CL/cl_ext.h>

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::runtime::gpu::opencl {
namespace {

struct Status {
  cl_int value;
  std::string_view name;
  std::string_view advice = "";
};

constexpr std::string_view free_memory =
    "the device or the machine has no memory left: close other programs that use it, or run smaller inputs";
constexpr std::string_view reopen =
    "the device stopped: open it again, and look at the driver's log (dmesg) if that does not help";

constexpr std::array statuses = {
    Status{CL_DEVICE_NOT_FOUND, "CL_DEVICE_NOT_FOUND"},
    Status{CL_DEVICE_NOT_AVAILABLE, "CL_DEVICE_NOT_AVAILABLE", reopen},
    Status{CL_COMPILER_NOT_AVAILABLE, "CL_COMPILER_NOT_AVAILABLE", "install the driver's OpenCL compiler"},
    Status{CL_MEM_OBJECT_ALLOCATION_FAILURE, "CL_MEM_OBJECT_ALLOCATION_FAILURE", free_memory},
    Status{CL_OUT_OF_RESOURCES, "CL_OUT_OF_RESOURCES",
           "a kernel needs more registers, threads or memory than the device has, or it read or wrote outside its "
           "buffers; run smaller inputs or another device"},
    Status{CL_OUT_OF_HOST_MEMORY, "CL_OUT_OF_HOST_MEMORY", free_memory},
    Status{CL_PROFILING_INFO_NOT_AVAILABLE, "CL_PROFILING_INFO_NOT_AVAILABLE"},
    Status{CL_MEM_COPY_OVERLAP, "CL_MEM_COPY_OVERLAP"},
    Status{CL_BUILD_PROGRAM_FAILURE, "CL_BUILD_PROGRAM_FAILURE"},
    Status{CL_MAP_FAILURE, "CL_MAP_FAILURE", free_memory},
    Status{CL_MISALIGNED_SUB_BUFFER_OFFSET, "CL_MISALIGNED_SUB_BUFFER_OFFSET"},
    Status{CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST, "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST", reopen},
    Status{CL_COMPILE_PROGRAM_FAILURE, "CL_COMPILE_PROGRAM_FAILURE"},
    Status{CL_LINKER_NOT_AVAILABLE, "CL_LINKER_NOT_AVAILABLE", "install the driver's OpenCL compiler"},
    Status{CL_LINK_PROGRAM_FAILURE, "CL_LINK_PROGRAM_FAILURE"},
    Status{CL_KERNEL_ARG_INFO_NOT_AVAILABLE, "CL_KERNEL_ARG_INFO_NOT_AVAILABLE"},
    Status{CL_INVALID_VALUE, "CL_INVALID_VALUE"},
    Status{CL_INVALID_DEVICE, "CL_INVALID_DEVICE", reopen},
    Status{CL_INVALID_CONTEXT, "CL_INVALID_CONTEXT", reopen},
    Status{CL_INVALID_QUEUE_PROPERTIES, "CL_INVALID_QUEUE_PROPERTIES"},
    Status{CL_INVALID_COMMAND_QUEUE, "CL_INVALID_COMMAND_QUEUE", reopen},
    Status{CL_INVALID_HOST_PTR, "CL_INVALID_HOST_PTR"},
    Status{CL_INVALID_MEM_OBJECT, "CL_INVALID_MEM_OBJECT"},
    Status{CL_INVALID_BINARY, "CL_INVALID_BINARY"},
    Status{CL_INVALID_BUILD_OPTIONS, "CL_INVALID_BUILD_OPTIONS"},
    Status{CL_INVALID_PROGRAM, "CL_INVALID_PROGRAM"},
    Status{CL_INVALID_PROGRAM_EXECUTABLE, "CL_INVALID_PROGRAM_EXECUTABLE"},
    Status{CL_INVALID_KERNEL_NAME, "CL_INVALID_KERNEL_NAME"},
    Status{CL_INVALID_KERNEL_DEFINITION, "CL_INVALID_KERNEL_DEFINITION"},
    Status{CL_INVALID_KERNEL, "CL_INVALID_KERNEL"},
    Status{CL_INVALID_ARG_INDEX, "CL_INVALID_ARG_INDEX"},
    Status{CL_INVALID_ARG_VALUE, "CL_INVALID_ARG_VALUE"},
    Status{CL_INVALID_ARG_SIZE, "CL_INVALID_ARG_SIZE"},
    Status{CL_INVALID_KERNEL_ARGS, "CL_INVALID_KERNEL_ARGS"},
    Status{CL_INVALID_WORK_DIMENSION, "CL_INVALID_WORK_DIMENSION"},
    Status{CL_INVALID_WORK_GROUP_SIZE, "CL_INVALID_WORK_GROUP_SIZE"},
    Status{CL_INVALID_WORK_ITEM_SIZE, "CL_INVALID_WORK_ITEM_SIZE"},
    Status{CL_INVALID_GLOBAL_OFFSET, "CL_INVALID_GLOBAL_OFFSET"},
    Status{CL_INVALID_EVENT_WAIT_LIST, "CL_INVALID_EVENT_WAIT_LIST"},
    Status{CL_INVALID_EVENT, "CL_INVALID_EVENT"},
    Status{CL_INVALID_OPERATION, "CL_INVALID_OPERATION"},
    Status{CL_INVALID_BUFFER_SIZE, "CL_INVALID_BUFFER_SIZE"},
    Status{CL_INVALID_GLOBAL_WORK_SIZE, "CL_INVALID_GLOBAL_WORK_SIZE",
           "the grid has more blocks than the device takes"},
    Status{CL_INVALID_PROPERTY, "CL_INVALID_PROPERTY"},
    Status{CL_INVALID_COMPILER_OPTIONS, "CL_INVALID_COMPILER_OPTIONS"},
    Status{CL_INVALID_LINKER_OPTIONS, "CL_INVALID_LINKER_OPTIONS"},
    Status{CL_PLATFORM_NOT_FOUND_KHR, "CL_PLATFORM_NOT_FOUND_KHR",
           "install the device's OpenCL driver; the loader looks for its .icd file in /etc/OpenCL/vendors"},
    Status{-9999, "NVIDIA's CL_UNKNOWN_ERROR", "a kernel read or wrote outside its buffers; the device stopped"},
};

const Status* find_status(cl_int value) {
  const auto found = std::ranges::find(statuses, value, &Status::value);
  return found == statuses.end() ? nullptr : &*found;
}

bool means_no_memory(cl_int status) {
  return status == CL_MEM_OBJECT_ALLOCATION_FAILURE || status == CL_OUT_OF_HOST_MEMORY || status == CL_MAP_FAILURE;
}

}  // namespace

std::string status_name(cl_int status) {
  const Status* known = find_status(status);
  return fmt::format("{} ({})", known ? known->name : "an OpenCL status that is not in the standard", status);
}

void fail(cl_int status, std::string_view doing) {
  const Status* known = find_status(status);
  std::string text = fmt::format("OpenCL cannot {}: {}", doing, status_name(status));
  if (known && !known->advice.empty()) text += fmt::format("\n{}", known->advice);
  throw Error(means_no_memory(status) ? ErrorCode::out_of_memory : ErrorCode::device, text);
}

bool means_lost(cl_int status) {
  return status == CL_DEVICE_NOT_AVAILABLE || status == CL_INVALID_DEVICE || status == CL_INVALID_CONTEXT ||
         status == CL_INVALID_COMMAND_QUEUE || status == -9999;
}

}  // namespace heddle::runtime::gpu::opencl
