#include "runtime/opencl/devices.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include <fmt/format.h>

#include "base/error.hpp"
#include "runtime/opencl/status.hpp"

namespace heddle::runtime::gpu::opencl {
namespace {

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\n");
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\n") - first + 1);
}

/// Text that a clGet...Info function gives; empty where the driver does not know the property.
template <class Function, class Object>
std::string text_of(Function function, Object object, cl_uint property) {
  std::size_t bytes = 0;
  if (function(object, property, 0, nullptr, &bytes) != CL_SUCCESS || bytes == 0) return {};
  std::string text(bytes, '\0');
  if (function(object, property, bytes, text.data(), nullptr) != CL_SUCCESS) return {};
  return trimmed(text.substr(0, text.find('\0')));
}

/// A number that clGetDeviceInfo gives; `otherwise` where the driver does not know the property.
template <class T>
T number_of(const Library& cl, cl_device_id device, cl_device_info property, T otherwise = {}) {
  T value{};
  return cl.get_device_info(device, property, sizeof value, &value, nullptr) == CL_SUCCESS ? value : otherwise;
}

/// "OpenCL 1.2 CUDA" -> 12
int version_number(const std::string& text) {
  std::istringstream in(text);
  std::string word;
  int major = 0, minor = 0;
  char dot = 0;
  return in >> word >> major >> dot >> minor ? 10 * major + minor : 0;
}

bool has_extension(const std::string& extensions, const std::string& name) {
  return (" " + extensions + " ").find(" " + name + " ") != std::string::npos;
}

DeviceInfo::Kind kind_of(cl_device_type type, bool unified) {
  if (type & CL_DEVICE_TYPE_CPU) return DeviceInfo::Kind::cpu;
  if (type & CL_DEVICE_TYPE_GPU) return unified ? DeviceInfo::Kind::integrated : DeviceInfo::Kind::discrete;
  return DeviceInfo::Kind::other;
}

bool can_record(const Library& cl, cl_platform_id platform, cl_device_id device, const std::string& extensions) {
  if (!has_extension(extensions, CL_KHR_COMMAND_BUFFER_EXTENSION_NAME)) return false;
  const auto needed = number_of<cl_command_queue_properties>(
      cl, device, CL_DEVICE_COMMAND_BUFFER_REQUIRED_QUEUE_PROPERTIES_KHR, ~cl_command_queue_properties{0});
  return needed == 0 && static_cast<bool>(CommandBuffers::of(cl, platform));
}

/// HEDDLE_OPENCL_BUILD_THREADS, else one at a time with NVIDIA's driver.
///
/// Known: on an H200, processes that loaded models of 30 to 60 programs with several threads died without a word, all
/// but one of five models; each of their programs, built alone, was right. Not known: whether the driver's compiler
/// minds company, or ran out of stack (see runtime/gpu/build_threads.hpp), or something else. OpenCL allows concurrent
/// builds.
int build_threads(const std::string& vendor) {
  if (const char* wanted = std::getenv("HEDDLE_OPENCL_BUILD_THREADS"); wanted && *wanted) {
    int threads = 0;
    const char* const end = wanted + std::strlen(wanted);
    const auto [stopped, error] = std::from_chars(wanted, end, threads);
    if (error != std::errc() || stopped != end || threads < 0)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("HEDDLE_OPENCL_BUILD_THREADS is '{}'; expected how many programs may be built at once, "
                              "or 0 for as many as there are processors",
                              wanted));
    return threads;
  }
  return vendor.starts_with("NVIDIA") ? 1 : 0;
}

FoundDevice describe(const Library& cl, cl_platform_id platform, cl_device_id device) {
  const std::string extensions = text_of(cl.get_device_info, device, CL_DEVICE_EXTENSIONS);
  const std::string driver = text_of(cl.get_device_info, device, CL_DRIVER_VERSION);
  const auto dimensions = number_of<cl_uint>(cl, device, CL_DEVICE_MAX_WORK_ITEM_DIMENSIONS);
  std::vector<std::size_t> edges(std::max<cl_uint>(dimensions, 3), 1);
  cl.get_device_info(device, CL_DEVICE_MAX_WORK_ITEM_SIZES, dimensions * sizeof(std::size_t), edges.data(), nullptr);
  const auto unified = number_of<cl_bool>(cl, device, CL_DEVICE_HOST_UNIFIED_MEMORY) == CL_TRUE;
  const auto sharing = number_of<cl_device_svm_capabilities>(cl, device, CL_DEVICE_SVM_CAPABILITIES);
  const bool full = text_of(cl.get_device_info, device, CL_DEVICE_PROFILE) == "FULL_PROFILE";

  FoundDevice found;
  found.library = &cl;
  found.platform = platform;
  found.device = device;
  found.version = fmt::format("{}; {}", text_of(cl.get_platform_info, platform, CL_PLATFORM_VERSION),
                              text_of(cl.get_device_info, device, CL_DEVICE_VERSION));
  std::copy_n(edges.begin(), 3, found.block_edges.begin());
  found.command_buffers = can_record(cl, platform, device, extensions);
  found.build_threads = build_threads(text_of(cl.get_platform_info, platform, CL_PLATFORM_VENDOR));
  found.info = {
      .api = DeviceApi::opencl,
      .name = text_of(cl.get_device_info, device, CL_DEVICE_NAME),
      .driver = fmt::format("{} {}", text_of(cl.get_platform_info, platform, CL_PLATFORM_NAME), driver),
      .kind = kind_of(number_of<cl_device_type>(cl, device, CL_DEVICE_TYPE), unified),
      .memory_bytes = number_of<cl_ulong>(cl, device, CL_DEVICE_GLOBAL_MEM_SIZE),
      .most_allocation_bytes = number_of<cl_ulong>(cl, device, CL_DEVICE_MAX_MEM_ALLOC_SIZE),
      .most_buffer_bytes = number_of<cl_ulong>(cl, device, CL_DEVICE_MAX_MEM_ALLOC_SIZE),
      // The driver's number is in bits.
      .alignment =
          std::max<std::uint64_t>(256, number_of<cl_uint>(cl, device, CL_DEVICE_MEM_BASE_ADDR_ALIGN, 1024) / 8),
      .block_threads = static_cast<int>(number_of<std::size_t>(cl, device, CL_DEVICE_MAX_WORK_GROUP_SIZE)),
      .shared_bytes = static_cast<int>(number_of<cl_ulong>(cl, device, CL_DEVICE_LOCAL_MEM_SIZE)),
      .f16 = has_extension(extensions, "cl_khr_fp16"),
      .f64 = has_extension(extensions, "cl_khr_fp64"),
      .int8 = true,
      .int16 = true,
      .int64 = full || has_extension(extensions, "cles_khr_int64"),
  };
  // A discrete device may offer this too, over its bus: too slow for what kernels work on.
  found.shares_memory = cl.svm_alloc && cl.svm_free && (sharing & CL_DEVICE_SVM_FINE_GRAIN_BUFFER) != 0 &&
                        (unified || found.info.kind == DeviceInfo::Kind::cpu);
  return found;
}

/// Why our kernels cannot run there; empty if they can.
std::string obstacle(const Library& cl, cl_device_id device) {
  const std::string version = text_of(cl.get_device_info, device, CL_DEVICE_VERSION);
  if (number_of<cl_bool>(cl, device, CL_DEVICE_AVAILABLE) != CL_TRUE) return "it is not available";
  if (version_number(version) < 12) return fmt::format("it offers '{}', and 1.2 is needed", version);
  if (number_of<cl_bool>(cl, device, CL_DEVICE_COMPILER_AVAILABLE) != CL_TRUE) return "its driver has no compiler";
  return {};
}

}  // namespace

FoundDevices find_devices() {
  FoundDevices found;
  const Library* cl = find_library(found.reason);
  if (!cl) return found;
  cl_uint count = 0;
  if (const cl_int status = cl->get_platform_ids(0, nullptr, &count); status != CL_SUCCESS || count == 0) {
    found.reason = fmt::format(
        "the OpenCL loader finds no driver{}; install the device's (Debian: pocl-opencl-icd for the processor, "
        "nvidia-opencl-icd, intel-opencl-icd), which puts an .icd file into /etc/OpenCL/vendors",
        status == CL_SUCCESS ? "" : ", " + status_name(status));
    return found;
  }
  std::vector<cl_platform_id> platforms(count);
  cl->get_platform_ids(count, platforms.data(), nullptr);
  std::string left_out;
  for (const cl_platform_id platform : platforms) {
    if (cl->get_device_ids(platform, CL_DEVICE_TYPE_ALL, 0, nullptr, &count) != CL_SUCCESS || count == 0) {
      left_out += fmt::format("\n  {}: no device", text_of(cl->get_platform_info, platform, CL_PLATFORM_NAME));
      continue;
    }
    std::vector<cl_device_id> devices(count);
    cl->get_device_ids(platform, CL_DEVICE_TYPE_ALL, count, devices.data(), nullptr);
    for (const cl_device_id device : devices) {
      if (const std::string why = obstacle(*cl, device); !why.empty()) {
        left_out += fmt::format("\n  {}: {}", text_of(cl->get_device_info, device, CL_DEVICE_NAME), why);
        continue;
      }
      found.devices.push_back(describe(*cl, platform, device));
      found.devices.back().info.index = static_cast<int>(found.devices.size()) - 1;
    }
  }
  if (found.devices.empty()) found.reason = "the OpenCL drivers here have no device that can be used:" + left_out;
  return found;
}

}  // namespace heddle::runtime::gpu::opencl
