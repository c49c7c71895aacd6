#include "tests/autoscheduler/synthetic_space.hpp"

#include <cmath>
#include <cstdlib>
#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"

namespace heddle::autoscheduler {
namespace {

constexpr std::int64_t crashing_order = 5;

/// In [0, 1), a function of the text alone.
double unit(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return static_cast<double>((hash ^ (hash >> 29)) & 0xFFFFFU) / 0x100000;
}

}  // namespace

Implementation synthetic_implementation(const Point& point) {
  Implementation implementation;
  implementation.variant = fmt::format("sketch_{}_{}", point.sketch, fmt::join(point.values, "_"));
  return implementation;
}

Point synthetic_point(const Implementation& implementation) {
  std::istringstream text(implementation.variant);
  std::string word;
  std::getline(text, word, '_');
  std::getline(text, word, '_');
  Point point{static_cast<std::size_t>(std::stoul(word)), {}};
  while (std::getline(text, word, '_')) point.values.push_back(std::stoll(word));
  return point;
}

SyntheticSpace::SyntheticSpace(bool all_pruned) : all_pruned_(all_pruned) {
  const std::vector<SpaceKnob> tile = {{"vectors", {1, 2, 3, 4, 6}},
                                       {"rows", {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14}},
                                       {"order", {0, 1, 2, 3, 4, 5}, false},
                                       {"unroll", {1, 2, 4, 8}},
                                       {"block", {0, 16, 32, 64, 128, 256}},
                                       {"place", {0, 1, 2}, false},
                                       {"pack", {0, 1}, false}};
  sketches_ = {{"tile", "a register tile", tile},
               {"lanes", "vectors along the reduction", {tile[1], tile[2], tile[3], tile[4], {"width", {8, 16, 32}}}},
               {"scalar", "one by one", {tile[2], tile[4]}}};
  defaults_ = {{0, {1, 4, 0, 1, 0, 0, 0}}, {1, {4, 0, 1, 0, 8}}};
}

std::int64_t SyntheticSpace::value(const Point& point, const std::string& knob) const {
  const auto& knobs = sketches_[point.sketch].knobs;
  for (std::size_t k = 0; k < knobs.size(); ++k)
    if (knobs[k].name == knob) return point.values[k];
  return 0;
}

bool SyntheticSpace::crashes(const Point& point) const { return value(point, "order") == crashing_order; }

double SyntheticSpace::seconds(const Point& point) const {
  double factor = 1;
  if (point.sketch == 0) {
    const double accumulators = static_cast<double>(value(point, "vectors") * value(point, "rows"));
    factor *= 1 + std::abs(std::log2(accumulators / 20)) * 0.35;
    if (value(point, "vectors") != 2) factor *= 1.06;
    if (value(point, "pack") != 1) factor *= 1.5;
    if (value(point, "place") == 0) factor *= 1.6;
    if (value(point, "place") == 1) factor *= 1.2;
  } else {
    factor *= point.sketch == 1 ? 2.5 : 20;
  }
  if (value(point, "order") != 3) factor *= value(point, "order") % 2 == 0 ? 1.25 : 1.1;
  factor *= 1 + 0.08 * std::abs(std::log2(static_cast<double>(value(point, "block") + 1) / 65));
  factor *= 1 + 0.05 * std::abs(std::log2(static_cast<double>(value(point, "unroll") + 1) / 5));
  return optimum() * factor;
}

std::variant<Candidate, Pruned> SyntheticSpace::emit(const Point& point) const {
  if (all_pruned_) return Pruned{point.sketch == 2 ? "scalar code" : "does not fit"};
  const std::int64_t accumulators = value(point, "vectors") * value(point, "rows");
  if (accumulators > 28) return Pruned{"too many registers"};
  Candidate candidate;
  candidate.implementation = synthetic_implementation(point);
  for (const SpaceKnob& knob : sketches_[point.sketch].knobs)
    candidate.features[knob.name] = static_cast<double>(value(point, knob.name));
  candidate.features["sketch"] = static_cast<double>(point.sketch);
  candidate.features["accumulators"] = static_cast<double>(accumulators);
  // Sees the tile, is blind to order, blocks and unrolling, and wrong by up to 20 % besides.
  double factor = point.sketch == 0 ? 1 + 8.0 / static_cast<double>(accumulators) : point.sketch == 1 ? 2.2 : 9;
  if (point.sketch == 0 && value(point, "pack") != 1) factor *= 1.3;
  factor *= 0.9 + 0.2 * unit(candidate.implementation.variant + "estimate");
  candidate.estimate = 2 * optimum() * factor;
  candidate.features["estimate"] = std::log(candidate.estimate);
  return candidate;
}

double SyntheticMeasurer::time(const Point& point, double at) const {
  const double speed = 1 + drift * std::sin(at * 0.7) + drift * std::sin(at * 0.13);
  return space_.seconds(point) * speed * (1 + noise * (unit(synthetic_implementation(point).variant) - 0.5) * 2);
}

double SyntheticMeasurer::jump() { return 1 + jumps * (2 * unit(fmt::format("jump {}", ++jumps_made_ * 7919)) - 1); }

std::vector<Measurement> SyntheticMeasurer::measure(const std::vector<Implementation>& candidates,
                                                    const Implementation* incumbent, const Done& done) {
  std::vector<Measurement> all;
  for (const Implementation& candidate : candidates) {
    const Point point = synthetic_point(candidate);
    ++measured[candidate.print()];
    ++now_;
    Measurement m;
    if (space_.crashes(point)) {
      m.status = TrialStatus::crashed;
      m.message = "signal 11";
    } else {
      const double own = jump(), other = jump();
      for (int i = 0; i < 5; ++i) {
        m.seconds.push_back(own * time(point, now_ + 0.01 * i));
        if (incumbent != nullptr)
          m.incumbent_seconds.push_back(other * time(synthetic_point(*incumbent), now_ + 0.01 * i));
      }
      incumbents += incumbent != nullptr ? 1 : 0;
    }
    all.push_back(m);
    if (!done(all.back())) break;
  }
  return all;
}

std::vector<FreshTimes> SyntheticMeasurer::remeasure(const Implementation& candidate, const Implementation& incumbent,
                                                     int count) {
  if (fails_fresh.contains(candidate.print())) throw Error(ErrorCode::internal, "it crashed in a fresh process");
  processes[candidate.print()] += count;
  std::vector<FreshTimes> times;
  for (int i = 0; i < count; ++i) {
    const double speed = 1 + 0.05 * (i % 2) + drift * std::sin(++now_ * 2.1);
    times.push_back(
        {space_.seconds(synthetic_point(candidate)) * speed, space_.seconds(synthetic_point(incumbent)) * speed});
  }
  return times;
}

}  // namespace heddle::autoscheduler
