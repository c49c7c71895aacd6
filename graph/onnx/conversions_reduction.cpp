#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

#include "base/error.hpp"
#include "graph/onnx/conversions.hpp"

namespace heddle::graph::onnx_import {
namespace {

void reject_extra_outputs(const OnnxNode& n, int allowed, std::string_view what) {
  for (int i = allowed; i < n.proto().output_size(); ++i)
    if (!n.proto().output(i).empty())
      n.fail(fmt::format("its output '{}' ({}) is not supported", n.proto().output(i), what));
}

/// ONNX's reductions and the catalog's have the same names: ReduceLogSumExp is reduce_log_sum_exp.
struct Name {
  std::string_view onnx, ours;
};
constexpr std::array reductions = {
    Name{"ReduceL1", "reduce_l1"},          Name{"ReduceL2", "reduce_l2"},
    Name{"ReduceLogSum", "reduce_log_sum"}, Name{"ReduceLogSumExp", "reduce_log_sum_exp"},
    Name{"ReduceMax", "reduce_max"},        Name{"ReduceMean", "reduce_mean"},
    Name{"ReduceMin", "reduce_min"},        Name{"ReduceProd", "reduce_prod"},
    Name{"ReduceSum", "reduce_sum"},        Name{"ReduceSumSquare", "reduce_sum_square"},
};

int reduce(OnnxNode& n, std::string_view op, int x, const std::vector<std::int64_t>& axes, bool keep_dims) {
  return n.op(op, {{"axes", axes}, {"keepdims", keep_dims}}, {x});
}

void convert_reduce(OnnxNode& n) {
  const int x = n.input(0);
  const int rank = n.rank(0);
  std::vector<std::int64_t> axes = n.axes(1).value_or(std::vector<std::int64_t>{});
  if (axes.empty()) {
    if (n.integer("noop_with_empty_axes", 0) != 0) {
      const bool itself = n.op_type() == "ReduceSum" || n.op_type() == "ReduceMean" || n.op_type() == "ReduceProd" ||
                          n.op_type() == "ReduceMax" || n.op_type() == "ReduceMin";
      if (itself) return n.set_result(x);
      n.fail("without axes and with noop_with_empty_axes it is not a reduction");
    }
    axes.resize(static_cast<std::size_t>(rank));
    std::iota(axes.begin(), axes.end(), 0);
  }
  for (std::int64_t& axis : axes) axis = n.normal_axis(axis, rank);
  std::sort(axes.begin(), axes.end());
  if (axes.empty()) return n.set_result(x);  // a scalar
  for (const Name& name : reductions)
    if (name.onnx == n.op_type()) return n.set_result(reduce(n, name.ours, x, axes, n.integer("keepdims", 1) != 0));
}

void convert_global_pool(OnnxNode& n) {
  std::vector<std::int64_t> axes;
  for (int d = 2; d < n.rank(0); ++d) axes.push_back(d);
  if (axes.empty()) throw Error(ErrorCode::invalid_argument, "global pooling needs spatial dimensions");
  n.set_result(reduce(n, n.op_type() == "GlobalAveragePool" ? "reduce_mean" : "reduce_max", n.input(0), axes, true));
}

/// Before version 13 softmax is over all dimensions from `axis` on, and the default axis is 1.
void convert_softmax(OnnxNode& n) {
  const int x = n.input(0);
  const std::vector<Extent> shape = n.type(0).shape;
  const int rank = n.rank(0);
  const bool flattens = n.version() < 13;
  const int axis = n.normal_axis(n.integer("axis", flattens ? 1 : -1), rank);
  const bool log = n.op_type() == "LogSoftmax";
  const bool single =
      std::all_of(shape.begin() + axis + 1, shape.end(), [](const Extent& e) { return e == Extent(1); });
  if (!flattens || single) return n.set_result(n.op("softmax", {{"axis", axis}, {"log", log}}, {x}));
  Extent rows = 1, columns = 1;
  for (int d = 0; d < rank; ++d)
    (d < axis ? rows : columns) = (d < axis ? rows : columns) * shape[static_cast<std::size_t>(d)];
  const int flat = n.op("reshape", {{"shape", n.shape_attribute({rows, columns})}}, {x});
  const int result = n.op("softmax", {{"axis", 1}, {"log", log}}, {flat});
  n.set_result(n.op("reshape", {{"shape", n.shape_attribute(shape)}}, {result}));
}

void convert_batch_norm(OnnxNode& n) {
  if (n.integer("training_mode", 0) != 0) n.fail("training mode is not supported");
  if (n.version() < 7 && n.integer("is_test", 0) == 0 && n.version() >= 6)
    n.fail("training mode (is_test = 0) is not supported");
  if (n.integer("spatial", 1) == 0) n.fail("statistics per element (spatial = 0) are not supported");
  reject_extra_outputs(n, 1, "training statistics");
  n.set_result(n.op("batch_norm", {{"epsilon", n.real("epsilon", 1e-5F)}},
                    {n.input(0), n.input(1), n.input(2), n.input(3), n.input(4)}));
}

void convert_layer_norm(OnnxNode& n) {
  reject_extra_outputs(n, 1, "statistics");
  std::vector<int> inputs{n.input(0), n.input(1)};
  if (n.has_input(2)) inputs.push_back(n.input(2));
  n.set_result(n.op("layer_norm",
                    {{"axis", n.normal_axis(n.integer("axis", -1), n.rank(0))}, {"epsilon", n.real("epsilon", 1e-5F)}},
                    inputs));
}

/// Each channel of each sample over its spatial dimensions: a mean, a variance, a scale and a shift.
void convert_instance_norm(OnnxNode& n) {
  const int x = n.input(0);
  const int rank = n.rank(0);
  std::vector<std::int64_t> axes;
  for (int d = 2; d < rank; ++d) axes.push_back(d);
  std::vector<Extent> per_channel(static_cast<std::size_t>(rank - 1), 1);
  per_channel[0] = n.type(1).shape.at(0);
  const auto channels = [&](int i) {
    return n.op("reshape", {{"shape", n.shape_attribute(per_channel)}}, {n.input(i)});
  };
  const int centred = n.op("sub", Json::object(), {x, reduce(n, "reduce_mean", x, axes, true)});
  const int variance = reduce(n, "reduce_mean", n.op("mul", Json::object(), {centred, centred}), axes, true);
  const int shifted = n.op("add", Json::object(), {variance, n.add_scalar(n.type(0).dtype, n.real("epsilon", 1e-5F))});
  const int normal = n.op("div", Json::object(), {centred, n.op("sqrt", Json::object(), {shifted})});
  n.set_result(n.op("add", Json::object(), {n.op("mul", Json::object(), {normal, channels(1)}), channels(2)}));
}

void convert_lrn(OnnxNode& n) {
  n.set_result(n.op("lrn",
                    {{"size", n.integer("size", 0)},
                     {"alpha", n.real("alpha", 1e-4F)},
                     {"beta", n.real("beta", 0.75)},
                     {"bias", n.real("bias", 1.0)}},
                    {n.input(0)}));
}

constexpr std::array rows = {
    Conversion{"BatchNormalization", 1, newest_version, convert_batch_norm},
    Conversion{"GlobalAveragePool", 1, newest_version, convert_global_pool},
    Conversion{"GlobalMaxPool", 1, newest_version, convert_global_pool},
    Conversion{"InstanceNormalization", 6, newest_version, convert_instance_norm},
    Conversion{"LayerNormalization", 17, newest_version, convert_layer_norm},
    Conversion{"LogSoftmax", 1, newest_version, convert_softmax},
    Conversion{"LRN", 1, newest_version, convert_lrn},
    Conversion{"ReduceL1", 1, newest_version, convert_reduce},
    Conversion{"ReduceL2", 1, newest_version, convert_reduce},
    Conversion{"ReduceLogSum", 1, newest_version, convert_reduce},
    Conversion{"ReduceLogSumExp", 1, newest_version, convert_reduce},
    Conversion{"ReduceMax", 1, newest_version, convert_reduce},
    Conversion{"ReduceMean", 1, newest_version, convert_reduce},
    Conversion{"ReduceMin", 1, newest_version, convert_reduce},
    Conversion{"ReduceProd", 1, newest_version, convert_reduce},
    Conversion{"ReduceSum", 1, newest_version, convert_reduce},
    Conversion{"ReduceSumSquare", 1, newest_version, convert_reduce},
    Conversion{"Softmax", 1, newest_version, convert_softmax},
};

}  // namespace

std::span<const Conversion> reduction_conversions() { return rows; }

}  // namespace heddle::graph::onnx_import
