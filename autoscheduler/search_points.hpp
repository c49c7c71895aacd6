#pragma once
#include <random>
#include <vector>

#include "autoscheduler/space.hpp"

// Moves through a space's points. All draw from the generator itself: std::uniform_* differ between standard libraries.
namespace heddle::autoscheduler {

using Random = std::mt19937_64;

std::size_t below(Random& random, std::size_t count);  ///< 0..count-1; the bias of a remainder is far below 1e-12
bool chance(Random& random, double probability);

/// The sketch, then each knob, uniformly.
Point random_point(Random& random, const std::vector<Sketch>& sketches);
Point random_point(Random& random, const std::vector<Sketch>& sketches, std::size_t sketch);

/// One to three knobs changed: ordered ones mostly by a step in their domain. Now and then another sketch, which keeps
/// the values of knobs that it has too.
Point mutate(const Point& point, Random& random, const std::vector<Sketch>& sketches);

/// Of `a`'s sketch; each knob from either parent, where `b` has one of that name with a value that `a`'s domain has.
Point crossover(const Point& a, const Point& b, Random& random, const std::vector<Sketch>& sketches);

/// Every point one step away: neighbours in ordered domains, all others in categories.
std::vector<Point> neighbours(const Point& point, const std::vector<Sketch>& sketches);

/// 1 for equal points, 0 for other sketches. Categories weigh three times as much as ordered knobs: they are structure.
double similarity(const Point& a, const Point& b, const std::vector<Sketch>& sketches);

/// All points, if there are at most `most`; else none.
std::vector<Point> every_point(const std::vector<Sketch>& sketches, std::size_t most);

}  // namespace heddle::autoscheduler
