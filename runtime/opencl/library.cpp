#include "runtime/opencl/library.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <mutex>

#include <fmt/format.h>

namespace heddle::runtime::gpu::opencl {
namespace {

/// Looks functions up and remembers the first that is missing.
class Finder {
 public:
  explicit Finder(void* handle) : handle_(handle) {}

  template <class F>
  void optional(F& function, const char* name) {
    function = reinterpret_cast<F>(::dlsym(handle_, name));
  }
  template <class F>
  void required(F& function, const char* name) {
    optional(function, name);
    if (!function && missing_.empty()) missing_ = name;
  }
  const std::string& missing() const { return missing_; }

 private:
  void* handle_;
  std::string missing_;
};

std::string find_functions(void* handle, Library& cl) {
  Finder find(handle);
  find.required(cl.get_platform_ids, "clGetPlatformIDs");
  find.required(cl.get_platform_info, "clGetPlatformInfo");
  find.required(cl.get_extension_function, "clGetExtensionFunctionAddressForPlatform");
  find.required(cl.get_device_ids, "clGetDeviceIDs");
  find.required(cl.get_device_info, "clGetDeviceInfo");
  find.required(cl.create_context, "clCreateContext");
  find.required(cl.release_context, "clReleaseContext");
  find.required(cl.create_queue, "clCreateCommandQueue");
  find.required(cl.release_queue, "clReleaseCommandQueue");
  find.required(cl.flush, "clFlush");
  find.required(cl.finish, "clFinish");
  find.required(cl.create_buffer, "clCreateBuffer");
  find.required(cl.create_sub_buffer, "clCreateSubBuffer");
  find.required(cl.release_memory, "clReleaseMemObject");
  find.required(cl.enqueue_read, "clEnqueueReadBuffer");
  find.required(cl.enqueue_write, "clEnqueueWriteBuffer");
  find.required(cl.enqueue_fill, "clEnqueueFillBuffer");
  find.required(cl.enqueue_map, "clEnqueueMapBuffer");
  find.required(cl.enqueue_unmap, "clEnqueueUnmapMemObject");
  find.optional(cl.svm_alloc, "clSVMAlloc");
  find.optional(cl.svm_free, "clSVMFree");
  find.required(cl.create_program_with_source, "clCreateProgramWithSource");
  find.required(cl.create_program_with_binary, "clCreateProgramWithBinary");
  find.required(cl.release_program, "clReleaseProgram");
  find.required(cl.build_program, "clBuildProgram");
  find.required(cl.get_program_info, "clGetProgramInfo");
  find.required(cl.get_program_build_info, "clGetProgramBuildInfo");
  find.required(cl.create_kernel, "clCreateKernel");
  find.required(cl.release_kernel, "clReleaseKernel");
  find.required(cl.set_kernel_argument, "clSetKernelArg");
  find.required(cl.get_kernel_info, "clGetKernelInfo");
  find.required(cl.get_kernel_work_group_info, "clGetKernelWorkGroupInfo");
  find.required(cl.enqueue_kernel, "clEnqueueNDRangeKernel");
  find.required(cl.enqueue_marker, "clEnqueueMarkerWithWaitList");
  find.required(cl.enqueue_barrier, "clEnqueueBarrierWithWaitList");
  find.required(cl.retain_event, "clRetainEvent");
  find.required(cl.release_event, "clReleaseEvent");
  find.required(cl.wait_for_events, "clWaitForEvents");
  find.required(cl.get_event_info, "clGetEventInfo");
  find.required(cl.get_event_profiling_info, "clGetEventProfilingInfo");
  return find.missing();
}

}  // namespace

CommandBuffers CommandBuffers::of(const Library& library, cl_platform_id platform) {
  CommandBuffers found;
  const auto find = [&]<class F>(F& function, const char* name) {
    function = reinterpret_cast<F>(library.get_extension_function(platform, name));
  };
  find(found.create, "clCreateCommandBufferKHR");
  find(found.release, "clReleaseCommandBufferKHR");
  find(found.add_kernel, "clCommandNDRangeKernelKHR");
  find(found.finalize, "clFinalizeCommandBufferKHR");
  find(found.enqueue, "clEnqueueCommandBufferKHR");
  return found;
}

const Library* find_library(std::string& reason) {
  static std::mutex mutex;
  static std::map<std::string, std::unique_ptr<const Library>> loaded;
  const std::lock_guard lock(mutex);
  const char* wanted = std::getenv("HEDDLE_OPENCL_LIBRARY");
  const std::string name = wanted && *wanted ? wanted : "libOpenCL.so.1";
  if (const auto known = loaded.find(name); known != loaded.end()) return known->second.get();
  void* handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    reason = fmt::format(
        "there is no OpenCL loader ({}); install the device's driver and a loader (Debian: ocl-icd-libopencl1), or set "
        "HEDDLE_OPENCL_LIBRARY to the loader's path",
        ::dlerror());
    return nullptr;
  }
  auto library = std::make_unique<Library>();
  if (const std::string missing = find_functions(handle, *library); !missing.empty()) {
    reason = fmt::format("'{}' is no loader for OpenCL 1.2 or later: it has no {}", name, missing);
    return nullptr;
  }
  return (loaded[name] = std::move(library)).get();
}

}  // namespace heddle::runtime::gpu::opencl
