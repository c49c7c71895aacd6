#include "runtime/gpu/replay.hpp"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"
#include "runtime/gpu/sides.hpp"
#include "runtime/log.hpp"

namespace heddle::runtime::gpu {
namespace {

using plan::StepKind;
using plan::Storage;

std::uint64_t round_up(std::uint64_t n, std::uint64_t to) { return (n + to - 1) / to * to; }

std::int64_t now_ns() {
  struct ::timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return std::int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

bool is_transfer(const plan::Step& step) { return step.kind == StepKind::upload || step.kind == StepKind::download; }

}  // namespace

Replay::Replay(const DeviceModule& module, const BoundFunction& main, Workspace& workspace, KernelCall& call,
               bool profile)
    : module_(module), main_(main), profile_(profile), process_(::getpid()) {
  mark_values();
  Recorder recorder(call, module_.entries(), module_.device().info(), memory_bytes_);
  for (Segment& segment : cut(main_)) {
    Part& part = parts_.emplace_back();
    for (std::size_t s = segment.first; segment.on_device && s < segment.last; ++s) {
      part.launches.push_back(recorder.launches());
      const plan::Step& step = main_.function().steps[s];
      if (!step.on_device) continue;
      log_debug("recording step {} ({}), kernel '{}'", s, step.label, step.name);
      main_.record(s, call);
    }
    part.launches.push_back(recorder.launches());
    part.segment = std::move(segment);
  }
  place(recorder.scratch_bytes(), workspace);
  const std::vector<Launch> launches = recorder.placed(places_);
  for (Part& part : parts_)
    if (part.segment.on_device)
      connect(part, std::span(launches).subspan(part.launches.front(), part.launches.back() - part.launches.front()));
}

Replay::~Replay() = default;

void Replay::mark_values() {
  const plan::Function& function = main_.function();
  const DeviceInfo& info = module_.device().info();
  memory_bytes_.assign(main_.constant_memory() + module_.memories().size(), 0);
  if (memory_bytes_.size() > Address::most_memories)
    throw Error(ErrorCode::unsupported, fmt::format("the model has {} inputs, outputs and parts of its weights; on a "
                                                    "device at most {} are possible",
                                                    memory_bytes_.size(), Address::most_memories));
  host_uses_.assign(function.values.size(), false);
  device_has_.assign(function.values.size(), false);

  Sides sides(function);
  for (const plan::Step& step : function.steps) {
    sides.step(step);
    const bool of_device = step.on_device || is_transfer(step);
    host_kernels_ = host_kernels_ || !of_device;
    for (const auto* list : {&step.inputs, &step.outputs})
      for (const plan::Argument& argument : *list) {
        if (argument.value < 0) continue;
        const auto at = main_.allocation(static_cast<std::size_t>(argument.value));
        if (!of_device) {
          host_uses_[at.value] = true;
          continue;
        }
        const bool arena = at.device.memory == BoundFunction::arena_memory;
        memory_bytes_[at.device.memory] =
            std::max(round_up(arena ? main_.arena_end() : at.bytes, info.alignment), info.alignment);
      }
  }
  for (std::size_t c = 0; c < module_.memories().size(); ++c)
    memory_bytes_[main_.constant_memory() + c] = module_.memories()[c]->bytes();
  memory_bytes_[Recorder::scratch_memory] = 0;

  // What is returned from elsewhere than where it was written is copied by the host.
  for (auto output = function.outputs.begin(); output != function.outputs.end(); ++output) {
    const bool written_there = function.values[static_cast<std::size_t>(*output)].storage == Storage::output &&
                               std::find(function.outputs.begin(), output, *output) == output;
    if (!written_there) host_uses_[main_.allocation(static_cast<std::size_t>(*output)).value] = true;
  }
  device_has_after_run_ = device_has_;
  for (std::size_t v = 0; v < function.values.size(); ++v)
    device_has_after_run_[v] = sides.on_device(v) && !sides.on_host(v);
}

void Replay::place(std::uint64_t scratch_bytes, Workspace& workspace) {
  const DeviceInfo& info = module_.device().info();
  scratch_bytes_ = scratch_bytes;
  memory_bytes_[Recorder::scratch_memory] = scratch_bytes;
  places_.assign(memory_bytes_.size(), {});
  // One memory for all where the device allows that; else as few as its limit does.
  std::vector<std::uint64_t> sizes;
  std::vector<std::size_t> memory_of(memory_bytes_.size(), 0);
  for (std::uint32_t m = 0; m < main_.constant_memory(); ++m) {
    const std::uint64_t bytes = memory_bytes_[m];
    if (bytes == 0) continue;
    if (bytes > info.most_allocation_bytes)
      throw Error(ErrorCode::unsupported,
                  fmt::format("these input shapes need {} bytes in one piece, and {} takes at most {}: use smaller "
                              "inputs or another device",
                              bytes, info.name, info.most_allocation_bytes));
    if (sizes.empty() || sizes.back() + bytes > info.most_allocation_bytes) sizes.push_back(0);
    memory_of[m] = sizes.size() - 1;
    places_[m].offset = sizes.back();
    sizes.back() += bytes;
  }
  memories_ = workspace.memories(sizes);
  for (std::uint32_t m = 0; m < main_.constant_memory(); ++m)
    if (memory_bytes_[m] != 0) places_[m].memory = memories_[memory_of[m]].get();
  for (std::size_t c = 0; c < module_.memories().size(); ++c)
    places_[main_.constant_memory() + c] = {module_.memories()[c].get(), 0};

  // A discrete device's memory may be seen by the host, across the bus: reading there is slower than a copy.
  shared_ = info.kind != DeviceInfo::Kind::discrete &&
            std::ranges::all_of(memories_, [](const auto& memory) { return memory->host() != nullptr; });
  const Recorder::Place& arena = places_[BoundFunction::arena_memory];
  if (shared_ && arena.memory != nullptr) arena_ = arena.memory->host() + arena.offset;
  if (shared_) return;
  std::uint64_t staged = 0;
  for (const Part& part : parts_) {
    std::uint64_t bytes = 0;
    for (const auto* list : {&part.segment.uploads, &part.segment.downloads})
      for (const std::size_t v : *list) bytes += round_up(main_.allocation(v).bytes, info.alignment);
    staged = std::max(staged, bytes);
  }
  if (staged > 0) staging_ = workspace.staging(staged);
}

Recorder::Place Replay::place_of(std::size_t value) const {
  const BoundFunction::Allocation at = main_.allocation(value);
  Recorder::Place place = places_[at.device.memory];
  // Values that are not on the device have its number.
  if (at.device.memory == Recorder::scratch_memory) return {};
  place.offset += at.device.offset;
  return place;
}

void Replay::connect(Part& part, std::span<const Launch> launches) {
  const DeviceInfo& info = module_.device().info();
  Commands commands{
      .uploads = {}, .launches = {launches.begin(), launches.end()}, .downloads = {}, .timestamps = profile_};
  std::uint64_t staged = 0;
  const auto transfer = [&](std::size_t v, std::vector<Transfer>& list, std::vector<Copy>& copies, bool up) {
    const std::uint64_t bytes = main_.allocation(v).bytes;
    if (bytes == 0) return;
    const Recorder::Place place = place_of(v);
    if (shared_) {
      list.push_back({v, place.memory->host() + place.offset, bytes});
      return;
    }
    const Binding there{place.memory, place.offset, bytes}, here{staging_.get(), staged, bytes};
    list.push_back({v, staging_->host() + staged, bytes});
    copies.push_back(up ? Copy{here, there} : Copy{there, here});
    staged += round_up(bytes, info.alignment);
  };
  for (const std::size_t v : part.segment.uploads) transfer(v, part.in, commands.uploads, true);
  for (const std::size_t v : part.segment.downloads) transfer(v, part.out, commands.downloads, false);
  if (!commands.uploads.empty() || !commands.launches.empty() || !commands.downloads.empty())
    part.program = module_.device().record(commands);
}

void Replay::run(KernelCall& call, std::span<StepTime> times) {
  if (::getpid() != process_)
    throw Error(ErrorCode::device,
                fmt::format("a child of fork() cannot use {}, which its parent has opened: load the model in the child",
                            module_.device().info().name));
  const std::int64_t begin = times.empty() ? 0 : now_ns();
  for (Part& part : parts_) {
    if (part.segment.on_device) run_part(part, times, begin);
    else run_host(part.segment.first, call, times, begin);
  }
  main_.copy_outputs();
  device_has_ = device_has_after_run_;
}

void Replay::run_host(std::size_t step, KernelCall& call, std::span<StepTime> times, std::int64_t begin_ns) {
  const std::int64_t start = times.empty() ? 0 : now_ns();
  main_.run_step(step, call);
  if (!times.empty()) times[step] = {.start_ns = start - begin_ns, .duration_ns = now_ns() - start};
}

std::string Replay::describe_submission(const Part& part) const {
  std::vector<std::string> kernels;
  for (std::size_t s = part.segment.first; s < part.segment.last; ++s)
    if (const plan::Step& step = main_.function().steps[s]; step.on_device) kernels.push_back(step.name);
  return fmt::format("submitting steps {} to {} for the first time to {}: {}", part.segment.first,
                     part.segment.last - 1, module_.device().info().name, fmt::join(kernels, ", "));
}

void Replay::run_part(Part& part, std::span<StepTime> times, std::int64_t begin_ns) {
  // In shared memory a value of the arena is where it has to be.
  for (const Transfer& in : part.in)
    if (const std::byte* from = main_.allocation(in.value).host; from != in.other)
      std::memcpy(in.other, from, in.bytes);
  const std::int64_t start = times.empty() ? 0 : now_ns();
  if (part.program != nullptr) {
    if (!part.submitted && logs_debug()) write_debug(describe_submission(part));
    part.submitted = true;
    part.program->submit();
    part.program->wait();
  }
  for (const Transfer& out : part.out)
    if (std::byte* to = main_.allocation(out.value).host; to != out.other) std::memcpy(to, out.other, out.bytes);
  if (!times.empty()) set_times(part, start - begin_ns, times);
}

void Replay::set_times(const Part& part, std::int64_t start_ns, std::span<StepTime> times) const {
  const std::vector<Program::Interval> intervals =
      part.program != nullptr ? part.program->intervals() : std::vector<Program::Interval>();
  for (std::size_t s = part.segment.first; s < part.segment.last; ++s) {
    times[s] = {.start_ns = start_ns, .duration_ns = 0};
    const std::size_t all = part.launches.front(), step = s - part.segment.first;
    const std::size_t first = part.launches[step] - all;
    const std::size_t last = std::min(part.launches[step + 1] - all, intervals.size());
    if (first >= last) continue;
    times[s].start_ns += intervals[first].start_ns;
    for (std::size_t i = first; i < last; ++i) times[s].duration_ns += intervals[i].duration_ns;
  }
}

void Replay::poison() {
  constexpr std::uint64_t most = std::uint64_t{1} << 20;
  static const std::vector<std::byte> pattern(most, std::byte{0xFF});
  const auto fill = [&](std::uint32_t memory) {
    const Recorder::Place& place = places_[memory];
    if (place.memory == nullptr) return;
    for (std::uint64_t done = 0; done < memory_bytes_[memory]; done += most)
      module_.device().write(*place.memory, place.offset + done, pattern.data(),
                             std::min(most, memory_bytes_[memory] - done));
  };
  fill(Recorder::scratch_memory);
  fill(BoundFunction::arena_memory);
  for (std::size_t o = 0; o < main_.function().outputs.size(); ++o) fill(main_.output_memory(o));
}

Program& Replay::step_program(std::size_t step, KernelCall& call) {
  std::unique_ptr<Program>& program = step_programs_[step];
  if (program == nullptr) {
    Recorder recorder(call, module_.entries(), module_.device().info(), memory_bytes_);
    log_debug("recording step {} ({}), kernel '{}', alone", step, main_.function().steps[step].label,
              main_.function().steps[step].name);
    main_.record(step, call);
    if (recorder.scratch_bytes() > scratch_bytes_)
      throw Error(ErrorCode::internal, "a kernel wants more scratch memory than when it was first recorded");
    program = module_.device().record({.launches = recorder.placed(places_), .timestamps = profile_});
  }
  return *program;
}

void Replay::run_step(std::size_t step, KernelCall& call) {
  const plan::Step& of = main_.function().steps[step];
  if (is_transfer(of)) {
    const auto v = static_cast<std::size_t>(of.inputs[0].value);
    const BoundFunction::Allocation at = main_.allocation(v);
    const Recorder::Place place = place_of(v);
    if (of.kind == StepKind::upload) module_.device().write(*place.memory, place.offset, at.host, at.bytes);
    else module_.device().read(*place.memory, place.offset, at.host, at.bytes);
    device_has_[at.value] = false;
    return;
  }
  if (of.on_device) {
    Program& program = step_program(step, call);
    program.submit();
    program.wait();
  } else {
    main_.run_step(step, call);
  }
  for (const plan::Argument& output : of.outputs)
    device_has_[main_.allocation(static_cast<std::size_t>(output.value)).value] = of.on_device;
}

std::vector<std::byte> Replay::read(std::size_t value) const {
  const BoundFunction::Allocation at = main_.allocation(value);
  std::vector<std::byte> bytes(at.bytes);
  if (only_on_device(value)) {
    const Recorder::Place place = place_of(value);
    module_.device().read(*place.memory, place.offset, bytes.data(), at.bytes);
  } else if (at.bytes > 0) {
    std::memcpy(bytes.data(), at.host, at.bytes);
  }
  return bytes;
}

void Replay::write(std::size_t value, std::span<const std::byte> bytes) {
  const BoundFunction::Allocation at = main_.allocation(value);
  if (bytes.empty()) return;
  std::memcpy(at.host, bytes.data(), bytes.size());
  const Recorder::Place place = place_of(value);
  if (place.memory != nullptr) module_.device().write(*place.memory, place.offset, bytes.data(), bytes.size());
  device_has_[at.value] = false;
}

}  // namespace heddle::runtime::gpu
