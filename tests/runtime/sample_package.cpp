#include "tests/runtime/sample_package.hpp"

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstring>

#include <fmt/format.h>

#include "base/error.hpp"
#include "runtime/cpu.hpp"

namespace heddle::test {
namespace {

using plan::StepKind;
using plan::Storage;

plan::Argument argument(int value, std::vector<plan::Argument::Dimension> dimensions, const Extent& offset = 0) {
  return {value, std::move(dimensions), offset};
}

}  // namespace

plan::Value dense_value(const std::string& name, DType dtype, std::vector<Extent> shape, Storage storage) {
  plan::Value value;
  value.name = name;
  value.dtype = dtype;
  value.storage = storage;
  value.strides.resize(shape.size());
  Extent elements = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    value.strides[d] = elements;
    elements = elements * shape[d];
  }
  value.elements = elements;
  value.shape = std::move(shape);
  return value;
}

plan::Argument dense_argument(const plan::Function& function, int index) {
  plan::Argument result{index, {}, 0};
  if (index < 0) return result;
  const plan::Value& value = function.values[static_cast<std::size_t>(index)];
  for (std::size_t d = value.shape.size(); d-- > 0;) result.dimensions.push_back({0, value.shape[d], value.strides[d]});
  result.offset = value.offset;
  return result;
}

plan::Package sample_package() {
  const Extent w = Extent::symbol("W");
  plan::Function main;
  main.name = "main";
  main.values = {dense_value("x", DType::f32, {2, w}, Storage::input),
                 dense_value("padded", DType::f32, {2, w}, Storage::arena),
                 dense_value("y", DType::f32, {2, w}, Storage::arena),
                 dense_value("factor", DType::f32, {2}, Storage::constant),
                 dense_value("out", DType::f32, {2, w}, Storage::output),
                 dense_value("shape", DType::i64, {3}, Storage::output)};
  plan::Value& padded = main.values[1];
  padded.strides = {w + 2, 1};
  padded.border_before = {0, 1};
  padded.border_after = {0, 1};
  padded.border_value = -1;
  padded.offset = 1;
  padded.elements = 2 * (w + 2);
  main.values[2].origin = "model/y";
  main.values[3].file_offset = 64;
  main.inputs = {0};
  main.outputs = {4, 5};

  plan::Step copy;
  copy.kind = StepKind::copy;
  copy.label = "pad";
  copy.inputs = {dense_argument(main, 0)};
  copy.outputs = {dense_argument(main, 1)};
  plan::Step fill;
  fill.kind = StepKind::fill_border;
  fill.label = "border";
  fill.outputs = {dense_argument(main, 1)};
  plan::Step sum;
  sum.name = "k_sum3";
  sum.label = "sum of three";
  // The kernel sees the border as columns -1 and W.
  sum.inputs = {argument(1, {{-1, w + 2, 1}, {0, 2, w + 2}}, 0)};
  sum.outputs = {dense_argument(main, 2)};
  sum.symbols = {"W"};
  sum.flops = 2 * 2 * w;
  sum.bytes = 4 * (4 * w + 4);
  plan::Step scale;
  scale.name = "k_scale";
  scale.label = "scale";
  scale.inputs = {dense_argument(main, 2), dense_argument(main, 3)};
  scale.outputs = {dense_argument(main, 4)};
  scale.symbols = {"W"};
  scale.flops = 2 * w;
  scale.bytes = 16 * w;
  plan::Step shape;
  shape.kind = StepKind::host;
  shape.name = "evaluate";
  shape.label = "shape of x";
  shape.outputs = {dense_argument(main, 5)};
  shape.attributes = R"({"values": [2, "W", "2*W"]})";
  main.steps = {copy, fill, sum, scale, shape};

  plan::Module module;
  module.target = "sample";
  module.file = "cpu/sample.so";
  module.weights = "cpu/sample.weights";
  module.architecture = runtime::cpu_architecture();
  module.rank = 1;
  module.functions = {main};
  plan::Kernel three;
  three.name = "k_sum3";
  three.workload = "sum3 f32[2,W]";
  three.preconditions = {{plan::Precondition::Kind::at_least, w, 4, "the tile is four wide"}};
  plan::Kernel scaled;
  scaled.name = "k_scale";
  module.kernels = {three, scaled};

  plan::Package package;
  package.model = "sample";
  package.symbols = {{"W", 1, 4096}};
  package.modules = {module};
  package.files = {{"cpu/sample.so", "", 0}, {"cpu/sample.weights", "", 0}};
  package.provenance = "{}";
  return package;
}

std::vector<float> sample_reference(const std::vector<float>& x) {
  const std::size_t w = x.size() / 2;
  std::vector<float> out(x.size());
  for (std::size_t r = 0; r < 2; ++r)
    for (std::size_t i = 0; i < w; ++i) {
      const float before = i == 0 ? -1.0F : x[r * w + i - 1];
      const float after = i + 1 == w ? -1.0F : x[r * w + i + 1];
      out[r * w + i] = (before + x[r * w + i] + after) * (r == 0 ? 3.0F : 5.0F);
    }
  return out;
}

CommandResult run_command(const std::string& command) {
  CommandResult result;
  std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) throw Error(ErrorCode::io, "cannot run " + command);
  std::array<char, 4096> part{};
  while (const std::size_t n = std::fread(part.data(), 1, part.size(), pipe)) result.output.append(part.data(), n);
  const int status = ::pclose(pipe);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return result;
}

std::string compile_module_command(const std::filesystem::path& source, const std::filesystem::path& output) {
  const std::string root = HEDDLE_SOURCE_DIR;
  return fmt::format(
      "cc -std=gnu11 -O1 -fPIC -shared -fvisibility=hidden -Wall -Wextra -Werror -I'{}' -isystem '{}' '{}' "
      "'{}' -Wl,-z,defs -lm -o '{}'",
      root, std::string(HEDDLE_SITE_PACKAGES) + "/halide/include", source.string(), root + "/generators/shims/shims.c",
      output.string());
}

const std::string& sample_module() {
  static const std::string bytes = [] {
    const TemporaryDirectory directory;
    const auto output = directory.path() / "sample.so";
    const auto result = run_command(
        compile_module_command(std::string(HEDDLE_SOURCE_DIR) + "/tests/runtime/data/sample_kernels.c", output));
    if (result.status != 0) throw Error(ErrorCode::internal, "compiling the sample kernels failed:\n" + result.output);
    return read_file(output);
  }();
  return bytes;
}

std::string sample_weights() {
  std::string bytes(128, '\0');
  const float factors[] = {3, 5};
  std::memcpy(bytes.data() + 64, factors, sizeof(factors));
  return bytes;
}

void write_sample(const plan::Package& package, const std::filesystem::path& directory) {
  plan::Package complete = package;
  for (plan::File& file : complete.files) {
    const std::string bytes = file.path.ends_with(".so") ? sample_module() : sample_weights();
    file.bytes = bytes.size();
    file.sha256 = plan::checksum(bytes);
    write_file(directory / file.path, bytes);
  }
  write_file(directory / "manifest.json", plan::to_json(complete));
}

}  // namespace heddle::test
