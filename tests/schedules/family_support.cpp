#include "tests/schedules/family_support.hpp"

#include <fmt/format.h>

#include "tests/support/inputs.hpp"
#include "tests/support/run.hpp"

namespace heddle {

std::string check_family(const std::string& name, const Workload& workload, const Machine& machine,
                         const std::vector<SymbolValues>& bindings) {
  const Family& f = family(name);
  auto random = testing::generator_for(testing::seed(), workload.text(), 0);
  std::vector<Json> knobs = {f.rule(workload, machine)};
  const auto all = f.candidates(workload, machine);
  for (int i = 0; i < 3; ++i) knobs.push_back(all[random() % all.size()]);
  for (const Json& k : knobs) {
    const Implementation made = f.make(workload, machine, k);
    const testing::Kernel kernel(workload, made);
    for (const SymbolValues& symbols : bindings) {
      const auto inputs = draw_inputs(workload, symbols, testing::Extremes::finite, random);
      const std::string difference = testing::compare(workload, inputs, kernel.run(inputs), {}, made.variant);
      if (!difference.empty())
        return fmt::format("{}\n  {} {} of {} at {}\n{}  again: HEDDLE_SEED={}", difference, name, k.dump(),
                           workload.text(), Json(symbols).dump(), made.print(), testing::seed());
    }
  }
  return "";
}

}  // namespace heddle
