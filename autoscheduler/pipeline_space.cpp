#include <algorithm>
#include <map>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include "autoscheduler/device_sketches.hpp"
#include "autoscheduler/lowered_estimate.hpp"
#include "autoscheduler/subject.hpp"
#include "base/error.hpp"

namespace heddle::autoscheduler {
namespace {

constexpr double most_written = 2000;  // operations of one expression: Halide walks it as a tree, in every pass

class PipelineSpace final : public Space {
 public:
  PipelineSpace(const Workload& workload, const Machine& machine, bool families, std::function<bool()> stop)
      : subject_(make_subject(workload, machine)) {
    subject_.stop = std::move(stop);
    if (machine.gpu) {
      add(device_blocks_sketch(subject_));
      add(device_groups_sketch(subject_));
      add(device_flat_sketch(subject_));
    } else {
      add(tiled_sketch(subject_));
      add(staged_sketch(subject_));
      add(rows_sketch(subject_));
    }
    first_family_ = rules_.size();
    if (families)
      for (auto& family : family_sketches(subject_)) rules_.push_back(std::move(family));
    for (const auto& rule : rules_) {
      const Sketch& sketch = rule->sketch();
      if (std::ranges::find(sketches_, sketch.name, &Sketch::name) != sketches_.end())
        throw Error(ErrorCode::internal,
                    fmt::format("two sketches are called {}: records could mean either", sketch.name));
      sketches_.push_back(sketch);
    }
    if (rules_.empty())
      throw Error(
          ErrorCode::unsupported,
          fmt::format("no structure of loops is known for workload {}; tune it with the families", workload.name()));
    // Tens of thousands of points are weighed for them: once.
    defaults_ = all_defaults();
    subject_.stop = {};
  }

  const std::vector<Sketch>& sketches() const override { return sketches_; }
  std::variant<Candidate, Pruned> emit(const Point& point) const override {
    auto made = rules_.at(point.sketch)->emit(point.values);
    if (auto* candidate = std::get_if<Candidate>(&made)) {
      candidate->features["sketch"] = static_cast<double>(point.sketch);
      if (const StageNode* stage = overlong_stage(candidate->implementation))
        return Pruned{fmt::format("{} would be too long an expression", stage->role)};
    }
    return made;
  }

  void count(Candidate& candidate) const override {
    if (subject_.machine.gpu) return;
    candidate.estimate =
        lowered_seconds(*subject_.workload, candidate.implementation, subject_.machine, candidate.features);
  }

  std::vector<Point> defaults() const override { return defaults_; }

 private:
  void add(std::unique_ptr<SketchRule> rule) {
    if (rule) rules_.push_back(std::move(rule));
  }

  /// A stage whose expression, with all that is inlined into it written out, takes Halide minutes to lower.
  const StageNode* overlong_stage(const Implementation& implementation) const {
    std::set<std::string_view> computed;
    for (const ScheduleLine& line : implementation.schedule.lines) computed.insert(line.stage);
    std::map<std::string_view, double> lengths;
    for (const StageNode& stage : subject_.dependences.stages) {
      double length = 1 + stage.pure_operations + stage.update_operations;
      for (const Access& access : stage.accesses)
        if (const auto inlined = lengths.find(access.source); inlined != lengths.end()) length += inlined->second;
      if (length > most_written) return &stage;
      if (!computed.contains(stage.role)) lengths[stage.role] = length;
    }
    return nullptr;
  }

  std::vector<Point> all_defaults() const {
    // What is used without a search comes first; then the first of each structure, the second of each...: none is
    // certain to be the best. Families further down the table are more general than the one that is used.
    std::vector<std::size_t> order;
    if (first_family_ < rules_.size()) order.push_back(first_family_);
    for (std::size_t r = 0; r < first_family_; ++r) order.push_back(r);
    std::vector<Point> points;
    std::vector<std::vector<std::vector<std::int64_t>>> of_rule;
    std::size_t most = 0;
    for (const std::size_t r : order) {
      of_rule.push_back(rules_[r]->defaults());
      most = std::max(most, of_rule.back().size());
    }
    for (std::size_t i = 0; i < most; ++i)
      for (std::size_t o = 0; o < order.size(); ++o)
        if (i < of_rule[o].size()) points.push_back({order[o], of_rule[o][i]});
    for (std::size_t r = first_family_ + 1; r < rules_.size(); ++r)
      for (const auto& values : rules_[r]->defaults()) points.push_back({r, values});
    return points;
  }

  Subject subject_;
  std::vector<std::unique_ptr<SketchRule>> rules_;
  std::vector<Sketch> sketches_;
  std::vector<Point> defaults_;
  std::size_t first_family_ = 0;  ///< rules from here on are families, in the order of their table
};

}  // namespace

Subject make_subject(const Workload& workload, const Machine& machine) {
  if (!workload.symbols().empty())
    throw Error(ErrorCode::unsupported,
                fmt::format("workload {} has symbolic extents: a search needs fixed shapes (--dim NAME=SIZE)",
                            workload.name()));
  const BufferView view = workload.output_views().front();
  std::vector<std::int64_t> extents;
  for (const auto& dimension : view.dimensions) extents.push_back(dimension.extent.value());
  Subject subject{std::make_shared<const Workload>(workload),
                  machine,
                  analyse(workload.instantiate(), extents),
                  {},
                  1,
                  workload.composition().threads};
  std::vector<std::int64_t> strides;
  for (const auto& dimension : view.dimensions) strides.push_back(dimension.stride.value());
  order_loops(subject, strides);
  return subject;
}

void Subject::Home::place(Stage& definition) const {
  if (stage.empty()) definition.compute_root();
  else definition.compute_at(stage, loop);
}

void order_loops(Subject& subject, const std::vector<std::int64_t>& strides) {
  const StageNode& out = subject.dependences.out();
  for (std::size_t d = 0; d < strides.size(); ++d) subject.order.push_back(d);
  std::ranges::stable_sort(subject.order, [&](std::size_t a, std::size_t b) {
    if ((out.box[a].extent == 1) != (out.box[b].extent == 1)) return out.box[a].extent != 1;
    return strides[a] < strides[b];
  });
  subject.lanes = subject.machine.lanes(out.element_bytes);
}

std::unique_ptr<Space> make_space(const Workload& workload, const Machine& machine, bool families,
                                  std::function<bool()> stop) {
  return std::make_unique<PipelineSpace>(workload, machine, families, std::move(stop));
}

std::string print(const Point& point, const std::vector<Sketch>& sketches) {
  const Sketch& sketch = sketches.at(point.sketch);
  std::string text;
  for (std::size_t k = 0; k < sketch.knobs.size(); ++k)
    text += fmt::format("{}{}={}", k == 0 ? "" : ",", sketch.knobs[k].name, point.values.at(k));
  return fmt::format("{}({})", sketch.name, text);
}

}  // namespace heddle::autoscheduler
