#include "runtime/opencl/code.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "base/file_cache.hpp"
#include "runtime/log.hpp"

namespace heddle::runtime::gpu::opencl {
namespace {

// - CL1.2 on every device: from 2.0 on blocks may be cut off at the grid's edge and pointers may be of any kind of
//   memory, and compilers make slower code to allow for both, which Halide's code never uses.
// - No -cl-fast-relaxed-math nor any part of it: operators whose special values are exact test for NaN and infinity.
// - No -cl-mad-enable: Halide's code turns FP_CONTRACT on, so compilers fuse multiply and add already; what the option
//   adds is leave to use a `mad` that rounds worse.
// - No -cl-denorms-are-zero: where it is faster at all (division, square root), results would differ from the host's.
constexpr const char* build_options = "-cl-std=CL1.2";

/// Logs of generated code repeat themselves for pages.
constexpr std::size_t longest_log = 8000;

FileCache binaries_in(const std::string& cache) {
  // A damaged binary can crash a driver: the checksum comes before it is asked.
  return {cache, {.extension = ".clbin", .format = "opencl binary 2"}, std::uint64_t{1} << 29};
}

/// Empty without an intact entry: the program is built from its source then.
std::string load_binary(const std::string& cache, const std::string& key) {
  if (cache.empty()) return {};
  try {
    return binaries_in(cache).load(key).value_or("");
  } catch (const Error& error) {
    log_debug("{}; building its program anew", error.what());
    return {};
  }
}

void store_binary(const std::string& cache, const std::string& key, std::string_view binary) {
  if (binary.empty()) return;
  try {
    binaries_in(cache).store(key, binary);
  } catch (const Error& error) {
    // A directory that cannot be written costs time at the next start and nothing else.
    log_debug("a program of the driver is not kept: {}", error.what());
  }
}

std::string build_log(const Context& context, cl_program program) {
  const Library& cl = context.cl();
  std::size_t bytes = 0;
  cl.get_program_build_info(program, context.found().device, CL_PROGRAM_BUILD_LOG, 0, nullptr, &bytes);
  std::string log(bytes, '\0');
  cl.get_program_build_info(program, context.found().device, CL_PROGRAM_BUILD_LOG, bytes, log.data(), nullptr);
  log.resize(std::min(log.find('\0'), log.size()));
  if (log.size() > longest_log) log = log.substr(0, longest_log) + "\n...";
  return log.empty() ? "(the driver gave no log)" : log;
}

Handle<cl_program> build_source(Context& context, const plan::DeviceKernel& kernel, const std::string& source) {
  const Library& cl = context.cl();
  const char* text = source.c_str();
  const std::size_t length = source.size();
  cl_int status = CL_SUCCESS;
  Handle<cl_program> program = cl.own(cl.create_program_with_source(context.get(), 1, &text, &length, &status));
  const std::string doing = fmt::format("compile kernel '{}'", kernel.kernel);
  context.check(status, doing);
  status = cl.build_program(program.get(), 1, &context.found().device, build_options, nullptr, nullptr);
  if (status == CL_SUCCESS) return program;
  if (status == CL_OUT_OF_HOST_MEMORY || means_lost(status)) context.check(status, doing);
  throw Error(ErrorCode::unsupported,
              fmt::format("the driver {} of device '{}' rejects the OpenCL C of kernel '{}' ({}): {}\n{}",
                          context.info().driver, context.info().name, kernel.kernel, kernel.file, status_name(status),
                          build_log(context, program.get())));
}

/// The driver's binary; empty if it does not give one.
std::string binary_of(const Context& context, cl_program program) {
  const Library& cl = context.cl();
  std::size_t bytes = 0;
  if (cl.get_program_info(program, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, nullptr) != CL_SUCCESS) return {};
  std::string binary(bytes, '\0');
  char* data = binary.data();
  if (cl.get_program_info(program, CL_PROGRAM_BINARIES, sizeof data, &data, nullptr) != CL_SUCCESS) return {};
  return binary;
}

/// Null if the driver does not take it, as after an update that kept its version.
Handle<cl_program> build_binary(const Context& context, std::string_view binary) {
  const Library& cl = context.cl();
  const auto* data = reinterpret_cast<const unsigned char*>(binary.data());
  const std::size_t bytes = binary.size();
  cl_int accepted = CL_SUCCESS, status = CL_SUCCESS;
  Handle<cl_program> program = cl.own(
      cl.create_program_with_binary(context.get(), 1, &context.found().device, &bytes, &data, &accepted, &status));
  if (status != CL_SUCCESS || accepted != CL_SUCCESS) return nullptr;
  if (cl.build_program(program.get(), 1, &context.found().device, build_options, nullptr, nullptr) != CL_SUCCESS)
    return nullptr;
  return program;
}

std::string entries_of(const Context& context, cl_program program) {
  const Library& cl = context.cl();
  std::size_t bytes = 0;
  if (cl.get_program_info(program, CL_PROGRAM_KERNEL_NAMES, 0, nullptr, &bytes) != CL_SUCCESS) return {};
  std::string names(bytes, '\0');
  cl.get_program_info(program, CL_PROGRAM_KERNEL_NAMES, bytes, names.data(), nullptr);
  names.resize(std::min(names.find('\0'), names.size()));
  return names;
}

}  // namespace

OpenClCode::OpenClCode(const Context& context, std::shared_ptr<const Handle<cl_program>> program, std::string entry)
    : program_(std::move(program)), entry_(std::move(entry)) {
  const Library& cl = context.cl();
  const Handle<cl_kernel> kernel = make_kernel(context);
  const std::string doing = fmt::format("ask for the limits of kernel '{}'", entry_);
  const auto ask = [&](cl_kernel_work_group_info property, auto& value) {
    check(cl.get_kernel_work_group_info(kernel.get(), context.found().device, property, sizeof value, &value, nullptr),
          doing);
  };
  cl_ulong shared = 0;
  ask(CL_KERNEL_WORK_GROUP_SIZE, block_threads_);
  ask(CL_KERNEL_LOCAL_MEM_SIZE, shared);
  shared_bytes_ = shared;
  check(cl.get_kernel_info(kernel.get(), CL_KERNEL_NUM_ARGS, sizeof arguments_, &arguments_, nullptr), doing);
}

Handle<cl_kernel> OpenClCode::make_kernel(const Context& context) const {
  cl_int status = CL_SUCCESS;
  Handle<cl_kernel> kernel = context.cl().own(context.cl().create_kernel(program_->get(), entry_.c_str(), &status));
  if (status == CL_INVALID_KERNEL_NAME)
    throw Error(ErrorCode::unsupported, fmt::format("the OpenCL C has no entry '{}'; it has: {}", entry_,
                                                    entries_of(context, program_->get())));
  check(status, fmt::format("make kernel '{}'", entry_));
  return kernel;
}

std::shared_ptr<const Handle<cl_program>> ProgramStore::get(const plan::DeviceKernel& kernel, const std::string& source,
                                                            const std::string& cache) {
  context_->check_alive(fmt::format("compile kernel '{}'", kernel.kernel));
  // The lengths keep two lists of parts apart that join to the same text.
  std::string key;
  for (const std::string_view part :
       {std::string_view(build_options), std::string_view(source), std::string_view(context_->info().name),
        std::string_view(context_->info().driver), std::string_view(context_->found().version)})
    key += fmt::format("{} {}\n", part.size(), part);
  key = sha256(key);

  std::shared_ptr<Slot> slot;
  {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<Slot>& known = slots_[key];
    if (!known) known = std::make_shared<Slot>();
    slot = known;
  }
  const std::lock_guard lock(slot->mutex);
  if (auto program = slot->program.lock()) return program;

  Handle<cl_program> program;
  if (const std::string binary = load_binary(cache, key); !binary.empty()) program = build_binary(*context_, binary);
  if (!program) {
    program = build_source(*context_, kernel, source);
    if (!cache.empty()) store_binary(cache, key, binary_of(*context_, program.get()));
  }
  auto shared = std::make_shared<const Handle<cl_program>>(std::move(program));
  slot->program = shared;
  return shared;
}

}  // namespace heddle::runtime::gpu::opencl
