#pragma once
#include <atomic>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/file_cache.hpp"
#include "dsl/schedule.hpp"
#include "dsl/workload.hpp"
#include "targets/gpu/device_code.hpp"
#include "targets/target.hpp"

namespace heddle {

/// Everything that decides a kernel's bytes.
struct KernelRequest {
  const Workload* workload = nullptr;
  Implementation implementation;
  Target target;
  bool asserts = false;  ///< keep Halide's own checks: bounds, strides, alignment. Development and tests
  std::string schedule_file = "schedule";  ///< for error messages
};

/// Content key: hash of the pipeline's canonical form (definitions and schedule with names replaced), so that a change
/// of an operator's algorithm or of what a directive does makes a new key, and of the workload's and the
/// implementation's texts, the target, the flags and the Halide version. Instantiates the pipeline: throws what
/// compile_kernel would throw for a schedule that does not fit.
std::string kernel_key(const KernelRequest& request);
/// "k_" and the key's first 16 digits.
std::string kernel_symbol(const KernelRequest& request);

/// What a request compiles to.
struct CompiledKernel {
  std::string object;          ///< ELF, exports `<symbol>_argv`
  targets::DeviceCode device;  ///< of targets for devices; without entries elsewhere

  bool operator==(const CompiledKernel&) const = default;
};

/// Throws Error with the schedule's position, Halide's reason, or what the device's language cannot say.
CompiledKernel compile_kernel(const KernelRequest& request);

/// What `heddle show` prints of one kernel. Of a kernel for a device, stmt, llvm and assembly are the host code that
/// launches it; opencl and spirv throw Error{invalid_argument} for targets that have no such code.
enum class KernelStage { loops, stmt, llvm, assembly, opencl, spirv };
std::string show_kernel(const KernelRequest& request, KernelStage stage);

/// Links objects and the shims into a shared object's bytes, for the target's architecture.
std::string link_module(const std::vector<std::string>& objects, const Target& target);

/// Compiled kernels on disk, by content. A damaged entry is compiled anew.
class KernelCache {
 public:
  /// HEDDLE_CACHE, or $XDG_CACHE_HOME/heddle, or ~/.cache/heddle.
  static std::filesystem::path default_directory();

  explicit KernelCache(std::filesystem::path directory, std::uint64_t most_bytes = std::uint64_t{2} << 30);

  /// The request's kernel, compiling it if it is not there. A cache that cannot be written is not an error: it warns
  /// once and compiles.
  CompiledKernel get(const KernelRequest& request);

  int hits() const { return hits_; }
  int misses() const { return misses_; }

 private:
  std::optional<CompiledKernel> find(const std::string& key) const;

  FileCache files_;
  std::atomic<int> hits_ = 0, misses_ = 0;
  std::atomic<bool> warned_ = false;
};

/// Compiles requests on `jobs` threads, each distinct kernel once; returns kernels in the requests' order.
/// `progress(done, total)` is called from one thread at a time.
std::vector<CompiledKernel> compile_all(const std::vector<KernelRequest>& requests, KernelCache& cache, int jobs,
                                        const std::function<void(int, int)>& progress = {});

}  // namespace heddle
