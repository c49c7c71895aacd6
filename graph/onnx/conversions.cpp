#include "graph/onnx/conversions.hpp"

#include <algorithm>

namespace heddle::graph::onnx_import {

const Conversion* find_conversion(std::string_view domain, std::string_view op_type) {
  for (const auto rows :
       {elementwise_conversions(), window_conversions(), contraction_conversions(), reduction_conversions(),
        movement_conversions(), quantization_conversions(), constant_conversions()}) {
    const auto found = std::find_if(rows.begin(), rows.end(), [&](const Conversion& row) {
      return row.op_type == op_type && row.domain == domain;
    });
    if (found != rows.end()) return &*found;
  }
  return nullptr;
}

}  // namespace heddle::graph::onnx_import
