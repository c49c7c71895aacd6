#include "runtime/gpu/segments.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "runtime/gpu/sides.hpp"

namespace heddle::runtime::gpu {
namespace {

using plan::StepKind;

/// Bytes of one memory of a recording.
struct Range {
  std::uint32_t memory = 0;
  std::uint64_t begin = 0, end = 0;
};

bool overlap(const std::vector<Range>& ranges, const Range& with) {
  return std::ranges::any_of(
      ranges, [&](const Range& r) { return r.memory == with.memory && r.begin < with.end && with.begin < r.end; });
}

class Cutter {
 public:
  explicit Cutter(const BoundFunction& main) : main_(main), function_(main.function()), sides_(function_) {}

  std::vector<Segment> run() {
    for (std::size_t s = 0; s < function_.steps.size(); ++s) {
      const plan::Step& step = function_.steps[s];
      sides_.step(step);
      if (step.kind == StepKind::upload) upload(s, value_of(step.inputs[0]));
      else if (step.kind == StepKind::download) download(s, value_of(step.inputs[0]));
      else if (step.on_device) kernel(s, step);
      else host(s);
    }
    for (const int output : function_.outputs) {
      const auto v = main_.allocation(static_cast<std::size_t>(output)).value;
      if (sides_.on_host(v) || !sides_.on_device(v)) continue;
      std::vector<std::size_t>& downloads = segments_[written_.at(v)].downloads;
      if (std::ranges::find(downloads, v) == downloads.end()) downloads.push_back(v);
    }
    return std::move(segments_);
  }

 private:
  std::size_t value_of(const plan::Argument& argument) const {
    return main_.allocation(static_cast<std::size_t>(argument.value)).value;
  }

  Range range(std::size_t v) const {
    const BoundFunction::Allocation at = main_.allocation(v);
    return {at.device.memory, at.device.offset, at.device.offset + at.bytes};
  }

  void host(std::size_t s) {
    segments_.push_back({.on_device = false, .first = s, .last = s + 1});
    open_ = false;
  }

  Segment& begin(std::size_t s) {
    segments_.push_back({.on_device = true, .first = s, .last = s});
    touched_.clear();
    downloaded_.clear();
    open_ = true;
    return segments_.back();
  }

  /// The segment that step s becomes a part of.
  Segment& take(std::size_t s, bool joins) {
    Segment& segment = open_ && joins ? segments_.back() : begin(s);
    segment.last = s + 1;
    return segment;
  }

  void upload(std::size_t s, std::size_t v) {
    Segment& segment = take(s, !overlap(touched_, range(v)));
    segment.uploads.push_back(v);
    touched_.push_back(range(v));
    uploaded_.insert(v);
  }

  void download(std::size_t s, std::size_t v) {
    Segment& segment = take(s, true);
    segment.downloads.push_back(v);
    touched_.push_back(range(v));
    downloaded_.push_back(range(v));
  }

  void kernel(std::size_t s, const plan::Step& step) {
    const bool joins = std::ranges::none_of(
        step.outputs, [&](const plan::Argument& argument) { return overlap(downloaded_, range(value_of(argument))); });
    Segment& segment = take(s, joins);
    for (const auto* list : {&step.inputs, &step.outputs})
      for (const plan::Argument& argument : *list) {
        const std::size_t v = value_of(argument);
        touched_.push_back(range(v));
        // An input's memory holds nothing else, so it can come before everything.
        if (function_.values[v].storage == plan::Storage::input && uploaded_.insert(v).second)
          segment.uploads.push_back(v);
        if (list == &step.outputs) written_[v] = segments_.size() - 1;
      }
  }

  const BoundFunction& main_;
  const plan::Function& function_;
  Sides sides_;
  std::vector<Segment> segments_;
  bool open_ = false;
  std::vector<Range> touched_, downloaded_;     ///< by the open segment
  std::set<std::size_t> uploaded_;              ///< values
  std::map<std::size_t, std::size_t> written_;  ///< value -> the last segment that writes it
};

}  // namespace

std::vector<Segment> cut(const BoundFunction& main) { return Cutter(main).run(); }

}  // namespace heddle::runtime::gpu
