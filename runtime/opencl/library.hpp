#pragma once
#include <CL/cl.h>
#include <CL/cl_ext.h>

#include <memory>
#include <string>
#include <type_traits>

// The system's OpenCL loader, found at run time: a program with Heddle's runtime starts on machines that have none.
namespace heddle::runtime::gpu::opencl {

template <class T>
struct Release {
  cl_int(CL_API_CALL* function)(T) = nullptr;
  void operator()(T object) const { function(object); }
};

/// An OpenCL object, released when the handle goes.
template <class T>
using Handle = std::unique_ptr<std::remove_pointer_t<T>, Release<T>>;

/// The functions that we call, all of OpenCL 1.2 except where noted.
struct Library {
  decltype(&::clGetPlatformIDs) get_platform_ids = nullptr;
  decltype(&::clGetPlatformInfo) get_platform_info = nullptr;
  decltype(&::clGetExtensionFunctionAddressForPlatform) get_extension_function = nullptr;
  decltype(&::clGetDeviceIDs) get_device_ids = nullptr;
  decltype(&::clGetDeviceInfo) get_device_info = nullptr;

  decltype(&::clCreateContext) create_context = nullptr;
  decltype(&::clReleaseContext) release_context = nullptr;
  // clCreateCommandQueue. Its successor is of OpenCL 2.0; the headers warn of this one, every driver has it.
  cl_command_queue(CL_API_CALL* create_queue)(cl_context, cl_device_id, cl_command_queue_properties, cl_int*) = nullptr;
  decltype(&::clReleaseCommandQueue) release_queue = nullptr;
  decltype(&::clFlush) flush = nullptr;
  decltype(&::clFinish) finish = nullptr;

  decltype(&::clCreateBuffer) create_buffer = nullptr;
  decltype(&::clCreateSubBuffer) create_sub_buffer = nullptr;
  decltype(&::clReleaseMemObject) release_memory = nullptr;
  decltype(&::clEnqueueReadBuffer) enqueue_read = nullptr;
  decltype(&::clEnqueueWriteBuffer) enqueue_write = nullptr;
  decltype(&::clEnqueueFillBuffer) enqueue_fill = nullptr;
  decltype(&::clEnqueueMapBuffer) enqueue_map = nullptr;
  decltype(&::clEnqueueUnmapMemObject) enqueue_unmap = nullptr;
  decltype(&::clSVMAlloc) svm_alloc = nullptr;  ///< OpenCL 2.0: may be missing
  decltype(&::clSVMFree) svm_free = nullptr;    ///< OpenCL 2.0: may be missing

  decltype(&::clCreateProgramWithSource) create_program_with_source = nullptr;
  decltype(&::clCreateProgramWithBinary) create_program_with_binary = nullptr;
  decltype(&::clReleaseProgram) release_program = nullptr;
  decltype(&::clBuildProgram) build_program = nullptr;
  decltype(&::clGetProgramInfo) get_program_info = nullptr;
  decltype(&::clGetProgramBuildInfo) get_program_build_info = nullptr;

  decltype(&::clCreateKernel) create_kernel = nullptr;
  decltype(&::clReleaseKernel) release_kernel = nullptr;
  decltype(&::clSetKernelArg) set_kernel_argument = nullptr;
  decltype(&::clGetKernelInfo) get_kernel_info = nullptr;
  decltype(&::clGetKernelWorkGroupInfo) get_kernel_work_group_info = nullptr;
  decltype(&::clEnqueueNDRangeKernel) enqueue_kernel = nullptr;
  decltype(&::clEnqueueMarkerWithWaitList) enqueue_marker = nullptr;
  decltype(&::clEnqueueBarrierWithWaitList) enqueue_barrier = nullptr;

  decltype(&::clRetainEvent) retain_event = nullptr;
  decltype(&::clReleaseEvent) release_event = nullptr;
  decltype(&::clWaitForEvents) wait_for_events = nullptr;
  decltype(&::clGetEventInfo) get_event_info = nullptr;
  decltype(&::clGetEventProfilingInfo) get_event_profiling_info = nullptr;

  Handle<cl_context> own(cl_context object) const { return {object, {release_context}}; }
  Handle<cl_command_queue> own(cl_command_queue object) const { return {object, {release_queue}}; }
  Handle<cl_mem> own(cl_mem object) const { return {object, {release_memory}}; }
  Handle<cl_program> own(cl_program object) const { return {object, {release_program}}; }
  Handle<cl_kernel> own(cl_kernel object) const { return {object, {release_kernel}}; }
  Handle<cl_event> own(cl_event object) const { return {object, {release_event}}; }
};

/// The functions of cl_khr_command_buffer, which come from the platform and not from the loader.
struct CommandBuffers {
  clCreateCommandBufferKHR_fn create = nullptr;
  clReleaseCommandBufferKHR_fn release = nullptr;
  clCommandNDRangeKernelKHR_fn add_kernel = nullptr;
  clFinalizeCommandBufferKHR_fn finalize = nullptr;
  clEnqueueCommandBufferKHR_fn enqueue = nullptr;

  static CommandBuffers of(const Library& library, cl_platform_id platform);
  explicit operator bool() const { return create && release && add_kernel && finalize && enqueue; }
};

/// libOpenCL.so.1, or the library that HEDDLE_OPENCL_LIBRARY names; nullptr with the reason if it cannot be loaded or
/// is no OpenCL 1.2 loader. It is never unloaded: drivers leave threads and exit handlers behind.
const Library* find_library(std::string& reason);

}  // namespace heddle::runtime::gpu::opencl
