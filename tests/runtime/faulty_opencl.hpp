#pragma once
#include <cstdlib>
#include <optional>
#include <string>

namespace heddle::test {

/// An environment variable's value while the object lives; nullptr: not set.
class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    set(value);
  }
  ~Environment() { set(old_ ? old_->c_str() : nullptr); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  void set(const char* value) const { value ? ::setenv(name_, value, 1) : ::unsetenv(name_); }

  const char* name_;
  std::optional<std::string> old_;
};

/// While the object lives, the OpenCL loader is data/faulty_opencl.c: the system's, except for one fault.
class FaultyOpenCl {
 public:
  enum Fault : int {
    works,
    no_platform,
    old_version,       ///< the device offers OpenCL 1.1
    two_devices,       ///< the platform names its device twice
    discrete,          ///< the device says that it is a discrete GPU
    small_block,       ///< kernels take blocks of 16 threads
    no_memory,         ///< buffers cannot be made
    refused_launch,    ///< the queue takes no kernel
    lost_in_launch,    ///< the queue has become invalid
    failed_execution,  ///< commands fail when they run
    rejected_binary,   ///< binaries are of another driver
    nvidia,            ///< the platform says that it is NVIDIA's
  };

  explicit FaultyOpenCl(Fault fault);
  ~FaultyOpenCl();
  FaultyOpenCl(const FaultyOpenCl&) = delete;
  FaultyOpenCl& operator=(const FaultyOpenCl&) = delete;

  void set(Fault fault) { *fault_ = fault; }
  int programs_from_source() const { return *sources_; }  ///< since the process began

 private:
  std::optional<Environment> environment_;
  int* fault_ = nullptr;
  int* sources_ = nullptr;
};

}  // namespace heddle::test
