#include "autoscheduler/search_pool.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <thread>

#include <fmt/format.h>

#include "base/error.hpp"

namespace heddle::autoscheduler {

const Emitted* Emitter::emit(const Point& point) {
  const auto [at, fresh] = cache_.try_emplace(point);
  if (fresh) {
    auto emitted = space_.emit(point);
    if (const auto* pruned = std::get_if<Pruned>(&emitted)) {
      ++reasons_[pruned->reason];
    } else {
      const auto& candidate = std::get<Candidate>(emitted);
      at->second = Emitted{candidate.implementation.print(), row(candidate)};
    }
  }
  return at->second ? &*at->second : nullptr;
}

CostRow Emitter::row(const Candidate& candidate) {
  CostRow row;
  row.estimate = candidate.estimate;
  for (const auto& [name, value] : candidate.features) {
    const std::size_t column = columns_.try_emplace(name, columns_.size()).first->second;
    if (row.features.size() <= column) row.features.resize(column + 1, std::numeric_limits<float>::quiet_NaN());
    row.features[column] = static_cast<float>(value);
  }
  return row;
}

void Emitter::count(const std::vector<Point>& points, const std::function<bool()>& stop) {
  std::vector<Emitted*> missing;
  std::vector<Candidate> candidates;
  for (const Point& point : points) {
    if (emit(point) == nullptr) continue;
    Emitted& emitted = *cache_.at(point);
    if (emitted.counted || std::ranges::find(missing, &emitted) != missing.end()) continue;
    missing.push_back(&emitted);
    candidates.push_back(std::get<Candidate>(space_.emit(point)));
  }
  std::atomic<std::size_t> next = 0;
  std::atomic<bool> stopped = false;
  std::vector<char> done(candidates.size(), 0);
  const auto work = [&](bool asks) {
    for (std::size_t i = next++; i < candidates.size() && !stopped; i = next++) {
      if (asks && stop && stop()) {
        stopped = true;
        return;
      }
      try {
        space_.count(candidates[i]);
      } catch (const Error&) {
        // What Halide refuses now it would refuse in a trial.
        candidates[i].estimate = std::numeric_limits<double>::infinity();
      }
      done[i] = 1;
    }
  };
  std::vector<std::thread> threads;
  for (unsigned t = 1; t < std::min<std::size_t>(std::thread::hardware_concurrency(), candidates.size()); ++t)
    threads.emplace_back(work, false);
  work(true);
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < candidates.size(); ++i)
    if (done[i] != 0) missing[i]->counted = row(candidates[i]);
}

std::string Emitter::prune_reasons() const {
  std::vector<std::pair<std::string, int>> sorted(reasons_.begin(), reasons_.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  constexpr std::size_t most = 8;
  std::string text;
  for (std::size_t i = 0; i < std::min(most, sorted.size()); ++i)
    text += fmt::format("{}{} ({})", i == 0 ? "" : ", ", sorted[i].first, sorted[i].second);
  return sorted.size() > most ? fmt::format("{} and {} other reasons", text, sorted.size() - most) : text;
}

bool Pool::add(const Point& point, const std::string& origin) {
  const Emitted* emitted = emitter_.emit(point);
  if (emitted == nullptr || tried_.contains(emitted->text) || !texts_.insert(emitted->text).second) return false;
  members_.push_back({point, origin, emitted, 0});
  return true;
}

void Pool::cost_by_estimate() {
  for (Member& member : members_) member.cost = std::log(member.emitted->row.estimate);
}

void Pool::cost_by(const CostModel& model) {
  std::vector<CostRow> rows;
  for (const Member& member : members_) rows.push_back(member.emitted->row);
  cost(model, rows);
}

void Pool::count(const std::function<bool()>& stop) {
  std::vector<Point> points;
  for (const Member& member : members_) points.push_back(member.point);
  emitter_.count(points, stop);
  std::erase_if(members_, [](const Member& member) {
    return !member.emitted->counted || !std::isfinite(member.emitted->counted->estimate);
  });
}

void Pool::cost_by_count() {
  for (Member& member : members_) member.cost = std::log(member.emitted->counted->estimate);
}

void Pool::cost_by_count(const CostModel& model) {
  std::vector<CostRow> rows;
  for (const Member& member : members_) rows.push_back(*member.emitted->counted);
  cost(model, rows);
}

void Pool::cost(const CostModel& model, const std::vector<CostRow>& rows) {
  const std::vector<double> seconds = model.predict(rows);
  for (std::size_t i = 0; i < members_.size(); ++i) members_[i].cost = std::log(seconds[i]);
}

std::vector<Pool::Member> Pool::cheapest(std::size_t most) const {
  std::vector<std::size_t> order(members_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return members_[a].cost < members_[b].cost; });
  order.resize(std::min(most, order.size()));
  std::vector<Member> best;
  for (const std::size_t i : order) best.push_back(members_[i]);
  return best;
}

void Pool::choose(std::vector<Member>& chosen, std::size_t count, double penalty) const {
  const auto& sketches = emitter_.space().sketches();
  // Beyond the cheapest few hundred, no penalty makes up for the cost.
  std::vector<Member> candidates = cheapest(600);
  std::vector<double> charge(candidates.size(), 0);
  const auto charge_for = [&](const Member& member) {
    for (std::size_t i = 0; i < candidates.size(); ++i)
      if (candidates[i].emitted->text == member.emitted->text) charge[i] = std::numeric_limits<double>::infinity();
      else charge[i] = std::max(charge[i], penalty * similarity(candidates[i].point, member.point, sketches));
  };
  for (const Member& member : chosen) charge_for(member);
  for (; count > 0; --count) {
    std::size_t best = candidates.size();
    for (std::size_t i = 0; i < candidates.size(); ++i)
      if (std::isfinite(charge[i]) &&
          (best == candidates.size() || candidates[i].cost + charge[i] < candidates[best].cost + charge[best]))
        best = i;
    if (best == candidates.size()) return;
    chosen.push_back(candidates[best]);
    charge_for(Member(chosen.back()));
  }
}

}  // namespace heddle::autoscheduler
