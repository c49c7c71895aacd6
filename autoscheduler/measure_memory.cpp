#include "autoscheduler/measure_memory.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/error.hpp"
#include "runtime/gpu/recorder.hpp"

namespace heddle::autoscheduler {
namespace {

constexpr std::byte poison{0xFF};  // NaN in every float type
// Around outputs something else: a kernel that computes on beyond both its input and its output adds to NaNs, and their
// bits stay what they were.
constexpr std::byte output_guard{0xA5};
// Half of it belongs to the buffer before and half to the one behind. Wide enough for a row or a tile that leaves its
// buffer, and no multiple of a page: buffers that lie at equal offsets in their pages are slower than a real arena's.
std::size_t guard_for(std::size_t alignment) { return (std::size_t{64} << 10) + 6 * alignment; }

}  // namespace

KernelMemory::KernelMemory(const Workload& workload, const std::vector<Packing>& packings, const SymbolValues& symbols,
                           const KernelMemory* beside, std::size_t alignment)
    : symbols_(symbols),
      alignment_(alignment),
      guard_(guard_for(alignment)),
      packings_(packings),
      infos_(workload.inputs()) {
  const auto& composition = workload.composition();
  const auto input_views = workload.input_views(packings_);
  data_.bytes = constants_.bytes = guard_;
  for (std::size_t i = 0; i < input_views.size(); ++i) {
    Region region{.role = infos_[i].role, .view = input_views[i], .type = composition.inputs[i].type};
    region.info = &infos_[i];
    region.constant = composition.inputs[i].constant;
    const auto packing =
        std::find_if(packings_.begin(), packings_.end(), [&](const Packing& p) { return p.operand == region.role; });
    if (packing != packings_.end()) region.packing = &*packing;
    add(std::move(region));
  }
  const auto output_views = workload.output_views();
  const auto output_types = workload.output_types();
  for (std::size_t o = 0; o < output_views.size(); ++o)
    add({.role = output_views[o].role, .view = output_views[o], .type = output_types[o], .output = true});
  if (beside != nullptr) {
    arena_ = beside->arena_;
    own_ = runtime::Pages(constants_.bytes);
    constants_.start = own_.data();
  } else {
    arena_ = std::make_shared<runtime::Pages>(data_.bytes + constants_.bytes);
    constants_.start = arena_->data() + data_.bytes;
  }
  data_.start = arena_->data();

  arguments_.push_back(&context_);
  for (const auto& name : workload.symbols()) {
    scalars_.push_back(static_cast<int>(symbols_.at(name)));
    arguments_.push_back(&scalars_.back());
  }
  for (const Region& region : regions_) {
    auto& dimensions = dimensions_.emplace_back();
    for (const auto& d : region.view.dimensions)
      dimensions.emplace_back(static_cast<int>(d.min.evaluate(symbols_)), static_cast<int>(d.extent.evaluate(symbols_)),
                              static_cast<int>(d.stride.evaluate(symbols_)));
    halide_buffer_t buffer{};
    buffer.type = halide_type(region.view.dtype);
    buffer.dimensions = static_cast<int>(dimensions.size());
    buffer.dim = dimensions.data();
    const auto offset = static_cast<std::size_t>(region.view.offset.evaluate(symbols_)) * size_of(region.view.dtype);
    buffer.host = reinterpret_cast<std::uint8_t*>(start(region) + offset);
    buffers_.push_back(buffer);
    arguments_.push_back(&buffers_.back());
  }
}

void KernelMemory::add(Region region) {
  region.shape = shape_of(region.type, symbols_);
  Zone& zone = region.constant ? constants_ : data_;
  region.begin = zone.bytes;
  region.bytes = static_cast<std::size_t>(region.view.elements.evaluate(symbols_)) * size_of(region.view.dtype);
  zone.bytes = aligned(region.begin + region.bytes) + guard_;
  regions_.push_back(std::move(region));
}

runtime::TensorView KernelMemory::logical(const Region& region) const {
  runtime::TensorView view{.dtype = region.type.dtype, .data = nullptr, .shape = region.shape};
  for (const auto& stride : region.type.strides()) view.strides.push_back(stride.evaluate(symbols_));
  for (int d = 0; d < region.type.rank(); ++d) {
    view.border_before.push_back(region.type.border(d).before);
    view.border_after.push_back(region.type.border(d).after);
  }
  const auto origin = static_cast<std::size_t>(region.type.origin().evaluate(symbols_));
  view.data = start(region) + origin * size_of(region.type.dtype);
  return view;
}

void KernelMemory::fill(const std::vector<Array>& inputs) {
  for (const Zone* zone : {&data_, &constants_}) std::fill_n(zone->start, zone->bytes, poison);
  for (const Region& region : regions_) {
    if (!region.output) continue;
    std::fill_n(start(region) - guard_ / 2, guard_ / 2, output_guard);
    std::fill_n(start(region) + region.bytes, guard_ / 2, output_guard);
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Region& region = regions_[i];
    if (region.packing != nullptr) {
      const Array packed = pack(inputs[i], *region.info, *region.packing);
      if (packed.bytes() != region.bytes)
        throw Error(ErrorCode::internal,
                    fmt::format("{} packed bytes do not fill a buffer of {}", packed.bytes(), region.bytes));
      std::memcpy(start(region), packed.data(), packed.bytes());
      continue;
    }
    const runtime::TensorView to = logical(region);
    runtime::BorderPlan(to, region.type.layout.border_value).run(to.data);
    Array from = inputs[i];
    runtime::copy_elements(runtime::view_of(from), to);
  }
  for (Zone* zone : {&data_, &constants_}) zone->image.assign(zone->start, zone->start + zone->bytes);
}

std::vector<Array> KernelMemory::outputs() {
  std::vector<Array> results;
  for (const Region& region : regions_) {
    if (!region.output) continue;
    const runtime::TensorView view = logical(region);
    Array result(region.type.dtype, region.shape), forgotten(region.type.dtype, region.shape);
    runtime::copy_elements(view, runtime::view_of(result));
    std::memset(forgotten.mutable_data(), std::to_integer<int>(poison), forgotten.bytes());
    runtime::copy_elements(runtime::view_of(forgotten), view);
    results.push_back(std::move(result));
  }
  return results;
}

std::string KernelMemory::damage() {
  std::string found = damage(data_);
  return found.empty() ? damage(constants_) : found;
}

std::string KernelMemory::damage(const Zone& zone) const {
  const auto [now, before] = std::mismatch(zone.start, zone.start + zone.bytes, zone.image.begin(), zone.image.end());
  if (before == zone.image.end()) return "";
  const auto at = static_cast<std::size_t>(now - zone.start);
  for (const Region& region : regions_) {
    if (&this->zone(region) != &zone) continue;
    if (at >= region.begin && at < region.begin + region.bytes)
      return region.output ? fmt::format("the border of {} was written", region.role)
                           : fmt::format("input {} was written", region.role);
    if (at < region.begin) return fmt::format("memory before {} was written", region.role);
    if (at < region.begin + region.bytes + guard_ / 2) return fmt::format("memory behind {} was written", region.role);
  }
  return "memory outside of all buffers was written";
}

void** KernelMemory::arguments(void* context) {
  context_ = context;
  return arguments_.data();
}

void KernelMemory::place_on_device(std::uint32_t memory) {
  for (std::size_t i = 0; i < regions_.size(); ++i) {
    const Region& region = regions_[i];
    const auto offset = static_cast<std::size_t>(region.view.offset.evaluate(symbols_)) * size_of(region.view.dtype);
    const auto begin = static_cast<std::size_t>(start(region) - data_.start);
    buffers_[i].device = runtime::gpu::Address{memory, begin + offset}.encoded();
    buffers_[i].host = nullptr;
  }
}

}  // namespace heddle::autoscheduler
