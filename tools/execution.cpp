#include "tools/execution.hpp"

#include <cstring>
#include <random>

#include <fmt/format.h>

#include "base/error.hpp"
#include "tools/tensor_file.hpp"

namespace heddle::tools {
namespace {

std::vector<std::string> input_names(const plan::Function& function) {
  std::vector<std::string> names;
  for (const int input : function.inputs) names.push_back(function.values.at(static_cast<std::size_t>(input)).name);
  return names;
}

std::map<std::string, Array> given_inputs(const InputOptions& options, const std::vector<std::string>& names) {
  std::map<std::string, Array> given;
  const auto add = [&](const std::string& name, Array array) {
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw Error(ErrorCode::invalid_argument, fmt::format("the model has no input '{}'{}; it has {}", name,
                                                           did_you_mean(name, names), fmt::join(names, ", ")));
    given[name] = std::move(array);
  };
  for (const auto& flag : options.inputs) {
    const auto equals = flag.rfind('=');
    if (equals == std::string::npos) {
      if (!flag.ends_with(".npz"))
        throw Error(ErrorCode::invalid_argument, fmt::format("--input {}: expected NAME=FILE or an .npz file", flag));
      for (auto& [name, array] : read_npz(flag)) add(name, std::move(array));
    } else {
      add(flag.substr(0, equals), read_tensor(flag.substr(equals + 1)));
    }
  }
  return given;
}

}  // namespace

void InputOptions::add_flags(CLI::App& app) {
  app.add_option("--input", inputs, "NAME=FILE, a .npy or ONNX .pb file; or one .npz file with an array a name");
}

Array random_array(DType type, const Shape& shape, std::uint64_t seed, double low, double high) {
  Array array(type, shape);
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(low, high);
  for (std::int64_t i = 0; i < array.size(); ++i)
    array.set(i, type == DType::boolean ? static_cast<double>(random() & 1U) : uniform(random));
  return array;
}

std::vector<Array> load_inputs(const InputOptions& options, const runtime::Model& model, bool fill,
                               std::uint64_t seed) {
  const plan::Function& main = model.main();
  const auto names = input_names(main);
  auto given = given_inputs(options, names);
  SymbolValues symbols;
  for (const auto& symbol : model.package().symbols) symbols[symbol.name] = symbol.min;
  for (const int input : main.inputs) {
    const auto& value = main.values[static_cast<std::size_t>(input)];
    const auto found = given.find(value.name);
    if (found == given.end() || found->second.shape().size() != value.shape.size()) continue;
    for (std::size_t d = 0; d < value.shape.size(); ++d)
      for (const auto& symbol : value.shape[d].symbols())
        if (value.shape[d] == Extent::symbol(symbol)) symbols[symbol] = found->second.shape()[d];
  }
  std::vector<Array> inputs;
  std::vector<std::string> missing;
  for (const int input : main.inputs) {
    const auto& value = main.values[static_cast<std::size_t>(input)];
    if (const auto found = given.find(value.name); found != given.end()) {
      inputs.push_back(found->second);
      continue;
    }
    missing.push_back(value.name);
    Shape shape;
    for (const auto& extent : value.shape) shape.push_back(extent.evaluate(symbols));
    const bool integer = is_integer(value.dtype);
    inputs.push_back(random_array(value.dtype, shape, seed++, integer ? 0 : -1, integer ? 9 : 1));
  }
  if (!missing.empty() && !fill)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the model needs the input '{}': give --input {}=FILE.npy", missing[0], missing[0]));
  return inputs;
}

void set_inputs(runtime::Session& session, std::vector<Array>& inputs) {
  for (std::size_t i = 0; i < inputs.size(); ++i)
    session.set_input(i, {inputs[i].dtype(), inputs[i].shape(), inputs[i].mutable_data()});
}

Array output_array(const runtime::Session& session, std::size_t index) {
  const runtime::HostTensor tensor = session.output(index);
  Array array(tensor.dtype, tensor.shape);
  if (array.bytes() > 0) std::memcpy(array.mutable_data(), tensor.data, array.bytes());
  return array;
}

}  // namespace heddle::tools
