// Families written by hand as sketches: their candidates span the knobs.
#include <algorithm>
#include <cmath>
#include <set>

#include "autoscheduler/device_cost.hpp"
#include "autoscheduler/subject.hpp"

namespace heddle::autoscheduler {
namespace {

class FamilySketch final : public SketchRule {
 public:
  FamilySketch(const Subject& subject, const Family& family) : subject_(subject), family_(family) {
    sketch_.name = family.name;
    sketch_.summary = family.summary;
    rule_ = family.rule(*subject.workload, subject.machine);
    auto all = family.candidates(*subject.workload, subject.machine);
    all.push_back(rule_);
    std::map<std::string, std::set<std::int64_t>> domains;
    for (const Json& knobs : all) {
      for (const auto& [name, value] : knobs.items()) domains[name].insert(value.get<std::int64_t>());
      candidates_.insert(knobs.dump());
    }
    for (const auto& [name, domain] : domains) sketch_.knobs.push_back({name, {domain.begin(), domain.end()}});
  }

  const Sketch& sketch() const override { return sketch_; }

  std::variant<Candidate, Pruned> emit(const std::vector<std::int64_t>& values) const override {
    Json knobs = Json::object();
    for (std::size_t k = 0; k < values.size(); ++k) knobs[sketch_.knobs[k].name] = values[k];
    if (!candidates_.contains(knobs.dump())) return Pruned{"the family does not have these knobs together"};
    Candidate candidate;
    candidate.implementation = family_.make(*subject_.workload, subject_.machine, knobs);
    candidate.requirements = family_.requirements(*subject_.workload, subject_.machine, knobs);
    // Families do not say what they expect: their rule is taken at its word, others a little behind it.
    double distance = 0;
    for (std::size_t k = 0; k < values.size(); ++k) {
      const auto& knob = sketch_.knobs[k];
      const auto rule = static_cast<double>(rule_.at(knob.name).get<std::int64_t>());
      distance += std::abs(std::log2((static_cast<double>(values[k]) + 1) / (rule + 1)));
      candidate.features["family." + knob.name] = static_cast<double>(values[k]);
    }
    candidate.features["family"] = 1;
    candidate.features["family.distance"] = distance;
    candidate.estimate = best_possible() * (1.05 + 0.1 * distance);
    candidate.features["estimate"] = std::log2(candidate.estimate);
    return candidate;
  }

  std::vector<std::vector<std::int64_t>> defaults() const override {
    std::vector<std::int64_t> values;
    for (const auto& knob : sketch_.knobs) values.push_back(rule_.at(knob.name).get<std::int64_t>());
    return {values};
  }

 private:
  /// Seconds at the FMA rate of the estimate's imagined processor or device.
  double best_possible() const {
    if (subject_.machine.gpu)
      return device_seconds(*subject_.machine.gpu, static_cast<double>(subject_.workload->flops().value()),
                            static_cast<double>(subject_.workload->bytes().value()));
    const double lanes = subject_.machine.lanes(4);
    return static_cast<double>(subject_.workload->flops().value()) / (3e9 * 4 * lanes) / subject_.threads +
           static_cast<double>(subject_.workload->bytes().value()) / 40e9;
  }

  const Subject& subject_;
  const Family& family_;
  Sketch sketch_;
  Json rule_;
  std::set<std::string> candidates_;
};

}  // namespace

std::vector<std::unique_ptr<SketchRule>> family_sketches(const Subject& subject) {
  std::vector<std::unique_ptr<SketchRule>> sketches;
  for (const Family& family : families())
    if (matches(family, *subject.workload, subject.machine))
      sketches.push_back(std::make_unique<FamilySketch>(subject, family));
  return sketches;
}

}  // namespace heddle::autoscheduler
