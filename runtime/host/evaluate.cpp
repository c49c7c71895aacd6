#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.hpp"
#include "runtime/host/host.hpp"

namespace heddle::runtime {

// Writes the values of extents, such as what ONNX's Shape and the arithmetic on it yield. Attributes:
// {"values": [integers and extent expressions, row-major]}; the output's element type is what they are converted to.
HostFunction bind_evaluate(const HostBinding& binding) {
  if (binding.outputs.size() != 1) throw Error(ErrorCode::corrupt, "host operator 'evaluate' has one output");
  const TensorView& output = binding.outputs[0];
  Array values(output.dtype, output.shape);
  try {
    const auto attributes = nlohmann::json::parse(binding.attributes);
    const auto& list = attributes.at("values");
    if (!list.is_array() || static_cast<std::int64_t>(list.size()) != values.size())
      throw Error(ErrorCode::corrupt, fmt::format("host operator 'evaluate': {} values do not fill shape {}",
                                                  list.size(), to_string(output.shape)));
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::int64_t value = list[i].is_number_integer()
                                     ? list[i].get<std::int64_t>()
                                     : Extent::parse(list[i].get<std::string>()).evaluate(binding.symbols);
      // Not through double, which has not all of an int64's bits.
      if (output.dtype == DType::i64) values.as<std::int64_t>()[i] = value;
      else values.set(static_cast<std::int64_t>(i), static_cast<double>(value));
    }
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCode::corrupt, fmt::format("host operator 'evaluate': bad attributes: {}", error.what()));
  }
  const CopyPlan copy(view_of(values), output);
  return [values, copy](std::span<const TensorView>, std::span<const TensorView> outputs) {
    copy.run(static_cast<const std::byte*>(values.data()), outputs[0].data);
  };
}

}  // namespace heddle::runtime
