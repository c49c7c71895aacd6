#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/error.hpp"
#include "heddle/heddle.h"
#include "runtime/gpu/device_module.hpp"
#include "runtime/session.hpp"

using heddle::Error;
using heddle::ErrorCode;

namespace {

using heddle::DeviceApi;
using heddle::DType;
using heddle::runtime::HostTensor;
using heddle::runtime::gpu::DeviceInfo;

static_assert(static_cast<int>(ErrorCode::internal) == HEDDLE_INTERNAL);
static_assert(static_cast<int>(ErrorCode::corrupt) == HEDDLE_CORRUPT);
static_assert(static_cast<int>(DType::boolean) == HEDDLE_BOOLEAN);
static_assert(static_cast<int>(DType::i64) == HEDDLE_I64);
static_assert(static_cast<int>(DeviceApi::opencl) == HEDDLE_OPENCL);
static_assert(static_cast<int>(DeviceApi::vulkan) == HEDDLE_VULKAN);
static_assert(static_cast<int>(DeviceInfo::Kind::cpu) == HEDDLE_KIND_CPU);
static_assert(static_cast<int>(DeviceInfo::Kind::integrated) == HEDDLE_KIND_INTEGRATED);
static_assert(static_cast<int>(DeviceInfo::Kind::discrete) == HEDDLE_KIND_DISCRETE);
static_assert(static_cast<int>(DeviceInfo::Kind::other) == HEDDLE_KIND_OTHER);

thread_local std::string last_error;

heddle_status failed(heddle_status status, const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
  }
  return status;
}

/// Runs f; nothing thrown leaves.
template <class F>
heddle_status guarded(F&& f) noexcept {
  try {
    f();
    return HEDDLE_OK;
  } catch (const Error& error) {
    return failed(static_cast<heddle_status>(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return failed(HEDDLE_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return failed(HEDDLE_INTERNAL, error.what());
  } catch (...) {
    return failed(HEDDLE_INTERNAL, "unknown failure");
  }
}

template <class T>
T& given(T* pointer, const char* what) {
  if (pointer == nullptr) throw Error(ErrorCode::invalid_argument, fmt::format("{} is NULL", what));
  return *pointer;
}

void check_size(std::size_t size) {
  if (size < sizeof(std::size_t))
    throw Error(ErrorCode::invalid_argument, "the struct's size is not set: begin with its HEDDLE_*_INIT value");
}

/// A struct that may come from a program compiled with an older or newer header: the members that it has, the rest as
/// `defaults` says.
template <class T>
T sized(const T* options, T defaults) {
  if (options == nullptr) return defaults;
  check_size(options->size);
  std::memcpy(&defaults, options, std::min(options->size, sizeof(T)));
  return defaults;
}

/// The devices that this thread has asked for; what results point to.
std::array<std::vector<DeviceInfo>, 2>& listed_devices() {
  thread_local std::array<std::vector<DeviceInfo>, 2> lists;
  return lists;
}

DeviceApi api_of(heddle_device_api api) {
  if (api != HEDDLE_OPENCL && api != HEDDLE_VULKAN)
    throw Error(ErrorCode::invalid_argument, fmt::format("{} is no device API", static_cast<int>(api)));
  return static_cast<DeviceApi>(api);
}

void describe(const DeviceInfo& device, heddle_device_info* info) {
  const std::size_t size = given(info, "the place for the info").size;
  check_size(size);
  const heddle_device_info full = {std::min(size, sizeof(heddle_device_info)),
                                   static_cast<heddle_device_api>(device.api),
                                   static_cast<heddle_device_kind>(device.kind),
                                   device.index,
                                   device.name.c_str(),
                                   device.driver.c_str(),
                                   device.memory_bytes};
  std::memcpy(info, &full, full.size);
}

/// Info of one input or output, with memory for what the C struct points to.
struct Info {
  std::string name;
  DType dtype;
  std::vector<std::int64_t> extents;
  std::vector<std::string> texts;
  std::vector<const char*> text_pointers;

  explicit Info(const heddle::plan::Value& value) : name(value.name), dtype(value.dtype) {
    for (const heddle::Extent& extent : value.shape) {
      extents.push_back(extent.constant().value_or(-1));
      texts.push_back(extent.str());
    }
    for (const std::string& text : texts) text_pointers.push_back(text.c_str());
  }
  Info(Info&&) = default;
  Info(const Info&) = delete;
  Info& operator=(const Info&) = delete;
  Info& operator=(Info&&) = delete;
  ~Info() = default;

  heddle_tensor_info view() const {
    return {name.c_str(), static_cast<heddle_dtype>(dtype), static_cast<std::int32_t>(extents.size()), extents.data(),
            text_pointers.data()};
  }
};

std::size_t find(const std::vector<Info>& infos, const char* what, const char* name) {
  given(name, "the name");
  std::vector<std::string> names;
  for (std::size_t i = 0; i < infos.size(); ++i) {
    if (infos[i].name == name) return i;
    names.push_back(infos[i].name);
  }
  throw Error(ErrorCode::not_found,
              fmt::format("the model has no {} '{}'{}", what, name, heddle::did_you_mean(name, names)));
}

const Info& at(const std::vector<Info>& infos, const char* what, std::size_t index) {
  if (index >= infos.size())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("there is no {} {}: the model has {}", what, index, infos.size()));
  return infos[index];
}

HostTensor to_host(const heddle_tensor& tensor) {
  if (static_cast<unsigned int>(tensor.dtype) > HEDDLE_BOOLEAN)
    throw Error(ErrorCode::invalid_argument, fmt::format("{} is no element type", static_cast<int>(tensor.dtype)));
  if (tensor.rank < 0 || (tensor.rank > 0 && tensor.shape == nullptr))
    throw Error(ErrorCode::invalid_argument, "the tensor has no shape");
  return {.dtype = static_cast<DType>(tensor.dtype),
          .shape = heddle::Shape(tensor.shape, tensor.shape + tensor.rank),
          .data = tensor.data};
}

}  // namespace

struct heddle_model {
  std::shared_ptr<const heddle::runtime::Model> model;
  std::vector<Info> inputs, outputs;
};

struct heddle_session {
  heddle_session(const heddle_model& from, const heddle::runtime::SessionOptions& options)
      : session(from.model, options), profiles(options.profile) {}

  heddle::runtime::Session session;
  bool profiles;
  bool ran = false;
  /// Guards what follows, which results point to.
  std::mutex mutex;
  std::vector<heddle::Shape> shapes;
  std::vector<heddle_step_time> steps;
};

extern "C" {

const char* heddle_version(void) { return HEDDLE_VERSION; }

const char* heddle_last_error(void) { return last_error.c_str(); }

const char* heddle_dtype_name(heddle_dtype dtype) {
  if (static_cast<unsigned int>(dtype) > HEDDLE_BOOLEAN) return "?";
  return heddle::to_string(static_cast<DType>(dtype)).data();
}

size_t heddle_dtype_size(heddle_dtype dtype) {
  return static_cast<unsigned int>(dtype) > HEDDLE_BOOLEAN ? 0 : heddle::size_of(static_cast<DType>(dtype));
}

heddle_status heddle_device_count(heddle_device_api api, size_t* count) {
  return guarded([&] {
    given(count, "the place for the count");
    heddle::runtime::gpu::DeviceList found = heddle::runtime::gpu::list_devices(api_of(api));
    if (found.devices.empty()) last_error = found.reason;
    std::vector<DeviceInfo>& list = listed_devices()[static_cast<std::size_t>(api)];
    list = std::move(found.devices);
    *count = list.size();
  });
}

heddle_status heddle_device(heddle_device_api api, size_t index, heddle_device_info* info) {
  return guarded([&] {
    api_of(api);
    const std::vector<DeviceInfo>& list = listed_devices()[static_cast<std::size_t>(api)];
    if (index >= list.size())
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("there is no device {}: heddle_device_count found {} in this thread", index, list.size()));
    describe(list[index], info);
  });
}

heddle_status heddle_model_load(const char* path, const heddle_load_options* options, heddle_model** model) {
  return guarded([&] {
    given(path, "the path");
    heddle_model*& result = given(model, "the place for the model");
    const heddle_load_options chosen = sized(options, heddle_load_options HEDDLE_LOAD_OPTIONS_INIT);
    auto loaded = std::make_unique<heddle_model>();
    loaded->model = heddle::runtime::Model::load(path, {.target = chosen.target == nullptr ? "" : chosen.target,
                                                        .device = chosen.device == nullptr ? "" : chosen.device});
    const heddle::plan::Function& main = loaded->model->main();
    for (const int v : main.inputs) loaded->inputs.emplace_back(main.values[static_cast<std::size_t>(v)]);
    for (const int v : main.outputs) loaded->outputs.emplace_back(main.values[static_cast<std::size_t>(v)]);
    result = loaded.release();
  });
}

void heddle_model_free(heddle_model* model) { delete model; }

const char* heddle_model_name(const heddle_model* model) {
  return model == nullptr ? "" : model->model->package().model.c_str();
}

const char* heddle_model_target(const heddle_model* model) {
  return model == nullptr ? "" : model->model->module().target.c_str();
}

heddle_status heddle_model_device(const heddle_model* model, heddle_device_info* info) {
  return guarded([&] {
    const auto* device = given(model, "the model").model->device();
    if (device == nullptr) throw Error(ErrorCode::not_found, "the model runs on the CPU");
    describe(device->device().info(), info);
  });
}

size_t heddle_model_input_count(const heddle_model* model) { return model == nullptr ? 0 : model->inputs.size(); }
size_t heddle_model_output_count(const heddle_model* model) { return model == nullptr ? 0 : model->outputs.size(); }

heddle_status heddle_model_input(const heddle_model* model, size_t index, heddle_tensor_info* info) {
  return guarded(
      [&] { given(info, "the place for the info") = at(given(model, "the model").inputs, "input", index).view(); });
}

heddle_status heddle_model_output(const heddle_model* model, size_t index, heddle_tensor_info* info) {
  return guarded(
      [&] { given(info, "the place for the info") = at(given(model, "the model").outputs, "output", index).view(); });
}

heddle_status heddle_model_input_index(const heddle_model* model, const char* name, size_t* index) {
  return guarded(
      [&] { given(index, "the place for the index") = find(given(model, "the model").inputs, "input", name); });
}

heddle_status heddle_model_output_index(const heddle_model* model, const char* name, size_t* index) {
  return guarded(
      [&] { given(index, "the place for the index") = find(given(model, "the model").outputs, "output", name); });
}

size_t heddle_model_symbol_count(const heddle_model* model) {
  return model == nullptr ? 0 : model->model->package().symbols.size();
}

heddle_status heddle_model_symbol(const heddle_model* model, size_t index, heddle_symbol_info* info) {
  return guarded([&] {
    const auto& symbols = given(model, "the model").model->package().symbols;
    if (index >= symbols.size())
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("there is no symbol {}: the model has {}", index, symbols.size()));
    given(info, "the place for the info") = {symbols[index].name.c_str(), symbols[index].min, symbols[index].max};
  });
}

heddle_status heddle_session_create(const heddle_model* model, const heddle_session_options* options,
                                    heddle_session** session) {
  return guarded([&] {
    given(model, "the model");
    heddle_session*& result = given(session, "the place for the session");
    const heddle_session_options chosen = sized(options, heddle_session_options HEDDLE_SESSION_OPTIONS_INIT);
    result =
        std::make_unique<heddle_session>(*model, heddle::runtime::SessionOptions{.threads = chosen.threads,
                                                                                 .spin_us = chosen.spin_us,
                                                                                 .pin = chosen.pin != 0,
                                                                                 .flush = chosen.keep_subnormals == 0,
                                                                                 .poison = chosen.poison != 0,
                                                                                 .profile = chosen.profile != 0})
            .release();
  });
}

void heddle_session_free(heddle_session* session) { delete session; }

heddle_status heddle_session_set_input(heddle_session* session, size_t index, const heddle_tensor* tensor) {
  return guarded([&] { given(session, "the session").session.set_input(index, to_host(given(tensor, "the tensor"))); });
}

heddle_status heddle_session_set_input_by_name(heddle_session* session, const char* name, const heddle_tensor* tensor) {
  return guarded([&] {
    heddle::runtime::Session& inner = given(session, "the session").session;
    given(name, "the name");
    const heddle::plan::Function& main = inner.model().main();
    std::vector<std::string> names;
    for (std::size_t i = 0; i < main.inputs.size(); ++i) {
      const heddle::plan::Value& value = main.values[static_cast<std::size_t>(main.inputs[i])];
      if (value.name == name) return inner.set_input(i, to_host(given(tensor, "the tensor")));
      names.push_back(value.name);
    }
    throw Error(ErrorCode::not_found,
                fmt::format("the model has no input '{}'{}", name, heddle::did_you_mean(name, names)));
  });
}

heddle_status heddle_session_set_output(heddle_session* session, size_t index, const heddle_tensor* tensor) {
  return guarded([&] {
    heddle::runtime::Session& inner = given(session, "the session").session;
    if (tensor == nullptr) return inner.set_output(index, {});
    const HostTensor host = to_host(*tensor);
    if (host.data == nullptr) throw Error(ErrorCode::invalid_argument, "the tensor has no data");
    inner.set_output(index, host);
  });
}

heddle_status heddle_session_run(heddle_session* session) {
  return guarded([&] { given(session, "the session").session.run(); });
}

heddle_status heddle_session_get_output(heddle_session* session, size_t index, heddle_tensor* tensor) {
  return guarded([&] {
    heddle_session& from = given(session, "the session");
    heddle_tensor& result = given(tensor, "the place for the tensor");
    const HostTensor host = from.session.output(index);
    const std::lock_guard lock(from.mutex);
    from.shapes.resize(from.session.model().main().outputs.size());
    from.shapes[index] = host.shape;
    result = {static_cast<heddle_dtype>(host.dtype), static_cast<std::int32_t>(host.shape.size()),
              from.shapes[index].data(), host.data};
  });
}

heddle_status heddle_session_profile(heddle_session* session, size_t* count, const heddle_step_time** steps) {
  return guarded([&] {
    heddle_session& from = given(session, "the session");
    given(count, "the place for the count");
    given(steps, "the place for the steps");
    if (!from.profiles)
      throw Error(ErrorCode::invalid_argument, "the session does not profile: set `profile` in its options");
    const std::lock_guard lock(from.mutex);
    const auto times = from.session.profile();
    const heddle::plan::Function& main = from.session.model().main();
    from.steps.clear();
    for (std::size_t s = 0; s < times.size(); ++s)
      from.steps.push_back({main.steps[s].label.c_str(), main.steps[s].name.c_str(), times[s].start_ns,
                            times[s].duration_ns, from.session.flops(s), from.session.bytes(s)});
    *count = from.steps.size();
    *steps = from.steps.data();
  });
}

}  // extern "C"
