// What other searches of a workload have found, and where in this space their points lie.
#include <catch2/catch.hpp>

#include <fmt/format.h>

#include "autoscheduler/search_points.hpp"
#include "autoscheduler/subject.hpp"
#include "autoscheduler/transfer.hpp"
#include "base/file.hpp"
#include "ops/catalog.hpp"
#include "tests/autoscheduler/synthetic_space.hpp"

using namespace heddle;
using namespace heddle::autoscheduler;

namespace {

Workload product(const Operators& operators, std::int64_t m, std::int64_t n, std::int64_t k, int threads = 1) {
  return Workload::of(operators.get("matmul"), Json::object(), {tensor(DType::f32, {m, k}), tensor(DType::f32, {k, n})},
                      {}, threads);
}

std::string recorded(const Point& point, const std::vector<Sketch>& sketches) {
  return recorded_point(point, sketches).dump();
}

Point legal_point(const SyntheticSpace& space, std::uint64_t seed) {
  Random random(seed);
  for (;;) {
    Point point = random_point(random, space.sketches());
    if (std::holds_alternative<Candidate>(space.emit(point))) return point;
  }
}

Record trial(const Workload& workload, const std::string& point, double seconds, int number,
             const std::string& search = "s") {
  Record record;
  record.search = search + workload.text();
  record.trial = number;
  record.workload = workload.text();
  record.name = workload.name();
  record.anchor = std::string(workload.anchor().op->name());
  record.target = "a target";
  record.machine = "a machine";
  record.threads = workload.composition().threads;
  record.point = point;
  record.status = "ok";
  record.seconds = {seconds};
  record.median_seconds = seconds;
  return record;
}

}  // namespace

TEST_CASE("a recorded point is found again, whichever sketch or family it is of") {
  const Operators operators;
  const std::vector<std::pair<Workload, std::size_t>> workloads = {
      {Workload::of(operators.get("softmax"), Json::object(), {tensor(DType::f32, {8, 40})}), 3},
      {product(operators, 32, 64, 48), 3}};
  for (const auto& [workload, least_sketches] : workloads) {
    const auto space = make_space(workload, Machine{}, true);
    const auto& sketches = space->sketches();
    CHECK(sketches.size() >= least_sketches);
    Random random(1);
    std::vector<int> found(sketches.size());
    for (std::size_t tries = 0; tries < 100 * sketches.size(); ++tries) {
      const Point point = random_point(random, sketches, tries % sketches.size());
      if (std::holds_alternative<Pruned>(space->emit(point))) continue;
      ++found[point.sketch];
      CHECK(nearest_point(recorded(point, sketches), *space) == point);
    }
    for (std::size_t i = 0; i < sketches.size(); ++i) {
      INFO(workload.name() << ", " << sketches[i].name);
      CHECK(found[i] > 0);
    }
  }
}

TEST_CASE("a point of another space lies at the nearest values that this one has") {
  const SyntheticSpace space;
  const auto& sketches = space.sketches();
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const Point point = legal_point(space, seed);
    CHECK(nearest_point(recorded(point, sketches), space) == point);
  }
  const Point point = legal_point(space, 3);
  Json json = Json::parse(recorded(point, sketches));
  for (std::size_t k = 0; k < point.values.size(); ++k) {
    const SpaceKnob& knob = sketches[point.sketch].knobs[k];
    if (!knob.ordered || knob.domain.size() < 2) continue;
    json["knobs"][knob.name] = 1 << 20;  // beyond what this space has
    const auto nearest = nearest_point(json.dump(), space);
    if (nearest && nearest->sketch == point.sketch && std::holds_alternative<Candidate>(space.emit(*nearest)))
      CHECK(std::ranges::find(knob.domain, nearest->values[k]) != knob.domain.end());
    json["knobs"][knob.name] = point.values[k];
  }
  json["knobs"]["unheard_of"] = 7;
  CHECK(nearest_point(json.dump(), space) == point);
  json["sketch"] = "unheard_of";
  CHECK_FALSE(nearest_point(json.dump(), space));
  CHECK_FALSE(nearest_point("", space));
  CHECK_FALSE(nearest_point("[1]", space));
}

TEST_CASE("a pruned point stands for the best of its neighbours that are not") {
  const SyntheticSpace space;
  Random random(1);
  int replaced = 0;
  for (int i = 0; i < 300; ++i) {
    const Point point = random_point(random, space.sketches());
    if (std::holds_alternative<Candidate>(space.emit(point))) continue;
    const auto nearest = nearest_point(recorded(point, space.sketches()), space);
    if (!nearest) continue;
    ++replaced;
    const auto around = neighbours(point, space.sketches());
    CHECK(std::ranges::find(around, *nearest) != around.end());
    const double own = std::get<Candidate>(space.emit(*nearest)).estimate;
    for (const Point& other : around)
      if (const auto emitted = space.emit(other); std::holds_alternative<Candidate>(emitted))
        CHECK(own <= std::get<Candidate>(emitted).estimate);
  }
  CHECK(replaced > 0);
  CHECK_FALSE(nearest_point(recorded(legal_point(space, 1), space.sketches()), SyntheticSpace(true)));
}

TEST_CASE("a search begins with the fastest that other searches of the workload have found on this machine") {
  const Operators operators;
  const TemporaryDirectory directory;
  RecordStore store((directory.path() / "t.db").string());
  const SyntheticSpace space;
  const auto point = [&](std::uint64_t seed) { return legal_point(space, seed); };
  const auto text = [&](std::uint64_t seed) { return recorded(point(seed), space.sketches()); };
  const Workload here = product(operators, 64, 256, 128), other = product(operators, 64, 256, 256);
  const auto starts = [&](const Workload& workload, const std::string& machine = "a machine") {
    return starts_from_records(store, workload, "a target", machine, space);
  };
  CHECK(starts(here).empty());

  store.add(trial(other, text(1), 1e-9, 0));
  store.add(trial(here, text(2), 4e-6, 0));
  store.add(trial(here, text(3), 1e-6, 1));
  store.add(trial(here, text(4), 3e-6, 2));
  store.add(trial(here, text(3), 2e-6, 0, "another search"));  // the same point again
  store.add(trial(here, "{}", 1e-9, 1, "another search"));     // of no sketch that there is
  Record failed = trial(here, text(5), 0, 3);
  failed.status = "wrong";
  store.add(failed);
  store.add(trial(product(operators, 64, 256, 128, 2), text(6), 1e-9, 0));
  const auto found = starts(here);
  REQUIRE(found.size() == 3);
  CHECK(found[0].point == point(3));
  CHECK(found[0].origin == "record 3");
  CHECK(found[1].point == point(4));
  CHECK(found[2].point == point(2));
  REQUIRE(starts(other).size() == 1);
  CHECK(starts(other)[0].point == point(1));
  CHECK(starts(here, "another machine").empty());
}
