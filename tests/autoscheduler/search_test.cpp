#include <catch2/catch.hpp>

#include <algorithm>
#include <limits>
#include <optional>

#include "autoscheduler/search.hpp"
#include "autoscheduler/search_points.hpp"
#include "base/error.hpp"
#include "tests/autoscheduler/synthetic_space.hpp"

using namespace heddle;
using namespace heddle::autoscheduler;

namespace {

SearchResult tune(const SyntheticSpace& space, SyntheticMeasurer& measurer, int trials, std::uint64_t seed,
                  const SearchHooks& hooks = {}) {
  SearchOptions options;
  options.trials = trials;
  options.seed = seed;
  return search(space, &measurer, options, hooks);
}

double best_seconds(const SyntheticSpace& space, const SearchResult& result) {
  return space.seconds(result.trials.at(result.best.value()).point);
}

double middle(std::vector<double> values) { return median(std::move(values)); }

std::vector<std::string> texts(const SearchResult& result) {
  std::vector<std::string> all;
  for (const Trial& trial : result.trials) all.push_back(trial.implementation.print());
  return all;
}

/// A record of trials, as a store keeps them between runs.
struct Memory {
  std::map<int, Trial> trials;
  std::map<int, std::vector<double>> finalists;
  bool may_differ = false;  ///< a search that goes on may plan other points than these

  SearchHooks hooks() {
    SearchHooks hooks;
    hooks.recall = [this](int number) -> std::optional<RecalledTrial> {
      const auto found = trials.find(number);
      if (found == trials.end()) return std::nullopt;
      const Trial& trial = found->second;
      return RecalledTrial{trial.point, "not planned", trial.incumbent_kernel, trial.measurement};
    };
    hooks.progress = [this](const std::vector<Trial>& all) {
      for (const Trial& trial : all) REQUIRE((may_differ || trial.origin != "not planned"));
    };
    hooks.store = [this](const Trial& trial) { REQUIRE(trials.emplace(trial.number, trial).second); };
    hooks.recall_finalist = [this](int number) { return finalists[number]; };
    hooks.store_finalist = [this](const Trial& trial) { finalists[trial.number] = trial.process_seconds; };
    return hooks;
  }
};

}  // namespace

TEST_CASE("the search comes near the optimum in 16 trials and finds it in 64, where random points do not") {
  const SyntheticSpace space;
  std::vector<double> after_8, after_16, after_64, random_64;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    for (const auto& [trials, all] : {std::pair{8, &after_8}, std::pair{16, &after_16}, std::pair{64, &after_64}}) {
      SyntheticMeasurer measurer(space);
      all->push_back(best_seconds(space, tune(space, measurer, trials, seed)) / space.optimum());
    }
    Random random(seed);
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < 64;) {
      const Point point = random_point(random, space.sketches());
      if (std::holds_alternative<Pruned>(space.emit(point))) continue;
      ++i;
      if (!space.crashes(point)) best = std::min(best, space.seconds(point));
    }
    random_64.push_back(best / space.optimum());
  }
  CAPTURE(after_8, after_16, after_64, random_64);
  CHECK(middle(after_8) < 1.75);
  CHECK(middle(after_16) < 1.45);
  CHECK(middle(after_64) < 1.03);
  CHECK(*std::max_element(after_64.begin(), after_64.end()) < 1.15);
  CHECK(middle(random_64) > middle(after_16));
}

TEST_CASE("the same seed and measurements give the same trials; another seed gives others") {
  const SyntheticSpace space;
  SyntheticMeasurer first(space), second(space), third(space);
  const auto a = tune(space, first, 40, 7), b = tune(space, second, 40, 7), c = tune(space, third, 40, 8);
  CHECK(texts(a) == texts(b));
  CHECK(a.best == b.best);
  CHECK(texts(a) != texts(c));
  for (std::size_t i = 0; i < a.trials.size(); ++i) {
    CHECK(a.trials[i].prediction == b.trials[i].prediction);
    CHECK(a.trials[i].origin == b.trials[i].origin);
    CHECK(a.trials[i].number == static_cast<int>(i));
  }
}

TEST_CASE("what was good elsewhere is tried after the first default, and found sooner than without") {
  const SyntheticSpace space;
  SyntheticMeasurer long_measurer(space);
  const auto known = tune(space, long_measurer, 64, 1);
  const Point good = known.trials.at(known.best.value()).point;
  Random random(5);
  Point pruned = random_point(random, space.sketches());
  while (std::holds_alternative<Candidate>(space.emit(pruned))) pruned = random_point(random, space.sketches());

  const std::vector<Start> starts = {{good, "record 7"}, {pruned, "record 8"}, {good, "record 9"}};
  SearchOptions options;
  options.trials = 8;
  SyntheticMeasurer measurer(space);
  const auto result = Search(space, 2, starts).run(&measurer, options);
  CHECK(result.trials.at(0).origin == "default");
  CHECK(result.trials.at(1).origin == "record 7");
  CHECK(result.trials.at(1).point == good);
  CHECK(std::ranges::count_if(result.trials, [](const Trial& t) { return t.origin.starts_with("record"); }) == 1);
  CHECK(std::ranges::count_if(result.trials, [](const Trial& t) { return t.origin == "estimate"; }) >= 3);
  CHECK(best_seconds(space, result) <= space.seconds(good));

  SyntheticMeasurer again(space);
  CHECK(texts(Search(space, 2, starts).run(&again, options)) == texts(result));
}

TEST_CASE("what a search without trials chooses is among the first trials of one with trials") {
  const SyntheticSpace space;
  for (const std::uint64_t seed : {1, 2, 3}) {
    SearchOptions options;
    options.seed = seed;
    options.trials = 0;
    const auto chosen = search(space, nullptr, options, {}).candidate.implementation.print();
    SyntheticMeasurer measurer(space);
    const auto first = texts(tune(space, measurer, 8, seed));
    CHECK(std::ranges::count(first, chosen) == 1);
  }
}

TEST_CASE("a search that is told to stop before it has points says so, and one between batches keeps its trials") {
  const SyntheticSpace space;
  CHECK_THROWS_AS(Search(space, 1, {}, [] { return true; }), Stopped);
  int asked = 0;
  CHECK_THROWS_AS(Search(space, 1, {}, [&] { return ++asked > 500; }), Stopped);

  // Whenever it is stopped, what was tried is what would have been tried, and goes on being so.
  SyntheticMeasurer whole_measurer(space);
  const auto whole = texts(tune(space, whole_measurer, 24, 4));
  for (const int questions : {3, 200, 900, 2000}) {
    Memory memory;
    SyntheticMeasurer before(space), after(space);
    auto hooks = memory.hooks();
    int left = questions;
    hooks.stop = [&] { return --left < 0; };
    SearchOptions options;
    options.trials = 24;
    options.seed = 4;
    Search search(space, 4);
    const auto part = texts(search.run(&before, options, hooks));
    CHECK(std::equal(part.begin(), part.end(), whole.begin()));
    CHECK(texts(search.run(&after, options, memory.hooks())) == whole);
  }
}

TEST_CASE("no implementation is tried twice, and each but the first is timed beside the incumbent") {
  const SyntheticSpace space;
  SyntheticMeasurer measurer(space);
  const auto result = tune(space, measurer, 64, 3);
  REQUIRE(result.trials.size() == 64);
  CHECK(measurer.measured.size() == 64);
  for (const auto& [text, count] : measurer.measured) CHECK(count == 1);
  const auto worked = std::count_if(result.trials.begin(), result.trials.end(),
                                    [](const Trial& trial) { return trial.measurement.status == TrialStatus::ok; });
  CHECK(measurer.incumbents == worked - 1);
  CHECK(result.trials[0].origin == "default");
}

TEST_CASE("a search that was stopped goes on where it was and ends as if it had not been") {
  const SyntheticSpace space;
  SyntheticMeasurer whole_measurer(space);
  Memory whole_memory;
  const auto whole = tune(space, whole_measurer, 40, 5, whole_memory.hooks());
  for (const int stop_after : {1, 4, 8, 13, 39}) {
    Memory memory;
    SyntheticMeasurer before(space), after(space);
    auto hooks = memory.hooks();
    hooks.stop = [&] { return static_cast<int>(memory.trials.size()) >= stop_after; };
    const auto part = tune(space, before, 40, 5, hooks);
    CHECK(part.stopped);
    CHECK(static_cast<int>(part.trials.size()) == stop_after);
    CHECK(before.processes.empty());

    const auto rest = tune(space, after, 40, 5, memory.hooks());
    CHECK_FALSE(rest.stopped);
    CHECK(texts(rest) == texts(whole));
    CHECK(rest.best == whole.best);
    for (std::size_t i = 0; i < rest.trials.size(); ++i) {
      CHECK(rest.trials[i].score == whole.trials[i].score);
      CHECK(rest.trials[i].recalled == (static_cast<int>(i) < stop_after));
    }
    for (const auto& entry : after.measured) CHECK(before.measured.count(entry.first) == 0);
    CHECK(before.measured.size() + after.measured.size() == 40);
  }
  // All of it known: nothing is measured, the finalists' fresh processes neither.
  SyntheticMeasurer idle(space);
  CHECK(tune(space, idle, 40, 5, whole_memory.hooks()).best == whole.best);
  CHECK(idle.measured.empty());
  CHECK(idle.processes.empty());
}

TEST_CASE("a search goes on with more trials than it was first asked for") {
  const SyntheticSpace space;
  SyntheticMeasurer whole_measurer(space), first(space), second(space);
  const auto whole = tune(space, whole_measurer, 30, 2);
  Memory memory;
  tune(space, first, 11, 2, memory.hooks());
  const auto rest = tune(space, second, 30, 2, memory.hooks());
  CHECK(texts(rest) == texts(whole));
  CHECK(second.measured.size() == 19);
}

TEST_CASE("a search that is kept goes on in any portions as if it had been one") {
  const SyntheticSpace space;
  SyntheticMeasurer whole_measurer(space), measurer(space);
  const auto whole = tune(space, whole_measurer, 40, 2);
  Search search(space, 2);
  SearchResult portion;
  for (const int trials : {1, 8, 11, 13, 16, 37, 40}) {
    SearchOptions options;
    options.trials = trials;
    options.finalists = trials < 40 ? 0 : options.finalists;
    portion = search.run(&measurer, options);
    CHECK(static_cast<int>(portion.trials.size()) == trials);
  }
  CHECK(texts(portion) == texts(whole));
  CHECK(portion.best == whole.best);
  CHECK(measurer.measured.size() == 40);
  for (std::size_t i = 0; i < portion.trials.size(); ++i) CHECK(portion.trials[i].score == whole.trials[i].score);
}

TEST_CASE("a hole in what is recalled is measured again, under its number") {
  const SyntheticSpace space;
  SyntheticMeasurer first(space), second(space);
  Memory memory;
  const auto whole = tune(space, first, 24, 2, memory.hooks());
  memory.trials.erase(10);
  memory.trials.erase(12);
  const auto again = tune(space, second, 24, 2, memory.hooks());
  CHECK(texts(again) == texts(whole));
  CHECK(second.measured.size() == 2);
  CHECK(memory.trials.size() == 24);
}

TEST_CASE("what was tried stands where what is measured again leads elsewhere") {
  const SyntheticSpace space;
  SyntheticMeasurer first(space), second(space), third(space);
  Memory memory;
  tune(space, first, 24, 2, memory.hooks());
  std::erase_if(memory.trials, [](const auto& entry) { return entry.first != 13 && entry.first != 20; });
  memory.may_differ = true;
  const Memory kept = memory;
  second.jumps = 0.5;  // other times, so that other trials follow
  const auto again = tune(space, second, 24, 2, memory.hooks());
  REQUIRE(again.trials.size() == 24);
  CHECK(memory.trials.size() == 24);
  for (const auto& [number, trial] : kept.trials) {
    CHECK(again.trials[static_cast<std::size_t>(number)].recalled);
    CHECK(again.trials[static_cast<std::size_t>(number)].point == trial.point);
    CHECK(second.measured.count(trial.implementation.print()) == 0);
  }
  // It goes on as what it is now.
  const auto whole = tune(space, third, 24, 2, memory.hooks());
  CHECK(texts(whole) == texts(again));
  CHECK(third.measured.empty());
}

TEST_CASE("a recalled time is judged by the one that it was measured beside, if that is there") {
  const SyntheticSpace space;
  for (const bool there : {true, false}) {
    SyntheticMeasurer first(space), second(space);
    Memory memory;
    tune(space, first, 8, 2, memory.hooks());
    Trial& trial = memory.trials.at(5);
    trial.measurement.status = TrialStatus::ok;
    trial.measurement.seconds = {3e-3, 3e-3, 3e-3};
    trial.measurement.incumbent_seconds = {2e-3, 2e-3, 2e-3};
    trial.incumbent_kernel = "another";
    if (there) memory.trials.at(0).measurement.kernel_key = "another";
    const auto again = tune(space, second, 6, 2, memory.hooks());
    CHECK(second.measured.empty());
    CHECK(again.trials[5].incumbent == (there ? std::optional<std::size_t>(0) : std::nullopt));
    CHECK(again.trials[5].score == Approx(there ? std::max(1.5 * again.trials[0].score, 3e-3 / 1.15) : 3e-3));
  }
}

TEST_CASE("failures are trials that the search learns to avoid") {
  const SyntheticSpace space;
  int early = 0, late = 0;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    SyntheticMeasurer measurer(space);
    const auto result = tune(space, measurer, 64, seed);
    REQUIRE(result.trials.size() == 64);
    for (const Trial& trial : result.trials) {
      const bool failed = trial.measurement.status != TrialStatus::ok;
      CHECK(failed == space.crashes(trial.point));
      CHECK(failed == (trial.score == std::numeric_limits<double>::infinity()));
      (trial.number < 24 ? early : late) += failed ? 1 : 0;
    }
  }
  CAPTURE(early, late);
  CHECK(early > 0);
  CHECK(late * 24 < early * 40);  // a smaller share of the 40 later ones than of the 24 first ones
}

TEST_CASE("a machine whose speed changes does not change what is best") {
  const SyntheticSpace space;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    SyntheticMeasurer measurer(space);
    measurer.drift = 0.06;
    const auto result = tune(space, measurer, 64, seed);
    CHECK(best_seconds(space, result) < 1.08 * space.optimum());
    // Scores compare as true times do, although the samples do not.
    double worst_score = 0, worst_sample = 0;
    const Trial& base = result.trials[0];
    for (const Trial& trial : result.trials) {
      if (trial.measurement.status != TrialStatus::ok) continue;
      const double truth = space.seconds(trial.point) / space.seconds(base.point);
      worst_score = std::max(worst_score, std::abs(trial.score / base.score / truth - 1));
      worst_sample =
          std::max(worst_sample, std::abs(trial.measurement.median() / base.measurement.median() / truth - 1));
    }
    CHECK(worst_score < 0.08);
    CHECK(worst_sample > 0.12);
  }
}

TEST_CASE("times that jump about do not make scores run away") {
  const SyntheticSpace space;
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    SyntheticMeasurer measurer(space);
    measurer.jumps = 0.5;
    const auto result = tune(space, measurer, 64, seed);
    double lowest = std::numeric_limits<double>::infinity();
    for (const Trial& trial : result.trials) lowest = std::min(lowest, trial.score);
    CHECK(lowest > 0.3 * space.optimum());
    CHECK(best_seconds(space, result) < 1.8 * space.optimum());
  }
}

TEST_CASE("an incumbent that loses its core does not make the trial beside it the best") {
  const SyntheticSpace space;
  class Preempted : public SyntheticMeasurer {
   public:
    using SyntheticMeasurer::SyntheticMeasurer;
    std::vector<Measurement> measure(const std::vector<Implementation>& candidates, const Implementation* incumbent,
                                     const Done& done) override {
      return SyntheticMeasurer::measure(candidates, incumbent, [&](const Measurement& measurement) {
        Measurement disturbed = measurement;
        if (measured.size() % 5 == 0)
          for (double& seconds : disturbed.incumbent_seconds) seconds *= 6;
        return done(disturbed);
      });
    }
  };
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    Preempted measurer(space);
    const auto result = tune(space, measurer, 48, seed);
    for (const Trial& trial : result.trials)
      if (trial.measurement.status == TrialStatus::ok) CHECK(trial.score > 0.8 * space.seconds(trial.point));
    CHECK(best_seconds(space, result) < 1.25 * space.optimum());
  }
}

TEST_CASE("finalists are measured in fresh processes, and one that fails there makes room for the next") {
  const SyntheticSpace space;
  SyntheticMeasurer measurer(space);
  const auto result = tune(space, measurer, 32, 4);
  CHECK(measurer.processes.size() == 4);
  for (const auto& [text, count] : measurer.processes) CHECK(count == 5);
  const Trial& best = result.trials[*result.best];
  CHECK(best.process_seconds.size() == 5);
  CHECK(result.candidate.implementation == best.implementation);
  for (const Trial& trial : result.trials)
    if (!trial.process_seconds.empty()) CHECK(median(best.process_seconds) <= median(trial.process_seconds));

  SyntheticMeasurer other(space);
  other.fails_fresh = {best.implementation.print()};
  const auto second = tune(space, other, 32, 4);
  CHECK(other.processes.size() == 4);
  CHECK(second.trials[*second.best].implementation != best.implementation);
}

TEST_CASE("a machine whose speed changes while finalists are measured again names no other one") {
  const SyntheticSpace space;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    SyntheticMeasurer measurer(space);
    measurer.drift = 0.3;
    const auto result = tune(space, measurer, 32, seed);
    for (const Trial& trial : result.trials)
      if (!trial.process_seconds.empty()) CHECK(best_seconds(space, result) <= space.seconds(trial.point));
  }
}

TEST_CASE("without trials nothing is measured and the best estimate is taken") {
  const SyntheticSpace space;
  SearchOptions options;
  options.trials = 0;
  const auto result = search(space, nullptr, options);
  CHECK(result.trials.empty());
  CHECK_FALSE(result.best);
  double default_estimate = std::numeric_limits<double>::infinity();
  for (const Point& point : space.defaults())
    default_estimate = std::min(default_estimate, std::get<Candidate>(space.emit(point)).estimate);
  CHECK(result.candidate.estimate < default_estimate);
  CHECK(space.seconds(synthetic_point(result.candidate.implementation)) < 3 * space.optimum());
}

TEST_CASE("a space in which everything is pruned is an error with the reasons") {
  const SyntheticSpace space(true);
  SyntheticMeasurer measurer(space);
  try {
    tune(space, measurer, 8, 1);
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::unsupported);
    CHECK_THAT(e.what(), Catch::Contains("does not fit (") && Catch::Contains("scalar code ("));
  }
  CHECK(measurer.measured.empty());
}

TEST_CASE("trials that all fail are an error with the first message of each kind") {
  class Broken : public SyntheticMeasurer {
   public:
    using SyntheticMeasurer::SyntheticMeasurer;
    std::vector<Measurement> measure(const std::vector<Implementation>& candidates, const Implementation*,
                                     const Done& done) override {
      std::vector<Measurement> all;
      for (std::size_t i = 0; i < candidates.size(); ++i) {
        Measurement m;
        m.status = i % 2 == 0 ? TrialStatus::timed_out : TrialStatus::wrong;
        m.message = i % 2 == 0 ? "30 s are over" : "element 3 differs";
        all.push_back(m);
        if (!done(m)) break;
      }
      return all;
    }
  };
  const SyntheticSpace space;
  Broken measurer(space);
  try {
    tune(space, measurer, 20, 1);
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::unsupported);
    CHECK_THAT(e.what(), Catch::Contains("20 trials") && Catch::Contains("timed_out") &&
                             Catch::Contains("30 s are over") && Catch::Contains("element 3 differs"));
  }
}

TEST_CASE("a small space is tried whole, and then the search ends") {
  class Small : public SyntheticSpace {
   public:
    Small() { small_ = {{"scalar", "", {SyntheticSpace::sketches()[2].knobs[1]}}}; }
    const std::vector<Sketch>& sketches() const override { return small_; }
    std::variant<Candidate, Pruned> emit(const Point& point) const override {
      return SyntheticSpace::emit({2, {0, point.values[0]}});
    }
    std::vector<Point> defaults() const override { return {{0, {64}}}; }

   private:
    std::vector<Sketch> small_;
  };
  const Small space;
  SyntheticMeasurer measurer(space);
  SearchOptions options;
  const auto result = search(space, &measurer, options);
  CHECK(result.trials.size() == 6);
  CHECK_FALSE(result.stopped);
  CHECK(result.trials[*result.best].point.values[0] == 64);
}

TEST_CASE("what fails while the search is being stopped is no trial") {
  const SyntheticSpace space;
  class Interrupted : public SyntheticMeasurer {
   public:
    using SyntheticMeasurer::SyntheticMeasurer;
    bool interrupted = false;
    std::vector<Measurement> measure(const std::vector<Implementation>& candidates, const Implementation* incumbent,
                                     const Done& done) override {
      return SyntheticMeasurer::measure(candidates, incumbent, [&](const Measurement& measurement) {
        if (measured.size() < 12) return done(measurement);
        interrupted = true;
        Measurement killed;
        killed.status = TrialStatus::crashed;
        killed.message = "signal 2";
        return done(killed);
      });
    }
  };
  Interrupted measurer(space);
  Memory memory;
  auto hooks = memory.hooks();
  hooks.stop = [&] { return measurer.interrupted; };
  const auto result = tune(space, measurer, 64, 6, hooks);
  CHECK(result.stopped);
  CHECK(result.trials.size() == 11);
  CHECK(memory.trials.size() == 11);
  CHECK(result.best.has_value());
}

TEST_CASE("points move within their domains") {
  const SyntheticSpace space;
  const auto& sketches = space.sketches();
  Random random(1);
  const auto valid = [&](const Point& point) {
    const auto& knobs = sketches.at(point.sketch).knobs;
    REQUIRE(point.values.size() == knobs.size());
    for (std::size_t k = 0; k < knobs.size(); ++k)
      CHECK(std::count(knobs[k].domain.begin(), knobs[k].domain.end(), point.values[k]) == 1);
  };
  int changed = 0, moved = 0;
  for (int i = 0; i < 500; ++i) {
    const Point a = random_point(random, sketches), b = random_point(random, sketches);
    const Point mutant = mutate(a, random, sketches), child = crossover(a, b, random, sketches);
    valid(a);
    valid(mutant);
    valid(child);
    CHECK(child.sketch == a.sketch);
    changed += mutant != a ? 1 : 0;
    moved += mutant.sketch != a.sketch ? 1 : 0;
    CHECK(similarity(a, a, sketches) == 1);
    CHECK(similarity(a, b, sketches) == similarity(b, a, sketches));
  }
  CHECK(changed > 450);
  CHECK(moved > 5);
  CHECK(moved < 100);
  const Point point{2, {0, 64}};
  const auto near = neighbours(point, sketches);
  CHECK(near.size() == 5 + 2);  // five other orders, the block size before and the one after
  for (const Point& other : near) valid(other);
  CHECK(every_point({sketches[2]}, 36).size() == 36);
  CHECK(every_point({sketches[2]}, 35).empty());
}
