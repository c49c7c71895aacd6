#include "autoscheduler/cost_model.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>

#include <fmt/format.h>
#include <xgboost/c_api.h>

#include "base/error.hpp"

namespace heddle::autoscheduler {
namespace {

constexpr int rounds = 80;
/// Natural logarithms of time. What is this much slower than the best is bad enough: trees would else spend their
/// splits on telling bad from worse.
constexpr double widest = 3.0;
constexpr double failure_above_worst = 0.5;

void check(int status) {
  if (status != 0)
    throw Error(ErrorCode::internal, fmt::format("the cost model failed in XGBoost: {}", XGBGetLastError()));
}

struct Matrix {
  DMatrixHandle handle = nullptr;

  Matrix(const std::vector<CostRow>& rows, std::size_t columns) {
    constexpr float unknown = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> dense(rows.size() * columns, unknown);
    for (std::size_t r = 0; r < rows.size(); ++r)
      std::copy_n(rows[r].features.begin(), std::min(columns, rows[r].features.size()),
                  dense.begin() + static_cast<std::ptrdiff_t>(r * columns));
    check(XGDMatrixCreateFromMat(dense.data(), rows.size(), columns, unknown, &handle));
  }
  ~Matrix() { XGDMatrixFree(handle); }
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;
};

struct Booster {
  BoosterHandle handle = nullptr;

  explicit Booster(const Matrix& matrix) {
    check(XGBoosterCreate(&matrix.handle, 1, &handle));
    const std::map<std::string, std::string> parameters = {
        {"nthread", "1"},          // a pool of threads would disturb what is timed
        {"tree_method", "exact"},  // rows are few
        {"objective", "reg:squarederror"},
        {"base_score", "0"},
        {"eta", "0.15"},
        {"max_depth", "4"},
        {"min_child_weight", "1"},
        {"lambda", "1"},
        {"seed", "1"},
        {"verbosity", "0"},
    };
    for (const auto& [name, value] : parameters) check(XGBoosterSetParam(handle, name.c_str(), value.c_str()));
  }
  ~Booster() { XGBoosterFree(handle); }
  Booster(const Booster&) = delete;
  Booster& operator=(const Booster&) = delete;
};

/// log(time) = offset + slope * log(estimate): least squares over what worked. A slope beyond [0, 1] would trust the
/// estimate against itself, or more than it trusts itself.
struct Line {
  double offset = 0, slope = 0;

  double at(double estimate) const { return offset + (slope == 0 ? 0 : slope * std::log(estimate)); }
};

Line fit(const std::vector<CostRow>& rows, const std::vector<double>& logs, const std::vector<double>& seconds) {
  double n = 0, mean_x = 0, mean_y = 0;
  bool usable = true;
  for (std::size_t i = 0; i < rows.size(); ++i) usable = usable && rows[i].estimate > 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!std::isfinite(seconds[i])) continue;
    n += 1;
    mean_x += usable ? std::log(rows[i].estimate) : 0;
    mean_y += logs[i];
  }
  mean_x /= n;
  mean_y /= n;
  // As if the estimate had been right for two more trials a factor e apart: few trials do not overrule it.
  double covariance = 0.5, variance = 0.5;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!std::isfinite(seconds[i]) || !usable) continue;
    const double dx = std::log(rows[i].estimate) - mean_x;
    covariance += dx * (logs[i] - mean_y);
    variance += dx * dx;
  }
  const double slope = usable ? std::clamp(covariance / variance, 0.0, 1.0) : 0;
  return {mean_y - slope * mean_x, slope};
}

}  // namespace

struct CostModel::State {
  std::unique_ptr<Booster> booster;
  std::size_t columns = 0;
  Line line;
};

CostModel::CostModel() : state_(std::make_unique<State>()) {}
CostModel::~CostModel() = default;
CostModel::CostModel(CostModel&&) noexcept = default;
CostModel& CostModel::operator=(CostModel&&) noexcept = default;

bool CostModel::trained() const { return state_->booster != nullptr; }

void CostModel::train(const std::vector<CostRow>& rows, const std::vector<double>& seconds) {
  if (rows.size() != seconds.size())
    throw Error(ErrorCode::internal,
                fmt::format("the cost model got {} rows and {} times", rows.size(), seconds.size()));
  State next;
  std::vector<double> logs;
  double fastest = std::numeric_limits<double>::infinity(), slowest = -fastest;
  int worked = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    logs.push_back(std::log(seconds[i]));
    next.columns = std::max(next.columns, rows[i].features.size());
    if (!std::isfinite(logs.back())) continue;
    fastest = std::min(fastest, logs.back());
    slowest = std::max(slowest, logs.back());
    ++worked;
  }
  if (worked < 2 || next.columns == 0) {
    *state_ = std::move(next);
    return;
  }
  slowest = std::min(slowest, fastest + widest);
  for (double& log : logs) log = std::isfinite(log) ? std::min(log, slowest) : slowest + failure_above_worst;
  next.line = fit(rows, logs, seconds);

  const Matrix matrix(rows, next.columns);
  std::vector<float> labels;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    labels.push_back(static_cast<float>(logs[i] - next.line.at(rows[i].estimate)));
  }
  check(XGDMatrixSetFloatInfo(matrix.handle, "label", labels.data(), labels.size()));
  next.booster = std::make_unique<Booster>(matrix);
  for (int round = 0; round < rounds; ++round)
    check(XGBoosterUpdateOneIter(next.booster->handle, round, matrix.handle));
  *state_ = std::move(next);
}

std::vector<double> CostModel::predict(const std::vector<CostRow>& rows) const {
  if (!trained()) throw Error(ErrorCode::internal, "the cost model was asked before it was trained");
  if (rows.empty()) return {};
  const Matrix matrix(rows, state_->columns);
  constexpr const char* config =
      R"({"type": 0, "training": false, "iteration_begin": 0, "iteration_end": 0, "strict_shape": false})";
  const bst_ulong* shape = nullptr;
  bst_ulong dimensions = 0;
  const float* corrections = nullptr;
  check(XGBoosterPredictFromDMatrix(state_->booster->handle, matrix.handle, config, &shape, &dimensions, &corrections));
  std::vector<double> seconds;
  for (std::size_t i = 0; i < rows.size(); ++i)
    seconds.push_back(std::exp(state_->line.at(rows[i].estimate) + static_cast<double>(corrections[i])));
  return seconds;
}

}  // namespace heddle::autoscheduler
