#include "tools/statistics.hpp"

#include <cmath>
#include <random>

#include <catch2/catch.hpp>

#include "base/error.hpp"

using namespace heddle;
using namespace heddle::tools;

namespace {

/// Times as machines give them: a few percent of noise that is skewed to the right, a slow drift that both schedules
/// see, and now and then an interruption.
struct Machine {
  std::mt19937_64 random;
  double drift = 0;

  explicit Machine(std::uint64_t seed) : random(seed) {}
  void next_round() { drift = 0.98 * drift + std::normal_distribution<double>(0, 0.004)(random); }
  double time(double base) {
    const double noise = std::gamma_distribution<double>(2, 0.012)(random);
    const double interruption = std::uniform_real_distribution<double>(0, 1)(random) < 0.03 ? 0.5 : 0;
    return base * std::exp(drift) * (1 + noise + interruption);
  }
};

Comparison draw(std::uint64_t seed, double second_base, int rounds = 60) {
  Machine machine(seed);
  std::vector<double> first, second;
  for (int i = 0; i < rounds; ++i) {
    machine.next_round();
    first.push_back(machine.time(1e-3));
    second.push_back(machine.time(1e-3 * second_base));
  }
  return compare_paired(first, second);
}

}  // namespace

TEST_CASE("the same against the same reads no difference in at least 95 of 100 draws") {
  int same = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) same += draw(seed, 1.0).verdict == Verdict::no_difference ? 1 : 0;
  CHECK(same >= 95);
}

TEST_CASE("a shift of 5 % is found in at least 95 of 100 draws, in the right direction") {
  int slower = 0, faster = 0;
  for (std::uint64_t seed = 100; seed < 200; ++seed) {
    slower += draw(seed, 1.05).verdict == Verdict::first_is_faster ? 1 : 0;
    faster += draw(seed, 1 / 1.05).verdict == Verdict::second_is_faster ? 1 : 0;
  }
  CHECK(slower >= 95);
  CHECK(faster >= 95);
}

TEST_CASE("the ratio's interval holds the true ratio in about 99 of 100 draws") {
  int covered = 0;
  for (std::uint64_t seed = 200; seed < 400; ++seed) {
    const Comparison c = draw(seed, 1.1);
    covered += c.interval.low <= 1.1 && 1.1 <= c.interval.high ? 1 : 0;
  }
  CHECK(covered >= 190);
}

TEST_CASE("a shift below the smallest that is named stays unnamed however many samples there are") {
  CHECK(draw(7, 1.005, 400).verdict == Verdict::no_difference);
}

TEST_CASE("a hundred thousand pairs, as of a kernel of microseconds, are compared as well") {
  const Comparison c = draw(11, 1.05, 100000);
  CHECK(c.verdict == Verdict::first_is_faster);
  CHECK(c.ratio == Approx(1.05).epsilon(0.005));
}

TEST_CASE("recorded samples of one kernel in two processes differ, of one process do not") {
  // A 1x1 convolution's times in us: page placement differed between the processes.
  const std::vector<double> one = {40.1, 39.8, 40.0, 40.3, 39.9, 40.2, 41.0, 40.0,
                                   39.9, 40.1, 40.4, 39.7, 40.0, 40.2, 39.9, 40.1};
  const std::vector<double> again = {40.0, 40.1, 39.9, 40.2, 40.0, 40.1, 40.3, 40.0,
                                     40.0, 39.9, 40.2, 40.0, 39.8, 40.1, 40.3, 40.0};
  const std::vector<double> other = {43.0, 42.7, 43.1, 43.0, 42.9, 43.2, 43.3, 42.8,
                                     43.0, 43.1, 43.0, 42.9, 43.2, 43.0, 42.8, 43.1};
  CHECK(compare_paired(one, again).verdict == Verdict::no_difference);
  const Comparison c = compare_paired(one, other);
  CHECK(c.verdict == Verdict::first_is_faster);
  CHECK(c.ratio == Approx(43.0 / 40.05).epsilon(0.01));
}

TEST_CASE("quantiles interpolate and medians carry intervals that hold them") {
  CHECK(quantile({3, 1, 2}, 0.5) == 2);
  CHECK(quantile({1, 2}, 0.5) == 1.5);
  CHECK(quantile({5}, 0.9) == 5);
  std::vector<double> sample;
  for (int i = 0; i < 101; ++i) sample.push_back(i);
  const Interval interval = median_interval(sample);
  CHECK(interval.low > 35);
  CHECK(interval.low < 50);
  CHECK(interval.high > 50);
  CHECK(interval.high < 65);
}

TEST_CASE("too few or unequal samples are refused") {
  CHECK_THROWS_AS(compare_paired({1, 2, 3}, {1, 2, 3}), Error);
  CHECK_THROWS_AS(compare_paired(std::vector<double>(20, 1.0), std::vector<double>(19, 1.0)), Error);
  CHECK_THROWS_AS(median({}), Error);
}
