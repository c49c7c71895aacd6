#include "generators/kernel.hpp"

#include <mutex>
#include <sstream>
#include <unordered_map>

#include <fmt/format.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "generators/fingerprint.hpp"
#include "generators/lower.hpp"
#include "targets/cpu/fetch_ahead.hpp"
#include "targets/cpu/tile_products.hpp"
#include "targets/cpu/whole_accumulators.hpp"
#include "targets/gpu/passes.hpp"

namespace Halide::Internal {
// Exported by the library that is pinned here, but declared in none of its installed headers; the public form prints to
// stderr.
std::string print_loop_nest(const std::vector<Function>& output_funcs);
}  // namespace Halide::Internal

namespace heddle {
namespace {

/// Raised when the code for equal pipelines changes for a reason that is in this folder: other flags, other names.
constexpr int generator_version = 2;

/// What the code depends on beside the pipeline.
std::string machine_key(const Target& target) {
  if (!target.is_gpu())
    return fmt::format("fetches {} of {} {}\ntiles {}\naccumulators {}\n", targets::fetch_ahead_version,
                       target.machine.l1_bytes, target.machine.l2_bytes,
                       target.machine.matrix_tiles ? targets::tile_products_version : 0,
                       targets::whole_accumulators_version);
  const Gpu& gpu = *target.machine.gpu;
  return fmt::format("device {} {} passes {} code {} block {} shared {} subgroup {} processors {} edge {}\n",
                     to_string(gpu.api), target.name, targets::gpu_passes_version, targets::device_code_version,
                     gpu.block_threads, gpu.shared_bytes, gpu.subgroup, gpu.processors, gpu.tile_edge);
}

std::string compute_key(const KernelRequest& request) {
  std::string form;
  with_halide(request, [&] {
    form = canonical_form(request.workload->instantiate(request.implementation, request.schedule_file));
  });
  return sha256(fmt::format("generator {}\nHalide {}.{}.{}\ntarget {} {}\n{}asserts {}\n{}\n{}\n{}", generator_version,
                            HALIDE_VERSION_MAJOR, HALIDE_VERSION_MINOR, HALIDE_VERSION_PATCH, request.target.name,
                            halide_target(request).to_string(), machine_key(request.target), request.asserts,
                            request.workload->text(), request.implementation.print(), form));
}

/// The request's code: what runs on the processor, and what is sent to a device.
struct Code {
  Halide::Module host;
  targets::DeviceCode device;
};

Code lower_apart(const KernelRequest& request) {
  const std::string symbol = kernel_symbol(request);
  Code code{lower(request, symbol), {}};
  if (request.target.is_gpu())
    code.device = targets::extract_device_code(code.host, request.target.machine.gpu->api, symbol);
  return code;
}

std::string device_text(const KernelRequest& request, DeviceApi api) {
  if (!request.target.is_gpu() || request.target.machine.gpu->api != api)
    throw Error(ErrorCode::invalid_argument, fmt::format("a kernel for {} has no code for {}: compile with --target {}",
                                                         request.target.name, to_string(api), to_string(api)));
  const targets::DeviceCode code = lower_apart(request).device;
  std::string text = code.source;
  for (const auto& entry : code.entries)
    if (!entry.code.empty())
      text += fmt::format("; {} {}, buffers {}\n{}\n", kernel_symbol(request), entry.name, entry.access,
                          targets::disassemble(entry.code));
  return text;
}

/// Instructions and labels without the directives and constants around them.
std::string trim_assembly(const std::string& text) {
  std::istringstream lines(text);
  std::string trimmed;
  for (std::string line; std::getline(lines, line);) {
    const std::size_t start = line.find_first_not_of(" \t");
    if (start == std::string::npos) continue;
    const std::string_view body = std::string_view(line).substr(start);
    const bool label = start == 0 && body.find(':') != body.npos;
    const bool constant = body.starts_with(".LCPI") || body.starts_with(".Lfunc_");
    if (label ? constant : body.starts_with(".") || body.starts_with("#") || body.starts_with("//")) continue;
    trimmed += line;
    trimmed += '\n';
  }
  return trimmed;
}

}  // namespace

std::string kernel_key(const KernelRequest& request) {
  // A compiler asks for the same kernel's key many times: for its symbol, for the cache, for every layer that is equal.
  // Within a process an operator's code cannot change, so texts decide; the operators' addresses tell apart two of one
  // name from different modules.
  static std::mutex mutex;
  static std::unordered_map<std::string, std::string> known;
  std::string operators;
  for (const auto& node : request.workload->composition().nodes)
    operators += fmt::format("{} ", static_cast<const void*>(node.op));
  const std::string question =
      fmt::format("{}\n{}\n{}\n{}\n{}\n{}", operators, request.workload->text(), request.implementation.print(),
                  halide_target(request).to_string(), request.target.name, machine_key(request.target));
  {
    const std::lock_guard lock(mutex);
    const auto found = known.find(question);
    if (found != known.end()) return found->second;
  }
  std::string key = compute_key(request);
  const std::lock_guard lock(mutex);
  if (known.size() > 10000) known.clear();  // a search asks for ever new ones
  known.emplace(question, key);
  return key;
}

std::string kernel_symbol(const KernelRequest& request) { return "k_" + kernel_key(request).substr(0, 16); }

CompiledKernel compile_kernel(const KernelRequest& request) {
  CompiledKernel kernel;
  with_halide(request, [&] {
    Code code = lower_apart(request);
    const Halide::Buffer<std::uint8_t> bytes = code.host.compile_to_buffer();
    kernel.object.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size_in_bytes());
    kernel.device = std::move(code.device);
  });
  return kernel;
}

std::string show_kernel(const KernelRequest& request, KernelStage stage) {
  std::string text;
  with_halide(request, [&] {
    if (stage == KernelStage::loops) {
      const Pipeline pipeline = request.workload->instantiate(request.implementation, request.schedule_file);
      std::vector<Halide::Internal::Function> outputs;
      for (const auto& f : pipeline.outputs) outputs.push_back(f.function());
      text = Halide::Internal::print_loop_nest(outputs);
      return;
    }
    if (stage == KernelStage::opencl || stage == KernelStage::spirv) {
      text = device_text(request, stage == KernelStage::opencl ? DeviceApi::opencl : DeviceApi::vulkan);
      return;
    }
    const Halide::Module module = lower_apart(request).host;
    if (stage == KernelStage::stmt) {
      std::ostringstream out;
      out << module;
      text = out.str();
    } else if (stage == KernelStage::llvm) {
      text = compile_to_text(module, Halide::OutputFileType::llvm_assembly);
    } else {
      text = trim_assembly(compile_to_text(module, Halide::OutputFileType::assembly));
    }
  });
  return text;
}

}  // namespace heddle
