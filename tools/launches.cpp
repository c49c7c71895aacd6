#include "tools/launches.hpp"

#include <algorithm>
#include <limits>
#include <map>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.hpp"
#include "base/file.hpp"
#include "runtime/executor.hpp"
#include "runtime/gpu/device.hpp"
#include "runtime/gpu/device_module.hpp"
#include "runtime/gpu/recorder.hpp"
#include "runtime/memory.hpp"
#include "runtime/model.hpp"
#include "runtime/pool.hpp"

namespace heddle::tools {
namespace {

namespace gpu = runtime::gpu;
using Json = nlohmann::ordered_json;

/// A device that does nothing: launches are recorded with it, and none is executed.
class NoDevice : public gpu::Device {
 public:
  explicit NoDevice(DeviceApi api) {
    info_.api = api;
    info_.name = "no device";
    info_.memory_bytes = info_.most_allocation_bytes = info_.most_buffer_bytes =
        std::numeric_limits<std::int64_t>::max();
    info_.block_threads = info_.shared_bytes = std::numeric_limits<int>::max();
    info_.f16 = info_.f64 = info_.int8 = info_.int16 = info_.int64 = true;
  }

  struct NoMemory : gpu::Memory {
    explicit NoMemory(std::uint64_t bytes) : gpu::Memory(bytes) {}
    std::byte* host() const override { return nullptr; }
  };

  const gpu::DeviceInfo& info() const override { return info_; }
  std::unique_ptr<gpu::Memory> allocate(std::uint64_t bytes) override { return std::make_unique<NoMemory>(bytes); }
  std::unique_ptr<gpu::Memory> allocate_staging(std::uint64_t bytes) override { return allocate(bytes); }
  std::shared_ptr<gpu::Code> build(const plan::DeviceKernel&, std::string_view, const std::string&) override {
    return std::make_shared<gpu::Code>();
  }
  std::unique_ptr<gpu::Program> record(const gpu::Commands&) override {
    throw Error(ErrorCode::internal, "a device that does nothing was asked for a program");
  }
  void write(gpu::Memory&, std::uint64_t, const void*, std::uint64_t) override {}
  void read(const gpu::Memory&, std::uint64_t, void*, std::uint64_t) override {
    throw Error(ErrorCode::internal, "a device that does nothing was read from");
  }

 private:
  gpu::DeviceInfo info_;
};

/// Main of a module with static shapes, all of it on the device.
class Description {
 public:
  explicit Description(std::shared_ptr<const runtime::Model> model)
      : model_(std::move(model)), main_(*model_, model_->main(), {}) {
    const auto& constants = model_->device()->memories();
    bytes_.assign(main_.constant_memory() + constants.size(), 0);
    for (std::size_t v = 0; v < function().values.size(); ++v) {
      const auto at = main_.allocation(v);
      if (function().values[at.value].storage == plan::Storage::constant) continue;
      const bool arena = at.device.memory == runtime::BoundFunction::arena_memory;
      bytes_[at.device.memory] = arena ? main_.arena_end() : at.bytes;
    }
    for (std::size_t c = 0; c < constants.size(); ++c) bytes_[main_.constant_memory() + c] = constants[c]->bytes();
    for (std::uint32_t m = 0; m < bytes_.size(); ++m) {
      memories_.push_back(std::make_unique<NoDevice::NoMemory>(bytes_[m]));
      numbers_[memories_.back().get()] = m;
      places_.push_back({memories_.back().get(), 0});
    }
    for (const plan::Value& value : function().values)
      if (value.storage == plan::Storage::constant)
        if (const gpu::Address* at = model_->device()->constant(value.file_offset))
          constants_[{at->memory, at->offset}] = value.file_offset;
  }

  Json json() {
    runtime::KernelCall call;
    runtime::Scratch scratch;  // host code that computes several launches keeps their arguments there
    call.pool = &runtime::Pool::shared();
    call.scratch = &scratch;
    gpu::Recorder recorder(call, model_->device()->entries(), model_->device()->device().info(), bytes_);
    std::vector<std::size_t> first;  // launch of each step
    for (std::size_t s = 0; s < function().steps.size(); ++s) {
      first.push_back(recorder.launches());
      main_.record(s, call);
      recorder.check();
    }
    first.push_back(recorder.launches());
    const auto launches = recorder.placed(places_);

    Json document = {{"format", "heddle-launches"},
                     {"version", 1},
                     {"device", std::string(to_string(*model_->module().device))},
                     {"alignment", model_->device()->device().info().alignment},
                     {"weights", model_->module().weights},
                     {"memories", {{"arena", main_.arena_end()}, {"scratch", recorder.scratch_bytes()}}},
                     {"inputs", tensors(function().inputs)},
                     {"outputs", tensors(function().outputs)},
                     {"steps", Json::array()}};
    for (std::size_t s = 0; s < function().steps.size(); ++s) {
      Json step = {{"label", function().steps[s].label}, {"launches", Json::array()}};
      for (std::size_t l = first[s]; l < first[s + 1]; ++l) step["launches"].push_back(describe(launches[l]));
      document["steps"].push_back(std::move(step));
    }
    return document;
  }

 private:
  const plan::Function& function() const { return model_->main(); }

  Json place(std::uint32_t memory, std::uint64_t offset, std::uint64_t bytes) const {
    const auto input = [&](std::size_t i) { return main_.input_memory(i); };
    Json at;
    if (memory == gpu::Recorder::scratch_memory) at["memory"] = "scratch";
    else if (memory == runtime::BoundFunction::arena_memory) at["memory"] = "arena";
    else if (memory < main_.output_memory(0)) at["memory"] = fmt::format("input {}", memory - input(0));
    else if (memory < main_.constant_memory()) at["memory"] = fmt::format("output {}", memory - main_.output_memory(0));
    else {
      at["memory"] = "weights";
      const auto found = constants_.find({memory - main_.constant_memory(), offset});
      if (found == constants_.end())
        throw Error(ErrorCode::internal, "a launch reads a part of the weights that is no constant's begin");
      offset = found->second;
    }
    at["offset"] = offset;
    at["bytes"] = bytes;
    return at;
  }

  Json tensors(const std::vector<int>& values) const {
    Json list = Json::array();
    for (const int v : values) {
      const plan::Value& value = function().values[static_cast<std::size_t>(v)];
      const auto at = main_.allocation(static_cast<std::size_t>(v));
      Json tensor = {{"name", value.name}, {"dtype", std::string(to_string(value.dtype))}};
      for (const Extent& extent : value.shape) tensor["shape"].push_back(extent.value());
      for (const Extent& stride : value.strides) tensor["strides"].push_back(stride.value());
      if (function().values[at.value].storage == plan::Storage::constant)
        tensor.update(
            Json{{"memory", "weights"}, {"offset", function().values[at.value].file_offset}, {"bytes", at.bytes}});
      else tensor.update(place(at.device.memory, at.device.offset, at.bytes));
      list.push_back(std::move(tensor));
    }
    return list;
  }

  Json describe(const gpu::Launch& launch) const {
    Json arguments = Json::array();
    for (const auto& argument : launch.arguments) {
      if (argument.is_buffer) {
        const gpu::Binding& b = argument.buffer;
        arguments.push_back(place(numbers_.at(b.memory), b.offset, b.bytes));
        continue;
      }
      std::string bytes;
      for (std::uint32_t i = 0; i < argument.scalar_bytes; ++i)
        bytes += fmt::format("{:02x}", static_cast<unsigned>(argument.scalar[i]));
      arguments.push_back({{"scalar", bytes}});
    }
    Json description = {
        {"file", launch.kernel->file}, {"entry", launch.kernel->entry},       {"blocks", launch.blocks},
        {"threads", launch.threads},   {"shared_bytes", launch.shared_bytes}, {"arguments", std::move(arguments)}};
    Json constants = Json::object();
    for (std::size_t d = 0; d < 3; ++d)
      if (const int id = launch.kernel->block_constants[d]; id != 0) constants[std::to_string(id)] = launch.threads[d];
    for (const auto& array : launch.kernel->shared)
      if (array.constant != 0)
        constants[std::to_string(array.constant)] =
            std::max<std::int64_t>(1, std::int64_t{launch.shared_bytes} / array.element_bytes);
    if (!constants.empty()) description["specialisation"] = std::move(constants);
    if (*model_->module().device == DeviceApi::vulkan) description["uniform_block"] = launch.kernel->uniform_block;
    return description;
  }

  std::shared_ptr<const runtime::Model> model_;
  runtime::BoundFunction main_;
  std::vector<std::uint64_t> bytes_;
  std::vector<std::unique_ptr<gpu::Memory>> memories_;
  std::map<const gpu::Memory*, std::uint32_t> numbers_;
  std::vector<gpu::Recorder::Place> places_;
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::uint64_t> constants_;  ///< place on the device -> in the file
};

bool describable(const plan::Package& package, const plan::Module& module) {
  if (!module.device || !package.symbols.empty()) return false;
  return std::ranges::all_of(module.functions.front().steps, [](const plan::Step& step) { return step.on_device; });
}

}  // namespace

std::optional<std::string> describe_launches(const std::filesystem::path& package, const plan::Module& module) {
  if (!describable(plan::from_json(read_file(package / "manifest.json")), module)) return std::nullopt;
  runtime::LoadOptions load;
  load.target = module.target;
  load.opened = std::make_shared<NoDevice>(*module.device);
  return Description(runtime::Model::load(package, load)).json().dump(1) + "\n";
}

void add_launches(graph::Compiled& compiled) {
  const auto& modules = compiled.package.modules;
  if (std::ranges::none_of(modules, [&](const auto& m) { return describable(compiled.package, m); })) return;
  const TemporaryDirectory directory;
  graph::write_package(compiled, directory.path() / "package");
  for (const plan::Module& module : modules)
    if (auto text = describe_launches(directory.path() / "package", module)) {
      const std::string path = std::filesystem::path(module.file).parent_path() / "launches.json";
      compiled.package.files.push_back({path, plan::checksum(*text), text->size()});
      compiled.files[path] = std::move(*text);
    }
}

}  // namespace heddle::tools
