#include "autoscheduler/transfer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "autoscheduler/search_points.hpp"

namespace heddle::autoscheduler {
namespace {

// Some of the first batch: the rest is what the search would have tried without records.
constexpr std::size_t most_starts = 3;
constexpr int most_looked_at = 16;  // some are of sketches that this space has not

double steps_between(std::int64_t a, std::int64_t b) {
  const auto place = [](std::int64_t v) { return std::copysign(std::log2(1 + std::abs(static_cast<double>(v))), v); };
  return std::abs(place(a) - place(b));
}

std::int64_t nearest_value(const SpaceKnob& knob, std::int64_t wanted, std::int64_t otherwise) {
  if (!knob.ordered) return std::ranges::find(knob.domain, wanted) != knob.domain.end() ? wanted : otherwise;
  return *std::ranges::min_element(knob.domain, {}, [&](std::int64_t v) { return steps_between(v, wanted); });
}

double estimate_of(const Space& space, const Point& point) {
  const auto emitted = space.emit(point);
  const auto* candidate = std::get_if<Candidate>(&emitted);
  return candidate != nullptr ? candidate->estimate : std::numeric_limits<double>::infinity();
}

}  // namespace

Json recorded_point(const Point& point, const std::vector<Sketch>& sketches) {
  const Sketch& sketch = sketches[point.sketch];
  Json knobs = Json::object();
  for (std::size_t k = 0; k < sketch.knobs.size(); ++k) knobs[sketch.knobs[k].name] = point.values[k];
  return {{"sketch", sketch.name}, {"knobs", std::move(knobs)}};
}

std::optional<Point> nearest_point(const std::string& recorded, const Space& space) {
  const Json json = Json::parse(recorded, nullptr, false);
  if (!json.is_object() || !json.contains("sketch") || !json.contains("knobs")) return std::nullopt;
  const auto& sketches = space.sketches();
  const auto sketch = std::ranges::find(sketches, json["sketch"].get<std::string>(), &Sketch::name);
  if (sketch == sketches.end()) return std::nullopt;
  Point point{static_cast<std::size_t>(sketch - sketches.begin()), {}};
  const auto defaults = space.defaults();
  const auto usual = std::ranges::find(defaults, point.sketch, &Point::sketch);
  for (std::size_t k = 0; k < sketch->knobs.size(); ++k) {
    const SpaceKnob& knob = sketch->knobs[k];
    const std::int64_t otherwise = usual != defaults.end() ? usual->values[k] : knob.domain.front();
    const auto wanted = json["knobs"].find(knob.name);
    point.values.push_back(wanted != json["knobs"].end() ? nearest_value(knob, wanted->get<std::int64_t>(), otherwise)
                                                         : otherwise);
  }
  if (std::isfinite(estimate_of(space, point))) return point;
  std::optional<Point> best;
  double least = std::numeric_limits<double>::infinity();
  for (const Point& other : neighbours(point, sketches))
    if (const double estimate = estimate_of(space, other); estimate < least) {
      least = estimate;
      best = other;
    }
  return best;
}

std::vector<Start> starts_from_records(const RecordStore& store, const Workload& workload, const std::string& target,
                                       const std::string& machine, const Space& space) {
  std::vector<Start> starts;
  for (const Record& record : store.list({.workload = workload.text(),
                                          .target = target,
                                          .machine = machine,
                                          .status = "ok",
                                          .most = most_looked_at,
                                          .fastest_first = true})) {
    if (starts.size() >= most_starts) break;
    const auto point = nearest_point(record.point, space);
    if (!point || std::ranges::find(starts, *point, &Start::point) != starts.end()) continue;
    starts.push_back({*point, fmt::format("record {}", record.id)});
  }
  return starts;
}

}  // namespace heddle::autoscheduler
