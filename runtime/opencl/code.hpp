#pragma once
#include <map>
#include <string>

#include "runtime/opencl/context.hpp"

namespace heddle::runtime::gpu::opencl {

/// An entry of a program that the driver built.
class OpenClCode final : public Code {
 public:
  /// Throws Error{unsupported} if the program has no such entry.
  OpenClCode(const Context& context, std::shared_ptr<const Handle<cl_program>> program, std::string entry);

  const std::string& entry() const { return entry_; }
  /// A kernel object of its own, whose arguments the caller sets.
  Handle<cl_kernel> make_kernel(const Context& context) const;

  std::size_t block_threads() const { return block_threads_; }  ///< at most, for this entry's registers
  std::uint64_t shared_bytes() const { return shared_bytes_; }  ///< of arrays of fixed size
  cl_uint arguments() const { return arguments_; }

 private:
  std::shared_ptr<const Handle<cl_program>> program_;
  std::string entry_;
  std::size_t block_threads_ = 0;
  std::uint64_t shared_bytes_ = 0;
  cl_uint arguments_ = 0;
};

/// The programs built for a device: a source that several entries share is built once, for as long as one of them
/// lives.
class ProgramStore {
 public:
  explicit ProgramStore(std::shared_ptr<Context> context) : context_(std::move(context)) {}

  /// Throws Error{unsupported} with the driver's log.
  std::shared_ptr<const Handle<cl_program>> get(const plan::DeviceKernel& kernel, const std::string& source,
                                                const std::string& cache);

 private:
  struct Slot {
    std::mutex mutex;  // two threads build different programs at the same time, and each program once
    std::weak_ptr<const Handle<cl_program>> program;
  };

  std::shared_ptr<Context> context_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Slot>> slots_;
};

}  // namespace heddle::runtime::gpu::opencl
