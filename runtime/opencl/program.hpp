#pragma once
#include <map>
#include <tuple>

#include "runtime/opencl/code.hpp"
#include "runtime/opencl/memory.hpp"

namespace heddle::runtime::gpu::opencl {

/// Commands with every kernel object, argument and sub-buffer made beforehand, so that submit only enqueues.
class OpenClProgram final : public Program {
 public:
  OpenClProgram(std::shared_ptr<Context> context, const Commands& commands);
  ~OpenClProgram() override;
  OpenClProgram(const OpenClProgram&) = delete;
  OpenClProgram& operator=(const OpenClProgram&) = delete;

  void submit() override;
  void wait() override;
  std::vector<Interval> intervals() const override;

 private:
  struct Transfer {
    cl_mem memory = nullptr;
    std::uint64_t offset = 0, bytes = 0;
    std::byte* host = nullptr;
  };
  struct Kernel {
    Handle<cl_kernel> object;
    std::array<std::size_t, 3> threads = {}, block = {};
    std::string entry;
    bool empty = false;  ///< a grid without blocks, which OpenCL 1.2 does not know
  };

  Kernel prepare(const Launch& launch);
  void check_limits(const Launch& launch, const OpenClCode& code) const;
  cl_mem sub_buffer(const Binding& binding);
  void record_command_buffer();
  cl_event enqueue_all(cl_command_queue queue);
  void enqueue_kernels(cl_command_queue queue, std::size_t& commands_left, cl_event* last);

  std::shared_ptr<Context> context_;
  bool timestamps_;
  std::map<std::tuple<const Memory*, std::uint64_t, std::uint64_t>, Handle<cl_mem>> sub_buffers_;
  std::vector<Transfer> uploads_, downloads_;
  std::vector<Kernel> kernels_;
  std::size_t launched_ = 0;  ///< kernels that are not empty
  CommandBuffers command_buffers_;
  Handle<cl_command_buffer_khr> command_buffer_;  ///< of all kernels; null: each is enqueued
  Handle<cl_event> pending_;                      ///< of the last command of the execution that nobody waited for
  std::vector<Handle<cl_event>> measured_;        ///< an event a kernel, of the latest execution
};

}  // namespace heddle::runtime::gpu::opencl
