#pragma once
#include <filesystem>
#include <string>

#include "base/array.hpp"
#include "base/dtype.hpp"
#include "onnx-ml.pb.h"

namespace heddle::graph::onnx_import {

/// ONNX's element type (TensorProto::DataType) as ours; throws Error{unsupported} naming it.
DType dtype_of(int onnx_type);

/// Whether its elements are 4-bit integers, which take_array gives a byte each. Nothing else has them.
bool has_four_bits(int onnx_type);

/// An ONNX tensor as an Array. Takes the bytes out of `tensor` (its raw_data is freed), so that a model's weights are
/// not held twice. `directory` is where external data lies. Throws Error{corrupt} where the bytes do not fill the shape
/// or an external file is missing or points outside of `directory`, and Error{unsupported} for strings.
Array take_array(::onnx::TensorProto& tensor, const std::filesystem::path& directory);

}  // namespace heddle::graph::onnx_import
