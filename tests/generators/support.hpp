#pragma once
#include <map>
#include <string>
#include <vector>

#include "dsl/operator.hpp"
#include "dsl/workload.hpp"
#include "generators/kernel.hpp"
#include "runtime/kernel_call.hpp"

// Small operators whose every detail the tests here know, and a way to run their kernels.
namespace heddle::test {

/// out = acc + sin(acc), acc = a b: a reduction, an epilogue, and a call into the C library.
const Operator& product();
/// The same name, types and stages, but 2 acc + sin(acc): what product() is after its author edits it.
const Operator& edited_product();

/// f32; an extent is a number or a symbol, whose range is 1 to 4096.
Workload product_workload(const Extent& m, const Extent& k, const Extent& n, const Operator& op = product());

KernelRequest request(const Workload& workload, const std::string& implementation,
                      const Target& target = host_target());

/// A schedule for product() that parallelises, splits with a guard and keeps a register tile.
extern const char* const tiled;

/// A shared object that was linked by link_module, loaded with the runtime's own table.
class LoadedModule {
 public:
  explicit LoadedModule(const std::string& bytes);
  ~LoadedModule();
  LoadedModule(const LoadedModule&) = delete;
  LoadedModule& operator=(const LoadedModule&) = delete;

  /// Runs the request's kernel on logical inputs; packed operands are packed. Throws Error with the kernel's message.
  std::vector<Array> run(const KernelRequest& request, const std::vector<Array>& inputs) const;

 private:
  void* handle_ = nullptr;
};

/// Compiles, links, loads and runs.
std::vector<Array> compile_and_run(const KernelRequest& request, const std::vector<Array>& inputs);

/// Values in [-1, 1) that depend on the seed alone.
Array noise(const Shape& shape, unsigned seed);

/// Runs a command through the shell; returns its stdout, and its status in `status`.
std::string shell(const std::string& command, int* status = nullptr);

}  // namespace heddle::test
