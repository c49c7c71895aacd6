#include "autoscheduler/search_points.hpp"

#include <algorithm>
#include <optional>
#include <string>

namespace heddle::autoscheduler {
namespace {

std::size_t index_in(const SpaceKnob& knob, std::int64_t value) {
  const auto found = std::find(knob.domain.begin(), knob.domain.end(), value);
  return static_cast<std::size_t>(found - knob.domain.begin());
}

/// The point's value of the knob of that name, if the domain has it.
std::optional<std::int64_t> carried(const SpaceKnob& knob, const Point& from, const std::vector<Sketch>& sketches) {
  const auto& knobs = sketches[from.sketch].knobs;
  for (std::size_t k = 0; k < knobs.size(); ++k)
    if (knobs[k].name == knob.name && index_in(knob, from.values[k]) < knob.domain.size()) return from.values[k];
  return std::nullopt;
}

void change(std::int64_t& value, const SpaceKnob& knob, Random& random) {
  const std::size_t count = knob.domain.size();
  if (count < 2) return;
  const std::size_t at = index_in(knob, value);
  std::size_t to = (at + 1 + below(random, count - 1)) % count;
  if (knob.ordered && at < count && chance(random, 0.6)) {
    const bool up = chance(random, 0.5);
    if (up ? at + 1 < count : at == 0) to = at + 1;
    else to = at - 1;
  }
  value = knob.domain[to];
}

}  // namespace

std::size_t below(Random& random, std::size_t count) { return static_cast<std::size_t>(random() % count); }

bool chance(Random& random, double probability) { return static_cast<double>(random() >> 11) * 0x1p-53 < probability; }

Point random_point(Random& random, const std::vector<Sketch>& sketches) {
  return random_point(random, sketches, below(random, sketches.size()));
}

Point random_point(Random& random, const std::vector<Sketch>& sketches, std::size_t sketch) {
  Point point{sketch, {}};
  for (const SpaceKnob& knob : sketches[sketch].knobs)
    point.values.push_back(knob.domain[below(random, knob.domain.size())]);
  return point;
}

Point mutate(const Point& point, Random& random, const std::vector<Sketch>& sketches) {
  if (sketches.size() > 1 && chance(random, 0.06)) {
    const std::size_t other = (point.sketch + 1 + below(random, sketches.size() - 1)) % sketches.size();
    Point moved = random_point(random, sketches, other);
    for (std::size_t k = 0; k < moved.values.size(); ++k)
      if (const auto value = carried(sketches[other].knobs[k], point, sketches)) moved.values[k] = *value;
    return moved;
  }
  Point mutant = point;
  const auto& knobs = sketches[point.sketch].knobs;
  if (knobs.empty()) return mutant;
  constexpr int counts[] = {1, 1, 2, 3};
  for (int i = counts[below(random, std::size(counts))]; i > 0; --i) {
    const std::size_t k = below(random, knobs.size());
    change(mutant.values[k], knobs[k], random);
  }
  return mutant;
}

Point crossover(const Point& a, const Point& b, Random& random, const std::vector<Sketch>& sketches) {
  Point child = a;
  const auto& knobs = sketches[a.sketch].knobs;
  for (std::size_t k = 0; k < knobs.size(); ++k)
    if (chance(random, 0.5))
      if (const auto value = carried(knobs[k], b, sketches)) child.values[k] = *value;
  return child;
}

std::vector<Point> neighbours(const Point& point, const std::vector<Sketch>& sketches) {
  std::vector<Point> found;
  const auto& knobs = sketches[point.sketch].knobs;
  for (std::size_t k = 0; k < knobs.size(); ++k) {
    const auto& domain = knobs[k].domain;
    const std::size_t at = index_in(knobs[k], point.values[k]);
    for (std::size_t i = 0; i < domain.size(); ++i) {
      if (i == at || (knobs[k].ordered && i + 1 != at && i != at + 1)) continue;
      found.push_back(point);
      found.back().values[k] = domain[i];
    }
  }
  return found;
}

double similarity(const Point& a, const Point& b, const std::vector<Sketch>& sketches) {
  if (a.sketch != b.sketch) return 0;
  double same = 1, all = 1;
  const auto& knobs = sketches[a.sketch].knobs;
  for (std::size_t k = 0; k < knobs.size(); ++k) {
    if (knobs[k].domain.size() < 2) continue;
    const double weight = knobs[k].ordered ? 1 : 3;
    all += weight;
    if (a.values[k] == b.values[k]) same += weight;
  }
  return same / all;
}

std::vector<Point> every_point(const std::vector<Sketch>& sketches, std::size_t most) {
  std::size_t total = 0;
  for (const Sketch& sketch : sketches) {
    std::size_t count = 1;
    for (const SpaceKnob& knob : sketch.knobs)
      if ((count *= knob.domain.size()) > most) return {};
    if ((total += count) > most) return {};
  }
  std::vector<Point> points;
  for (std::size_t s = 0; s < sketches.size(); ++s) {
    const auto& knobs = sketches[s].knobs;
    std::vector<std::size_t> digits(knobs.size(), 0);
    for (bool more = std::all_of(knobs.begin(), knobs.end(), [](const auto& knob) { return !knob.domain.empty(); });
         more;) {
      Point point{s, {}};
      for (std::size_t k = 0; k < knobs.size(); ++k) point.values.push_back(knobs[k].domain[digits[k]]);
      points.push_back(std::move(point));
      more = false;
      for (std::size_t k = 0; k < knobs.size() && !more; ++k) {
        if (++digits[k] < knobs[k].domain.size()) more = true;
        else digits[k] = 0;
      }
    }
  }
  return points;
}

}  // namespace heddle::autoscheduler
