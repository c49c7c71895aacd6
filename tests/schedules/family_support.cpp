#include "tests/schedules/family_support.hpp"

#include <fmt/format.h>

#include "tests/support/inputs.hpp"
#include "tests/support/run.hpp"

namespace heddle {

std::string check_family(const std::string& name, const Workload& workload, const Machine& machine) {
  const Family& f = family(name);
  auto random = testing::generator_for(testing::seed(), workload.text(), 0);
  std::vector<Json> knobs = {f.rule(workload, machine)};
  const auto all = f.candidates(workload, machine);
  for (int i = 0; i < 3; ++i) knobs.push_back(all[random() % all.size()]);
  const auto inputs = draw_inputs(workload, {}, testing::Extremes::finite, random);
  for (const Json& k : knobs) {
    const Implementation made = f.make(workload, machine, k);
    const testing::Kernel kernel(workload, made);
    const std::string difference = testing::compare(workload, inputs, kernel.run(inputs), {}, made.variant);
    if (!difference.empty())
      return fmt::format("{}\n  {} {} of {}\n{}  again: HEDDLE_SEED={}", difference, name, k.dump(), workload.text(),
                         made.print(), testing::seed());
  }
  return "";
}

}  // namespace heddle
