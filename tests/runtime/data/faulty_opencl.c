// An OpenCL loader that fails on demand: what it does not define comes from libOpenCL.so.1, which it is linked with.
#include <CL/cl.h>
#include <dlfcn.h>
#include <string.h>

// The names are those of tests/runtime/faulty_opencl.hpp.
enum {
  works,
  no_platform,
  old_version,
  two_devices,
  discrete,
  small_block,
  no_memory,
  refused_launch,
  lost_in_launch,
  failed_execution,
  rejected_binary,
  nvidia,
};
int opencl_fault = works;

static void* real(const char* name) {
  static void* library;
  if (!library) library = dlopen("libOpenCL.so.1", RTLD_NOW);
  return dlsym(library, name);
}

cl_int clGetPlatformIDs(cl_uint entries, cl_platform_id* platforms, cl_uint* count) {
  if (opencl_fault == no_platform) return -1001;
  return ((__typeof__(&clGetPlatformIDs))real("clGetPlatformIDs"))(entries, platforms, count);
}

cl_int clGetDeviceIDs(cl_platform_id platform, cl_device_type type, cl_uint entries, cl_device_id* devices,
                      cl_uint* count) {
  __typeof__(&clGetDeviceIDs) get = (__typeof__(&clGetDeviceIDs))real("clGetDeviceIDs");
  if (opencl_fault != two_devices) return get(platform, type, entries, devices, count);
  if (count) *count = 2;
  if (devices) {
    get(platform, type, 1, devices, NULL);
    devices[1] = devices[0];
  }
  return CL_SUCCESS;
}

static cl_int answer(const void* value, size_t bytes, size_t room, void* to, size_t* needed) {
  if (needed) *needed = bytes;
  if (to && room < bytes) return CL_INVALID_VALUE;
  if (to) memcpy(to, value, bytes);
  return CL_SUCCESS;
}

cl_int clGetPlatformInfo(cl_platform_id platform, cl_platform_info what, size_t room, void* to, size_t* needed) {
  if (opencl_fault == nvidia && what == CL_PLATFORM_VENDOR) {
    static const char vendor[] = "NVIDIA Corporation";
    return answer(vendor, sizeof vendor, room, to, needed);
  }
  return ((__typeof__(&clGetPlatformInfo))real("clGetPlatformInfo"))(platform, what, room, to, needed);
}

cl_int clGetDeviceInfo(cl_device_id device, cl_device_info what, size_t room, void* to, size_t* needed) {
  if (opencl_fault == old_version && what == CL_DEVICE_VERSION) {
    static const char version[] = "OpenCL 1.1 of long ago";
    return answer(version, sizeof version, room, to, needed);
  }
  if (opencl_fault == discrete && what == CL_DEVICE_TYPE) {
    const cl_device_type type = CL_DEVICE_TYPE_GPU;
    return answer(&type, sizeof type, room, to, needed);
  }
  if (opencl_fault == discrete && what == CL_DEVICE_HOST_UNIFIED_MEMORY) {
    const cl_bool unified = CL_FALSE;
    return answer(&unified, sizeof unified, room, to, needed);
  }
  return ((__typeof__(&clGetDeviceInfo))real("clGetDeviceInfo"))(device, what, room, to, needed);
}

cl_int clGetKernelWorkGroupInfo(cl_kernel kernel, cl_device_id device, cl_kernel_work_group_info what, size_t room,
                                void* to, size_t* needed) {
  if (opencl_fault == small_block && what == CL_KERNEL_WORK_GROUP_SIZE) {
    const size_t threads = 16;
    return answer(&threads, sizeof threads, room, to, needed);
  }
  return ((__typeof__(&clGetKernelWorkGroupInfo))real("clGetKernelWorkGroupInfo"))(kernel, device, what, room, to,
                                                                                   needed);
}

cl_mem clCreateBuffer(cl_context context, cl_mem_flags flags, size_t bytes, void* host, cl_int* status) {
  if (opencl_fault == no_memory) {
    *status = CL_MEM_OBJECT_ALLOCATION_FAILURE;
    return NULL;
  }
  return ((__typeof__(&clCreateBuffer))real("clCreateBuffer"))(context, flags, bytes, host, status);
}

cl_program clCreateProgramWithBinary(cl_context context, cl_uint count, const cl_device_id* devices,
                                     const size_t* lengths, const unsigned char** binaries, cl_int* accepted,
                                     cl_int* status) {
  if (opencl_fault == rejected_binary) {
    *accepted = *status = CL_INVALID_BINARY;
    return NULL;
  }
  return ((__typeof__(&clCreateProgramWithBinary))real("clCreateProgramWithBinary"))(context, count, devices, lengths,
                                                                                     binaries, accepted, status);
}

cl_program clCreateProgramWithSource(cl_context context, cl_uint count, const char** texts, const size_t* lengths,
                                     cl_int* status) {
  extern int opencl_sources;
  ++opencl_sources;
  return ((__typeof__(&clCreateProgramWithSource))real("clCreateProgramWithSource"))(context, count, texts, lengths,
                                                                                     status);
}
int opencl_sources = 0;  // programs made from source so far

cl_int clEnqueueNDRangeKernel(cl_command_queue queue, cl_kernel kernel, cl_uint dimensions, const size_t* offset,
                              const size_t* threads, const size_t* block, cl_uint waits, const cl_event* wait,
                              cl_event* event) {
  if (opencl_fault == refused_launch) return CL_OUT_OF_RESOURCES;
  if (opencl_fault == lost_in_launch) return CL_INVALID_COMMAND_QUEUE;
  return ((__typeof__(&clEnqueueNDRangeKernel))real("clEnqueueNDRangeKernel"))(queue, kernel, dimensions, offset,
                                                                               threads, block, waits, wait, event);
}

cl_int clWaitForEvents(cl_uint count, const cl_event* events) {
  const cl_int status = ((__typeof__(&clWaitForEvents))real("clWaitForEvents"))(count, events);
  return opencl_fault == failed_execution ? CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST : status;
}

cl_int clGetEventInfo(cl_event event, cl_event_info what, size_t room, void* to, size_t* needed) {
  if (opencl_fault == failed_execution && what == CL_EVENT_COMMAND_EXECUTION_STATUS) {
    const cl_int status = CL_OUT_OF_RESOURCES;
    return answer(&status, sizeof status, room, to, needed);
  }
  return ((__typeof__(&clGetEventInfo))real("clGetEventInfo"))(event, what, room, to, needed);
}
