#include "runtime/gpu/device_module.hpp"

#include <algorithm>
#include <exception>
#include <mutex>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/cache_directory.hpp"
#include "base/error.hpp"
#include "runtime/gpu/build_threads.hpp"
#include "runtime/log.hpp"

namespace heddle::runtime::gpu {
namespace {

/// The value whose memory a value is.
const plan::Value& root_of(const plan::Function& function, int v) {
  const plan::Value* value = &function.values[static_cast<std::size_t>(v)];
  while (value->storage == plan::Storage::alias) value = &function.values[static_cast<std::size_t>(value->of)];
  return *value;
}

/// Calls f(value index) for every buffer of every step on the device.
template <class F>
void for_device_buffers(const plan::Function& function, F&& f) {
  for (const plan::Step& step : function.steps) {
    if (!step.on_device) continue;
    for (const auto* list : {&step.inputs, &step.outputs})
      for (const plan::Argument& argument : *list) f(argument.value);
  }
}

bool has_type(const DeviceInfo& device, DType type) {
  switch (type) {
    case DType::f16: return device.api == DeviceApi::opencl ? device.int16 : device.f16;  // OpenCL C sees its bits
    case DType::f64: return device.f64;
    case DType::i8:
    case DType::u8:
    case DType::boolean: return device.int8;
    case DType::i16:
    case DType::u16:
    case DType::bf16: return device.int16;  // bf16 is widened from its bits
    case DType::i64:
    case DType::u64: return device.int64;
    case DType::f32:
    case DType::i32:
    case DType::u32:
    case DType::string: break;
  }
  return true;
}

}  // namespace

std::string obstacle(const plan::Module& module, const DeviceInfo& device) {
  std::set<std::string> types;
  for (const plan::Function& function : module.functions)
    for_device_buffers(function, [&](int v) {
      const DType type = function.values[static_cast<std::size_t>(v)].dtype;
      if (!has_type(device, type)) types.emplace(to_string(type));
    });
  if (!types.empty()) return fmt::format("needs {}, which {} does not have", fmt::join(types, ", "), device.name);
  for (const plan::DeviceKernel& kernel : module.device_kernels) {
    std::int64_t shared = 0;
    for (const auto& array : kernel.shared)
      if (array.constant == 0) shared += array.elements * array.element_bytes;
    if (shared > device.shared_bytes)
      return fmt::format("needs {} bytes of shared memory a block, and {} has {}", shared, device.name,
                         device.shared_bytes);
  }
  return "";
}

DeviceModule::DeviceModule(std::shared_ptr<Device> device, const plan::Module& module,
                           std::span<const std::byte> weights,
                           const std::function<std::string(const std::string& path)>& read)
    : device_(std::move(device)) {
  build(module, read);
  copy_constants(module.functions.front(), weights);
}

void DeviceModule::build(const plan::Module& module, const std::function<std::string(const std::string& path)>& read) {
  std::map<std::string, std::string> files;
  for (const plan::DeviceKernel& kernel : module.device_kernels)
    if (!files.contains(kernel.file)) files.emplace(kernel.file, read(kernel.file));
  const std::string cache = (cache_directory() / "devices").string();

  // Drivers take from milliseconds to seconds for a kernel, each on one processor.
  std::mutex mutex;
  std::size_t next = 0;
  std::exception_ptr failure;
  const auto work = [&] {
    while (true) {
      const plan::DeviceKernel* kernel = nullptr;
      {
        const std::lock_guard lock(mutex);
        if (failure || next == module.device_kernels.size()) return;
        kernel = &module.device_kernels[next++];
      }
      try {
        log_debug("building '{}' of kernel '{}' ({}) for {}", kernel->entry, kernel->kernel, kernel->file,
                  device_->info().name);
        auto code = device_->build(*kernel, files.at(kernel->file), cache);
        const std::lock_guard lock(mutex);
        entries_.add(*kernel, std::move(code));
      } catch (const Error& error) {
        const std::lock_guard lock(mutex);
        if (!failure)
          failure = std::make_exception_ptr(error.within(
              fmt::format("'{}' of kernel '{}', for {}", kernel->entry, kernel->kernel, device_->info().name)));
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
      }
    }
  };
  run_build_threads(module.device_kernels.size(), device_->most_build_threads(), work);
  if (failure) std::rethrow_exception(failure);
}

void DeviceModule::copy_constants(const plan::Function& function, std::span<const std::byte> weights) {
  const DeviceInfo& info = device_->info();
  const auto aligned = [&](std::uint64_t n) { return (n + info.alignment - 1) / info.alignment * info.alignment; };
  std::map<std::uint64_t, std::uint64_t> bytes;  // by offset in the file; the longest of the values there
  for_device_buffers(function, [&](int v) {
    const plan::Value& value = root_of(function, v);
    if (value.storage != plan::Storage::constant) return;
    const std::uint64_t size = static_cast<std::uint64_t>(*value.elements.constant()) * size_of(value.dtype);
    if (aligned(size) > info.most_allocation_bytes)
      throw Error(ErrorCode::unsupported,
                  fmt::format("constant '{}' has {} bytes, and {} takes at most {} in one piece", value.name, size,
                              info.name, info.most_allocation_bytes));
    std::uint64_t& longest = bytes[value.file_offset];
    longest = std::max(longest, size);
  });
  std::vector<std::uint64_t> filled;
  for (const auto& [offset, size] : bytes) {
    if (filled.empty() || filled.back() + aligned(size) > info.most_allocation_bytes) filled.push_back(0);
    constants_[offset] = {static_cast<std::uint32_t>(filled.size() - 1), filled.back()};
    // At least something, since a buffer of nothing cannot be bound.
    filled.back() += aligned(std::max<std::uint64_t>(size, 1));
  }
  for (const std::uint64_t size : filled) memories_.push_back(device_->allocate(size));
  for (const auto& [offset, size] : bytes) {
    const Address at = constants_.at(offset);
    if (size > 0) device_->write(*memories_[at.memory], at.offset, weights.data() + offset, size);
  }
}

}  // namespace heddle::runtime::gpu
