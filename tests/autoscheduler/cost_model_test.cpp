#include <catch2/catch.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <numeric>

#include "autoscheduler/cost_model.hpp"
#include "autoscheduler/search_points.hpp"
#include "base/error.hpp"

using namespace heddle;
using namespace heddle::autoscheduler;

namespace {

constexpr float unknown = std::numeric_limits<float>::quiet_NaN();
constexpr double infinite = std::numeric_limits<double>::infinity();

struct Data {
  std::vector<CostRow> rows;
  std::vector<double> seconds;
};

/// Twelve features, of which a category (factor 3), a size and a product of two matter; the estimate sees only the
/// size.
Data draw(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  Data data;
  for (std::size_t i = 0; i < count; ++i) {
    CostRow row;
    for (int f = 0; f < 12; ++f) row.features.push_back(static_cast<float>(below(random, 8)));
    const bool slow = row.features[0] < 4;
    const double size = row.features[1], product = row.features[2] * row.features[3] / 49;
    data.seconds.push_back(1e-4 * (slow ? 3 : 1) * std::exp(0.2 * size + product));
    row.estimate = 3e-4 * std::exp(0.2 * size);
    data.rows.push_back(std::move(row));
  }
  return data;
}

/// Spearman's, of distinct values.
double rank_correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const auto ranks = [](const std::vector<double>& values) {
    std::vector<std::size_t> order(values.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) { return values[i] < values[j]; });
    std::vector<double> rank(values.size());
    for (std::size_t i = 0; i < order.size(); ++i) rank[order[i]] = static_cast<double>(i);
    return rank;
  };
  const auto ra = ranks(a), rb = ranks(b);
  const double n = static_cast<double>(a.size());
  double squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) squares += (ra[i] - rb[i]) * (ra[i] - rb[i]);
  return 1 - 6 * squares / (n * (n * n - 1));
}

long threads_of_this_process() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
}

}  // namespace

TEST_CASE("the model ranks points that it has not seen, better than the estimate alone") {
  const Data seen = draw(64, 1), unseen = draw(400, 2);
  CostModel model;
  model.train(seen.rows, seen.seconds);
  REQUIRE(model.trained());
  std::vector<double> estimates;
  for (const auto& row : unseen.rows) estimates.push_back(row.estimate);
  const double by_estimate = rank_correlation(estimates, unseen.seconds);
  const double by_model = rank_correlation(model.predict(unseen.rows), unseen.seconds);
  CAPTURE(by_estimate, by_model);
  CHECK(by_model > 0.85);
  CHECK(by_model > by_estimate + 0.1);
}

TEST_CASE("predictions are times: of the size that was measured") {
  const Data seen = draw(200, 3), unseen = draw(100, 4);
  CostModel model;
  model.train(seen.rows, seen.seconds);
  const auto predicted = model.predict(unseen.rows);
  double error = 0;
  for (std::size_t i = 0; i < predicted.size(); ++i)
    error += std::abs(std::log(predicted[i] / unseen.seconds[i])) / static_cast<double>(predicted.size());
  CHECK(error < 0.15);
}

TEST_CASE("where trials say nothing yet, the estimate decides") {
  const Data seen = draw(4, 5);
  CostModel model;
  model.train(seen.rows, seen.seconds);
  CostRow cheap = seen.rows[0], dear = seen.rows[0];
  cheap.estimate = 1e-5;
  dear.estimate = 1e-2;
  const auto predicted = model.predict({cheap, dear});
  CHECK(predicted[0] < predicted[1]);
}

TEST_CASE("failures are learned as slow, and what works stays in order") {
  Data data = draw(96, 6);
  for (std::size_t i = 0; i < data.rows.size(); ++i)
    if (data.rows[i].features[5] == 7) data.seconds[i] = infinite;
  CostModel model;
  model.train(data.rows, data.seconds);
  Data fresh = draw(300, 7);
  double failing = 0, working = 0;
  int failures = 0;
  const auto predicted = model.predict(fresh.rows);
  for (std::size_t i = 0; i < predicted.size(); ++i) {
    const bool fails = fresh.rows[i].features[5] == 7;
    failures += fails ? 1 : 0;
    (fails ? failing : working) += std::log(predicted[i] / fresh.seconds[i]);
  }
  failing /= failures;
  working /= static_cast<double>(predicted.size()) - failures;
  CHECK(failing > working + 0.5);
}

TEST_CASE("unknown features and rows of other lengths are taken") {
  Data data = draw(64, 8);
  for (std::size_t i = 0; i < data.rows.size(); i += 3) data.rows[i].features[4] = unknown;
  for (std::size_t i = 0; i < data.rows.size(); i += 5) data.rows[i].features.resize(9);
  CostModel model;
  model.train(data.rows, data.seconds);
  CostRow longer = data.rows[1], shorter = data.rows[1];
  longer.features.insert(longer.features.end(), 5, 1.0F);
  shorter.features.resize(4);
  const auto predicted = model.predict({data.rows[1], longer, shorter});
  CHECK(predicted[0] == predicted[1]);
  CHECK(std::isfinite(predicted[2]));
}

TEST_CASE("training twice gives the same model") {
  const Data data = draw(128, 9), others = draw(50, 10);
  CostModel first, second;
  first.train(data.rows, data.seconds);
  second.train(others.rows, others.seconds);
  second.train(data.rows, data.seconds);
  CHECK(first.predict(others.rows) == second.predict(others.rows));
}

TEST_CASE("without two trials that worked there is no model") {
  CostModel model;
  CHECK_FALSE(model.trained());
  CHECK_THROWS_AS(model.predict({}), Error);
  const Data data = draw(3, 11);
  model.train(data.rows, {1e-3, infinite, infinite});
  CHECK_FALSE(model.trained());
  model.train(data.rows, {1e-3, infinite, 2e-3});
  CHECK(model.trained());
  CHECK_THROWS_AS(model.train(data.rows, {1.0}), Error);
}

TEST_CASE("training takes milliseconds and starts no threads") {
  const Data data = draw(512, 12), many = draw(4000, 13);
  CostModel model;
  model.train(data.rows, data.seconds);
  const long before = threads_of_this_process();
  const auto start = std::chrono::steady_clock::now();
  model.train(data.rows, data.seconds);
  const auto trained = std::chrono::steady_clock::now();
  model.predict(many.rows);
  const auto end = std::chrono::steady_clock::now();
  CHECK(threads_of_this_process() == before);
  const double training = std::chrono::duration<double>(trained - start).count();
  const double predicting = std::chrono::duration<double>(end - trained).count();
  CAPTURE(training, predicting);
  // Several times what it takes alone: other tests run beside this one.
  CHECK(training < 0.5);
  CHECK(predicting < 0.5);
}
