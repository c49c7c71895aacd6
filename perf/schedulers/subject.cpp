#include "perf/schedulers/subject.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "autoscheduler/measure_memory.hpp"
#include "autoscheduler/measure_trial.hpp"
#include "base/error.hpp"
#include "base/file.hpp"
#include "dsl/check.hpp"
#include "dsl/halide_error.hpp"
#include "generators/kernel.hpp"
#include "generators/link.hpp"
#include "ops/catalog.hpp"
#include "perf/schedulers/loaded_kernel.hpp"
#include "runtime/memory.hpp"
#include "schedules/family.hpp"
#include "tools/operator_bench.hpp"

namespace heddle::perf {
namespace {

using autoscheduler::Descriptor;

DType dtype_of(const Halide::Type& type) {
  for (const DType dtype : {DType::f32, DType::u8, DType::u16, DType::i32})
    if (halide_type(dtype) == type) return dtype;
  throw Error(ErrorCode::unsupported, "an app has an element type that nothing here draws or compares");
}

std::string key_of(const std::string& content_key) { return "k_" + content_key.substr(0, 16); }

class WorkloadBuffers final : public KernelBuffers {
 public:
  WorkloadBuffers(const Workload& workload, const std::vector<Packing>& packings, const std::vector<Array>& inputs,
                  const Expectation& want, const WorkloadBuffers* beside)
      : workload_(workload),
        memory_(workload, packings, {}, beside == nullptr ? nullptr : &beside->memory_),
        inputs_(inputs),
        want_(want) {}

  void fill() override { memory_.fill(inputs_); }
  void** arguments(void* context) override { return memory_.arguments(context); }
  std::string difference() override {
    const auto outputs = memory_.outputs();
    std::string damage = memory_.damage();
    return damage.empty() ? heddle::difference(workload_, outputs, want_) : damage;
  }

 private:
  const Workload& workload_;
  autoscheduler::KernelMemory memory_;
  const std::vector<Array>& inputs_;
  const Expectation& want_;
};

class WorkloadSubject final : public Subject {
 public:
  WorkloadSubject(Workload workload, const Target& target)
      : workload_(std::move(workload)), target_(target), hand_(choose(workload_, target.machine)) {
    if (!workload_.symbols().empty())
      throw Error(ErrorCode::unsupported, "schedules are compared at fixed extents; this workload has symbolic ones");
    auto random = generator_for(1, workload_.text());
    inputs_ = draw_inputs(workload_, {}, Extremes::none, random);
    want_ = workload_.expect(inputs_);
  }

  std::string name() const override { return workload_.name(); }
  double flops() const override { return static_cast<double>(workload_.flops().value()); }

  BarePipeline bare() const override {
    Pipeline pipeline = workload_.instantiate();
    const auto set = [](auto&& dimension, const BufferDimension& d) {
      dimension.set_estimate(static_cast<int>(d.min.value()), static_cast<int>(d.extent.value()));
    };
    const auto inputs = workload_.input_views(), outputs = workload_.output_views();
    for (std::size_t i = 0; i < inputs.size(); ++i)
      for (std::size_t d = 0; d < inputs[i].dimensions.size(); ++d)
        set(pipeline.inputs[i].dim(static_cast<int>(d)), inputs[i].dimensions[d]);
    for (std::size_t o = 0; o < outputs.size(); ++o) {
      const auto arguments = pipeline.outputs[o].args();
      for (std::size_t d = 0; d < outputs[o].dimensions.size(); ++d) {
        const auto& dimension = outputs[o].dimensions[d];
        pipeline.outputs[o].set_estimate(arguments[d], static_cast<int>(dimension.min.value()),
                                         static_cast<int>(dimension.extent.value()));
      }
    }
    return {pipeline.outputs, pipeline.arguments()};
  }

  std::string hand_source() const override { return hand_.source; }
  std::string build_hand(int module) const override {
    return key_of(autoscheduler::build_kernel(workload_, hand_.implementation, target_, module));
  }
  std::string build_found(const std::string& schedule, int module) const override {
    return key_of(autoscheduler::build_kernel(workload_, Implementation::parse(schedule), target_, module));
  }
  std::shared_ptr<KernelBuffers> buffers(const std::string& schedule) const override {
    const auto packings = schedule.empty() ? std::vector<Packing>() : Implementation::parse(schedule).packings;
    auto made = std::make_shared<WorkloadBuffers>(workload_, packings, inputs_, want_, first_.get());
    if (first_ == nullptr) first_ = made;
    return made;
  }
  std::string hand_schedule() const override { return hand_.implementation.print(); }

 private:
  Workload workload_;
  Target target_;
  Choice hand_;
  std::vector<Array> inputs_;
  Expectation want_;
  mutable std::shared_ptr<const WorkloadBuffers> first_;  ///< that all the others lie beside
};

/// One set of buffers for all schedules of an app, which differ in nothing but time.
class AppBuffers final : public KernelBuffers {
 public:
  explicit AppBuffers(const App& app, const AppPipeline& pipeline) : tolerance_(app.tolerance) {
    for (std::size_t i = 0; i < pipeline.inputs.size(); ++i) {
      auto random = generator_for(1, app.name, i);
      const DType dtype = dtype_of(pipeline.inputs[i].type());
      add(dtype, pipeline.input_shapes[i]);
      inputs_.push_back(draw(dtype, shape_of(pipeline.input_shapes[i]), app.domain, Extremes::none, random));
    }
    Halide::Func out = pipeline.stages.back();
    add(dtype_of(out.types().at(0)), pipeline.shape);
    memory_ = runtime::Pages(bytes_);
    arguments_.push_back(&context_);
    for (Buffer& buffer : buffers_) {
      buffer.raw.dim = buffer.dimensions.data();
      buffer.raw.host = reinterpret_cast<std::uint8_t*>(memory_.data() + buffer.begin);
      arguments_.push_back(&buffer.raw);
    }
    want_ = Array(buffers_.back().dtype, buffers_.back().shape);
  }

  static Shape shape_of(const std::vector<int>& extents) { return {extents.rbegin(), extents.rend()}; }

  void fill() override {
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      std::memcpy(memory_.data() + buffers_[i].begin, inputs_[i].data(), inputs_[i].bytes());
    std::memset(memory_.data() + buffers_.back().begin, 0xFF, want_.bytes());
  }
  void** arguments(void* context) override {
    context_ = context;
    return arguments_.data();
  }
  std::string difference() override { return mismatch(output(), want_, tolerance_); }

  Array output() const {
    Array result(buffers_.back().dtype, buffers_.back().shape);
    std::memcpy(result.mutable_data(), memory_.data() + buffers_.back().begin, result.bytes());
    return result;
  }
  void expect(std::string_view bytes) {
    if (bytes.size() != want_.bytes()) throw Error(ErrorCode::internal, "the plain form's output has another size");
    std::memcpy(want_.mutable_data(), bytes.data(), bytes.size());
  }

 private:
  struct Buffer {
    DType dtype = DType::f32;
    Shape shape;
    std::vector<halide_dimension_t> dimensions;
    std::size_t begin = 0;
    halide_buffer_t raw{};
  };

  void add(DType dtype, const std::vector<int>& extents) {
    constexpr std::size_t gap = 4096 + 64;  // vectors may be read beyond the end; equal places in pages are slow
    Buffer buffer{.dtype = dtype, .shape = shape_of(extents), .begin = bytes_};
    std::int64_t stride = 1;
    for (const int extent : extents) {
      buffer.dimensions.emplace_back(0, extent, static_cast<int>(stride));
      stride *= extent;
    }
    buffer.raw.type = halide_type(dtype);
    buffer.raw.dimensions = static_cast<int>(extents.size());
    bytes_ += (static_cast<std::size_t>(stride) * size_of(dtype) + 63) / 64 * 64 + gap;
    buffers_.push_back(std::move(buffer));
  }

  Tolerance tolerance_;
  std::vector<Buffer> buffers_;
  std::size_t bytes_ = 0;
  runtime::Pages memory_;
  std::vector<Array> inputs_;
  Array want_;
  void* context_ = nullptr;
  std::vector<void*> arguments_;
};

/// The same buffers for the app as a workload, whose operands may come in another order.
class ReorderedBuffers final : public KernelBuffers {
 public:
  ReorderedBuffers(std::shared_ptr<KernelBuffers> buffers, std::vector<std::size_t> order)
      : buffers_(std::move(buffers)), order_(std::move(order)), arguments_(order_.size() + 2) {}

  void fill() override { buffers_->fill(); }
  void** arguments(void* context) override {
    void** const own = buffers_->arguments(context);
    arguments_.front() = own[0];
    for (std::size_t i = 0; i < order_.size(); ++i) arguments_[i + 1] = own[order_[i] + 1];
    arguments_.back() = own[order_.size() + 1];
    return arguments_.data();
  }
  std::string difference() override { return buffers_->difference(); }

 private:
  std::shared_ptr<KernelBuffers> buffers_;
  std::vector<std::size_t> order_;
  std::vector<void*> arguments_;
};

class AppSubject final : public Subject {
 public:
  AppSubject(const App& app, int width, int height, const Target& target, int threads, bool as_workload)
      : app_(app), width_(width), height_(height), threads_(threads), target_(target) {
    AppPipeline pipeline = app.instantiate(width, height);
    buffers_ = std::make_shared<AppBuffers>(app, pipeline);
    compute_plainly();
    if (!as_workload) return;
    // By way of a file, as heddle tune has it.
    const TemporaryDirectory directory;
    const std::string file = (directory.path() / (app.name + ".hlpipe")).string();
    Halide::serialize_pipeline(Halide::Pipeline(pipeline.output()), file);
    workload_ = tools::operator_workload(tools::operator_request(operators_, file, "", {}), target, threads);
    for (const auto& operand : workload_->inputs()) {
      const auto reads = [&](const Halide::ImageParam& input) {
        // Halide numbers names that it has seen before.
        return input.name().substr(0, input.name().find('$')) == operand.role;
      };
      const auto at = std::find_if(pipeline.inputs.begin(), pipeline.inputs.end(), reads);
      if (at == pipeline.inputs.end())
        throw Error(ErrorCode::internal, fmt::format("{} has no input '{}'", app.name, operand.role));
      order_.push_back(static_cast<std::size_t>(at - pipeline.inputs.begin()));
      // A workload's operand is what is read of an input, from the first element that is: the buffers are the same only
      // if the app reads all of it.
      const Shape shape = AppBuffers::shape_of(pipeline.input_shapes[order_.back()]);
      const TensorType& read = workload_->input_type(operand.role);
      if (const TensorType all = tensor(dtype_of(at->type()), {shape.begin(), shape.end()}); read != all)
        throw Error(ErrorCode::internal, fmt::format("{} reads {} of its input '{}', which is {}", app.name, read.str(),
                                                     operand.role, all.str()));
    }
  }

  std::string name() const override { return app_.name; }

  BarePipeline bare() const override {
    AppPipeline pipeline = app_.instantiate(width_, height_);
    return {{pipeline.output()}, pipeline.arguments()};
  }

  std::string hand_source() const override { return "by hand"; }
  std::string build_hand(int module) const override {
    AppPipeline pipeline = app_.instantiate(width_, height_);
    pipeline.hand(target_.machine, threads_);
    build_pipeline({{pipeline.output()}, pipeline.arguments()}, "hand", target_, false, module);
    return "hand";
  }
  std::string build_found(const std::string& schedule, int module) const override {
    return key_of(autoscheduler::build_kernel(workload_.value(), Implementation::parse(schedule), target_, module));
  }
  std::shared_ptr<KernelBuffers> buffers(const std::string& schedule) const override {
    if (schedule.empty()) return buffers_;
    return std::make_shared<ReorderedBuffers>(buffers_, order_);
  }

 private:
  /// What every schedule has to compute. Halide's checks are on: they would find reads outside of the inputs.
  void compute_plainly() {
    const Descriptor result = autoscheduler::anonymous_file("plain");
    const auto task = [&]() -> Json {
      const Descriptor module = autoscheduler::anonymous_file("plain-module");
      AppPipeline pipeline = app_.instantiate(width_, height_);
      pipeline.schedule_plainly();
      build_pipeline({{pipeline.output()}, pipeline.arguments()}, "plain", target_, true, module.get());
      LoadedKernel kernel(module.get(), "plain", 1, buffers_);
      buffers_->fill();
      kernel.run();
      const Array output = buffers_->output();
      autoscheduler::write_all(result.get(), {static_cast<const char*>(output.data()), output.bytes()});
      return true;
    };
    const auto outcome = run_isolated(task, 120);
    if (outcome.status != autoscheduler::TrialStatus::ok)
      throw Error(ErrorCode::internal, fmt::format("the plain form of {}: {}", app_.name, outcome.message));
    buffers_->expect(autoscheduler::contents(result.get()));
  }

  const App& app_;
  int width_, height_, threads_;
  Target target_;
  std::shared_ptr<AppBuffers> buffers_;
  Operators operators_;
  std::optional<Workload> workload_;  ///< for schedules from files
  std::vector<std::size_t> order_;    ///< which of the app's inputs each operand of the workload is
};

}  // namespace

std::unique_ptr<Subject> workload_subject(Workload workload, const Target& target) {
  return std::make_unique<WorkloadSubject>(std::move(workload), target);
}

std::unique_ptr<Subject> app_subject(const App& app, int width, int height, const Target& target, int threads,
                                     bool as_workload) {
  return std::make_unique<AppSubject>(app, width, height, target, threads, as_workload);
}

void build_pipeline(const BarePipeline& bare, const std::string& symbol, const Target& target, bool asserts,
                    int module) {
  Halide::Target flags = target.halide;
  if (!asserts) flags.set_features({Halide::Target::NoAsserts, Halide::Target::NoBoundsQuery});
  const std::string object = translate_halide_errors(symbol, [&] {
    Halide::Module lowered =
        Halide::Pipeline(bare.outputs)
            .compile_to_module(bare.arguments, symbol, flags, Halide::LinkageType::ExternalPlusArgv);
    const Halide::Buffer<std::uint8_t> bytes = lowered.compile_to_buffer();
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size_in_bytes());
  });
  if (!autoscheduler::write_all(module, link_module({object}, target)))
    throw Error(ErrorCode::io, "cannot write a kernel's shared object");
}

}  // namespace heddle::perf
