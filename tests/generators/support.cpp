#include "tests/generators/support.hpp"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <random>

#include <HalideRuntime.h>
#include <fmt/format.h>

#include "base/file.hpp"

namespace heddle::test {
namespace {

template <bool Edited>
struct Product {
  static constexpr auto name = "product";
  static constexpr auto summary = "a b, plus its sine";
  static constexpr auto kind = OperatorKind::contraction;
  struct Attributes {
    BOOST_HANA_DEFINE_STRUCT(Attributes);
  };
  struct Stages {
    BOOST_HANA_DEFINE_STRUCT(Stages, (Halide::Func, acc), (Halide::Func, out));
  };
  static std::vector<OperandInfo> operands(const Attributes&, std::span<const TensorType>) {
    return {{.role = "a", .dimensions = {"y", "k"}},
            {.role = "b", .dimensions = {"k", "x"}, .packing_order = {"k", "x"}, .constant = true}};
  }
  static TensorType infer(const Attributes&, std::span<const TensorType> in) {
    if (in.size() != 2 || in[0].shape.at(1) != in[1].shape.at(0))
      throw Error(ErrorCode::invalid_argument, "a's columns are not b's rows");
    return tensor(in[0].dtype, {in[0].shape[0], in[1].shape[1]});
  }
  static void define(const Attributes&, Algorithm& a, Stages& s) {
    const Halide::Expr y = a.index()[0], x = a.index()[1];
    const Reduction r = a.reduce({{"k", a.in[0].extents[1]}});
    s.acc(a.arguments()) = 0.0f;
    s.acc(a.arguments()) += a.in[0].at({y, r["k"]}) * a.in[1].at({r["k"], x});
    const Halide::Expr sum = s.acc(a.arguments());
    s.out(a.arguments()) = (Edited ? 2.0f * sum : sum) + Halide::sin(sum);
  }
  static void reference(const Attributes&, std::span<const Array> in, Array& out) {
    const auto m = in[0].shape()[0], depth = in[0].shape()[1], n = in[1].shape()[1];
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (std::int64_t k = 0; k < depth; ++k) sum += in[0].at(i * depth + k) * in[1].at(k * n + j);
        out.set(i * n + j, (Edited ? 2 : 1) * sum + std::sin(sum));
      }
  }
  static Tolerance tolerance(const Attributes&, std::span<const TensorType>) {
    return {.of_largest = 1e-5, .special_values = SpecialValues::ignored, .reason = "sums of a few dozen products"};
  }
  static std::vector<Case> cases() { return {{.inputs = {tensor(DType::f32, {3, 5}), tensor(DType::f32, {5, 7})}}}; }
};

}  // namespace

const char* const tiled = R"(
pack b x:16
out.split(x, xo, xi, 16, GuardWithIf).split(y, yo, yi, 3, GuardWithIf).reorder(xi, yi, xo, yo).vectorize(xi).parallel(yo)
acc.compute_at(out, xo).vectorize(x, 16).unroll(y)
acc.update(0).reorder(x, y, k).vectorize(x, 16).unroll(y)
)";

const Operator& product() {
  static const Erased<Product<false>> op;
  return op;
}
const Operator& edited_product() {
  static const Erased<Product<true>> op;
  return op;
}

Workload product_workload(const Extent& m, const Extent& k, const Extent& n, const Operator& op) {
  SymbolRanges ranges;
  for (const auto& extent : {m, k, n})
    for (const auto& symbol : extent.symbols()) ranges[symbol] = {1, 4096};
  return Workload::of(op, Json::object(), {tensor(DType::f32, {m, k}), tensor(DType::f32, {k, n})}, ranges);
}

KernelRequest request(const Workload& workload, const std::string& implementation, const Target& target) {
  return {.workload = &workload, .implementation = Implementation::parse(implementation), .target = target};
}

LoadedModule::LoadedModule(const std::string& bytes) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "module.so";
  write_file(path, bytes);
  handle_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle_ == nullptr) throw Error(ErrorCode::internal, ::dlerror());
  using Init = int (*)(const heddle_kernel_table*, std::uint32_t);
  const auto init = reinterpret_cast<Init>(::dlsym(handle_, "heddle_module_init"));
  if (init == nullptr) throw Error(ErrorCode::internal, "no heddle_module_init");
  if (init(&runtime::kernel_table(), HEDDLE_KERNEL_TABLE_VERSION) != 0)
    throw Error(ErrorCode::internal, "versions differ");
}

LoadedModule::~LoadedModule() { ::dlclose(handle_); }

std::vector<Array> LoadedModule::run(const KernelRequest& request, const std::vector<Array>& inputs) const {
  const auto kernel = reinterpret_cast<int (*)(void**)>(::dlsym(handle_, (kernel_symbol(request) + "_argv").c_str()));
  if (kernel == nullptr) throw Error(ErrorCode::internal, "no such kernel in the module");
  const Workload& workload = *request.workload;
  std::vector<TensorType> types;
  std::vector<Shape> shapes;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    types.push_back(workload.value_types()[i]);
    shapes.push_back(inputs[i].shape());
  }
  const SymbolValues symbols = bind_symbols(types, shapes);

  std::vector<std::int32_t> scalars;
  for (const auto& name : workload.symbols()) scalars.push_back(static_cast<std::int32_t>(symbols.at(name)));
  std::vector<Array> arrays = inputs;
  for (std::size_t i = 0; i < arrays.size(); ++i)
    for (const auto& packing : request.implementation.packings)
      if (packing.operand == workload.inputs()[i].role) arrays[i] = pack(arrays[i], workload.inputs()[i], packing);
  std::vector<Array> outputs;
  for (const auto& type : workload.output_types()) {
    Shape shape;
    for (const auto& extent : type.shape) shape.push_back(extent.evaluate(symbols));
    outputs.emplace_back(type.dtype, shape);
  }

  auto views = workload.input_views(request.implementation.packings);
  for (auto& view : workload.output_views()) views.push_back(std::move(view));
  std::vector<halide_buffer_t> buffers(views.size());
  std::vector<std::vector<halide_dimension_t>> dims(views.size());
  for (std::size_t i = 0; i < views.size(); ++i) {
    Array& array = i < arrays.size() ? arrays[i] : outputs[i - arrays.size()];
    for (const auto& d : views[i].dimensions)
      dims[i].push_back({static_cast<std::int32_t>(d.min.evaluate(symbols)),
                         static_cast<std::int32_t>(d.extent.evaluate(symbols)),
                         static_cast<std::int32_t>(d.stride.evaluate(symbols)), 0});
    buffers[i] = {};
    buffers[i].host = static_cast<std::uint8_t*>(array.mutable_data());
    buffers[i].type = halide_type_t(halide_type_float, 32);
    buffers[i].dimensions = static_cast<std::int32_t>(dims[i].size());
    buffers[i].dim = dims[i].data();
  }

  runtime::Scratch scratch;
  runtime::KernelCall call;
  call.pool = &runtime::Pool::shared();
  call.settings.threads = 2;
  call.scratch = &scratch;
  void* context = &call;
  std::vector<void*> argv = {&context};
  for (auto& scalar : scalars) argv.push_back(&scalar);
  for (auto& buffer : buffers) argv.push_back(&buffer);
  const int status = kernel(argv.data());
  if (status != 0)
    throw Error(ErrorCode::invalid_argument, fmt::format("the kernel returned {}: {}", status, call.message()));
  return outputs;
}

std::vector<Array> compile_and_run(const KernelRequest& request, const std::vector<Array>& inputs) {
  return LoadedModule(link_module({compile_kernel(request).object}, request.target)).run(request, inputs);
}

Array noise(const Shape& shape, unsigned seed) {
  Array array(DType::f32, shape);
  std::mt19937 random(seed);
  for (float& value : array.as<float>()) value = static_cast<float>(random() % 2048) / 1024.0f - 1.0f;
  return array;
}

std::string shell(const std::string& command, int* status) {
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) throw Error(ErrorCode::io, "cannot run " + command);
  std::string output;
  char part[4096];
  for (std::size_t n = 0; (n = std::fread(part, 1, sizeof part, pipe)) > 0;) output.append(part, n);
  const int result = ::pclose(pipe);
  if (status != nullptr) *status = result;
  return output;
}

}  // namespace heddle::test
