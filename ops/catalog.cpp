#include "ops/catalog.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>

#include "base/error.hpp"
#include "ops/binary.hpp"
#include "ops/unary.hpp"

namespace heddle {
namespace ops {

// One row an operator; unary.cpp and binary.cpp hold tables of their own.
const Operator& attention();
const Operator& average_pool();
const Operator& batch_norm();
const Operator& cast();
const Operator& clip();
const Operator& concat();
const Operator& conv();
const Operator& conv_transpose();
const Operator& copy();
const Operator& dequantize();
const Operator& expand();
const Operator& fake_quantize();
const Operator& full();
const Operator& gather();
const Operator& gather_elements();
const Operator& gather_nd();
const Operator& halide_pipeline();
const Operator& iota();
const Operator& layer_norm();
const Operator& lrn();
const Operator& matmul();
const Operator& matmul_blocks();
const Operator& max_pool();
const Operator& pad();
const Operator& quantize();
const Operator& reduce_l1();
const Operator& reduce_l2();
const Operator& reduce_log_sum();
const Operator& reduce_log_sum_exp();
const Operator& reduce_max();
const Operator& reduce_mean();
const Operator& reduce_min();
const Operator& reduce_prod();
const Operator& reduce_sum();
const Operator& reduce_sum_square();
const Operator& reshape();
const Operator& resize();
const Operator& slice();
const Operator& softmax();
const Operator& transpose();
const Operator& where();

namespace {

constexpr auto rows = {
    attention,
    average_pool,
    batch_norm,
    cast,
    clip,
    concat,
    conv,
    conv_transpose,
    copy,
    dequantize,
    expand,
    fake_quantize,
    full,
    gather,
    gather_elements,
    gather_nd,
    halide_pipeline,
    iota,
    layer_norm,
    lrn,
    matmul,
    matmul_blocks,
    max_pool,
    pad,
    quantize,
    reduce_l1,
    reduce_l2,
    reduce_log_sum,
    reduce_log_sum_exp,
    reduce_max,
    reduce_mean,
    reduce_min,
    reduce_prod,
    reduce_sum,
    reduce_sum_square,
    reshape,
    resize,
    slice,
    softmax,
    transpose,
    where,
};

}  // namespace
}  // namespace ops

std::span<const Operator* const> catalog() {
  static const auto sorted = [] {
    std::vector<const Operator*> all;
    for (const auto row : ops::rows) all.push_back(&row());
    for (const auto table : {ops::unary(), ops::binary()}) all.insert(all.end(), table.begin(), table.end());
    std::sort(all.begin(), all.end(), [](const Operator* a, const Operator* b) { return a->name() < b->name(); });
    return all;
  }();
  return sorted;
}

Operators::Operators() : all_(catalog().begin(), catalog().end()) {}

void Operators::load(const std::filesystem::path& module) {
  const auto path = std::filesystem::absolute(module);
  if (!std::filesystem::exists(path))
    throw Error(ErrorCode::not_found, fmt::format("operator module {} does not exist", path.string()));
  // Never closed: kernels, graphs and schedules keep pointers to its operators.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} cannot be loaded as an operator module: {}", path.string(), dlerror()));
  void* const entry = dlsym(library, "heddle_operators");
  if (entry == nullptr)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} is not an operator module: it does not export heddle_operators(); build it with "
                            "heddle_add_operator in CMake",
                            path.string()));
  const UserModule contents = reinterpret_cast<UserModule (*)()>(entry)();
  if (contents.version != UserModule::current_version)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} was built for version {} of Heddle's operators, this is version {}; rebuild it",
                            path.string(), contents.version, UserModule::current_version));
  try {
    for (const Operator* op : contents.operators) add(*op);
  } catch (const Error& e) {
    throw e.within("operator module " + path.string());
  }
}

void Operators::add(const Operator& op) {
  const auto at = std::lower_bound(all_.begin(), all_.end(), op.name(),
                                   [](const Operator* a, std::string_view name) { return a->name() < name; });
  if (at != all_.end() && (*at)->name() == op.name()) {
    if (*at == &op) return;  // the same module again
    throw Error(ErrorCode::invalid_argument,
                fmt::format("there is an operator '{}' already; give yours another name", op.name()));
  }
  all_.insert(at, &op);
}

const Operator* Operators::find(std::string_view name) const {
  const auto at = std::lower_bound(all_.begin(), all_.end(), name,
                                   [](const Operator* a, std::string_view wanted) { return a->name() < wanted; });
  return at != all_.end() && (*at)->name() == name ? *at : nullptr;
}

const Operator& Operators::get(std::string_view name) const {
  if (const Operator* op = find(name)) return *op;
  std::vector<std::string> names;
  for (const Operator* op : all_) names.emplace_back(op->name());
  throw Error(ErrorCode::not_found,
              fmt::format("there is no operator '{}'{}; `heddle ops` lists them", name, did_you_mean(name, names)));
}

}  // namespace heddle
