#include "tests/runtime/device_package.hpp"

#include <cstring>

#include "base/error.hpp"
#include "runtime/cpu.hpp"
#include "tests/runtime/sample_package.hpp"

namespace heddle::test {
namespace {

using plan::StepKind;
using plan::Storage;
using runtime::gpu::Launch;

const std::string& device_module() {
  static const std::string bytes = [] {
    const TemporaryDirectory directory;
    const auto output = directory.path() / "device.so";
    const auto result = run_command(
        compile_module_command(std::string(HEDDLE_SOURCE_DIR) + "/tests/runtime/data/device_kernels.c", output));
    if (result.status != 0) throw Error(ErrorCode::internal, "compiling the device kernels failed:\n" + result.output);
    return read_file(output);
  }();
  return bytes;
}

plan::Step step(const plan::Function& main, StepKind kind, const std::string& name, const std::vector<int>& inputs,
                const std::vector<int>& outputs) {
  plan::Step result;
  result.kind = kind;
  result.name = name;
  result.label = name;
  for (const int v : inputs) result.inputs.push_back(dense_argument(main, v));
  for (const int v : outputs) result.outputs.push_back(dense_argument(main, v));
  if (kind == StepKind::kernel) result.symbols = {"W"};
  result.on_device = kind == StepKind::kernel && name != "k_scale";
  return result;
}

template <class T>
T scalar(const Launch& launch, std::size_t argument) {
  T value{};
  std::memcpy(&value, launch.arguments[argument].scalar.data(), sizeof(value));
  return value;
}

}  // namespace

plan::Package device_package() {
  const Extent w = Extent::symbol("W");
  plan::Function main;
  main.name = "main";
  main.values = {dense_value("x", DType::f32, {2, w}, Storage::input),
                 dense_value("a", DType::f32, {2, w}, Storage::arena),
                 dense_value("b", DType::f32, {2, w}, Storage::arena),
                 dense_value("factor", DType::f32, {2}, Storage::constant),
                 dense_value("out", DType::f32, {2, w}, Storage::output),
                 dense_value("rows", DType::f32, {2, w}, Storage::output)};
  main.values[3].file_offset = 64;
  main.inputs = {0};
  main.outputs = {4, 5};
  main.steps = {
      step(main, StepKind::kernel, "k_add", {0}, {1}),      step(main, StepKind::download, "a", {1}, {}),
      step(main, StepKind::kernel, "k_scale", {1, 3}, {2}), step(main, StepKind::upload, "b", {2}, {}),
      step(main, StepKind::kernel, "k_chain", {2}, {4}),    step(main, StepKind::kernel, "k_rows", {1, 3}, {5})};

  plan::Module module;
  module.target = "opencl";
  module.file = "opencl/opencl.so";
  module.weights = "opencl/opencl.weights";
  module.architecture = runtime::cpu_architecture();
  module.device = DeviceApi::opencl;
  module.functions = {main};
  for (const char* name : {"k_add", "k_chain", "k_rows", "k_scale"}) module.kernels.push_back({.name = name});
  module.device_kernels = {{.kernel = "k_add", .entry = "add", .file = "opencl/kernels.cl", .access = "rw"},
                           {.kernel = "k_chain", .entry = "add", .file = "opencl/kernels.cl", .access = "rw"},
                           {.kernel = "k_chain", .entry = "multiply", .file = "opencl/kernels.cl", .access = "rw"},
                           {.kernel = "k_rows", .entry = "rows", .file = "opencl/kernels.cl", .access = "rrw"}};

  plan::Package package;
  package.model = "device sample";
  package.symbols = {{"W", 0, 100000}};
  package.modules = {module};
  package.files = {{"opencl/opencl.so", "", 0}, {"opencl/opencl.weights", "", 0}, {"opencl/kernels.cl", "", 0}};
  package.provenance = "{}";
  return package;
}

DeviceReference device_reference(const std::vector<float>& x) {
  DeviceReference result{x, x, x};
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float factor = i < x.size() / 2 ? 3.0F : 5.0F;
    result.a[i] = x[i] + 1;
    result.rows[i] = result.a[i] * factor;
    result.out[i] = (result.rows[i] + 1) * 2;
  }
  return result;
}

void write_device_package(const plan::Package& package, const std::filesystem::path& directory,
                          const std::string& device_code) {
  plan::Package complete = package;
  for (plan::File& file : complete.files) {
    const std::string bytes = file.path.ends_with("opencl.so") ? device_module()
                              : file.path.ends_with(".so")     ? sample_module()
                              : file.path.ends_with(".cl")     ? device_code
                                                               : sample_weights();
    file.bytes = bytes.size();
    file.sha256 = plan::checksum(bytes);
    write_file(directory / file.path, bytes);
  }
  write_file(directory / "manifest.json", plan::to_json(complete));
}

std::shared_ptr<FakeDevice> fake_device(const runtime::gpu::DeviceInfo& info) {
  auto device = std::make_shared<FakeDevice>(info);
  const auto elementwise = [](auto f) {
    return [f](std::span<std::byte* const> buffers, const Launch& launch) {
      const auto* in = reinterpret_cast<const float*>(buffers[0]);
      auto* out = reinterpret_cast<float*>(buffers[1]);
      for (int i = 0; i < scalar<int>(launch, 2); ++i) out[i] = f(in[i], scalar<float>(launch, 3));
    };
  };
  device->entries["add"] = elementwise([](float a, float b) { return a + b; });
  device->entries["multiply"] = elementwise([](float a, float b) { return a * b; });
  device->entries["rows"] = [](std::span<std::byte* const> buffers, const Launch& launch) {
    const auto* in = reinterpret_cast<const float*>(buffers[0]);
    const auto* factor = reinterpret_cast<const float*>(buffers[1]);
    auto* out = reinterpret_cast<float*>(buffers[2]);
    const int width = scalar<int>(launch, 3);
    for (int i = 0; i < 2 * width; ++i) out[i] = in[i] * factor[i / width];
  };
  return device;
}

}  // namespace heddle::test
