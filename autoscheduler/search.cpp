#include "autoscheduler/search.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "autoscheduler/search_pool.hpp"
#include "base/error.hpp"

namespace heddle::autoscheduler {
namespace {

// Which points are tried follows from these, the seed and the measurements: changing one changes search_version.
constexpr std::size_t batch = 8;           // trials between two trainings of the cost model
constexpr std::size_t first_given = 4;     // of the first batch: the first default and what others have found
constexpr std::size_t enumerable = 4096;   // spaces up to this many points are ranked whole
constexpr std::size_t seed_points = 1500;  // drawn at random before the first trial
constexpr std::size_t seed_rounds = 3;     // of improving them by the estimate
constexpr std::size_t counted_seeds = 48;  // of those, whose instructions are counted before the first trial
constexpr std::size_t counted_rounds = 4;  // of improving them by the count
constexpr std::size_t counted_parents = 3;
constexpr std::size_t counted_children = 8;
constexpr std::size_t counted_batch = 16;  // whose instructions are counted to choose a batch, besides some children
constexpr std::size_t near_parents = 3;    // the best trials, whose neighbours have a share of a batch
constexpr std::size_t counted_near = 12;
constexpr std::size_t batch_near = 3;
constexpr std::size_t counted_lines = 10;   // of a schedule; the more it has, the fewer can be counted in the same time
constexpr double counting_share = 0.25;     // of the time that is left, before a batch
constexpr std::size_t elite = 12;           // parents: the best trials so far
constexpr std::size_t generations = 3;      // of improving a batch's pool by the model
constexpr double estimate_penalty = 0.7;    // the estimate is wrong by such factors (e^0.7 = 2)
constexpr double prediction_penalty = 0.3;  // what the model does not tell apart
constexpr double near_estimate = 0.02;      // by which an estimate must beat a default to be preferred without trials
constexpr double near_default = 1.15;       // score of the first default, over the best, up to which it is a finalist
constexpr double clearly_faster = 1.25;     // than the incumbent, to take its place
constexpr double drift = 1.15;              // of the machine's speed: what scores may differ by from the times measured
constexpr double infinite = std::numeric_limits<double>::infinity();

}  // namespace

class Search::Searcher {
 public:
  Searcher(const Space& space, std::uint64_t seed, const std::vector<Start>& starts, const std::function<bool()>& stop)
      : sketches_(space.sketches()), emitter_(space), random_(seed), seeds_(emitter_, tried_) {
    hooks_.stop = stop;
    fill_seeds(starts);
  }

  SearchResult run(Measurer* measurer, const SearchOptions& options, const SearchHooks& hooks) {
    measurer_ = measurer;
    options_ = options;
    hooks_ = hooks;
    stopped_ = cut_short_ = false;
    start_ = std::chrono::steady_clock::now();
    if (options_.trials <= 0 && trials_.empty()) return by_estimate();
    if (measurer_ == nullptr) throw Error(ErrorCode::internal, "a search with trials needs a measurer");
    while (trials_.size() < wanted() && !ended()) {
      if (planned_.empty()) {
        planned_ = with_recalled(trials_.empty() ? first_batch() : next_batch());
        if (planned_.empty()) break;
        for (const Pool::Member& member : planned_) tried_.insert(member.emitted->text);
        choose_incumbent();
      }
      // The first one alone, so that the others have something to be timed beside.
      const std::size_t next = trials_.empty() ? 1 : std::min(planned_.size(), wanted() - trials_.size());
      const std::size_t before = trials_.size();
      try_out({planned_.begin(), planned_.begin() + static_cast<std::ptrdiff_t>(next)});
      if (before == 0) choose_incumbent();
      planned_.erase(planned_.begin(), planned_.begin() + static_cast<std::ptrdiff_t>(trials_.size() - before));
    }
    return finish();
  }

 private:
  std::size_t wanted() const { return static_cast<std::size_t>(options_.trials); }

  double elapsed() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  bool late() const { return options_.seconds > 0 && elapsed() > options_.seconds; }

  bool stopped() {
    stopped_ = stopped_ || (hooks_.stop && hooks_.stop());
    return stopped_;
  }

  bool ended() { return stopped() || late() || cut_short_; }

  /// Whether counting that begins now has to end: trials need most of the time that is left.
  std::function<bool()> enough_counted() {
    const double until = elapsed() + counting_share * (options_.seconds - elapsed());
    return [this, until] { return stopped() || (options_.seconds > 0 && elapsed() > until); };
  }

  /// Evenly over the sketches, whatever share of each is pruned. Where a pipeline has many stages nearly all is: half
  /// of the tries are steps from one of the pool.
  void add_random(Pool& pool, std::size_t count, const std::string& origin) {
    for (std::size_t tries = 0, added = 0; added < count && tries < 8 * count && !stopped(); ++tries) {
      const bool step = tries % 2 == 1 && !pool.empty();
      const Point point = step ? mutate(pool.members()[below(random_, pool.size())].point, random_, sketches_)
                               : random_point(random_, sketches_, tries / 2 % sketches_.size());
      if (pool.add(point, origin)) ++added;
    }
  }

  /// Of that many candidates, how many to count: lowering takes time with the number of stages.
  std::size_t countable(std::size_t count) const {
    const std::string& text = seeds_.members().front().emitted->text;
    const auto lines = static_cast<std::size_t>(std::ranges::count(text, '\n'));
    return std::max<std::size_t>(2, count * counted_lines / std::max(counted_lines, lines));
  }

  /// Rounds of mutating the cheapest members; `rank` gives all members their costs.
  void improve(Pool& pool, std::size_t rounds, std::size_t parents, std::size_t children,
               const std::function<void(Pool&)>& rank) {
    for (std::size_t round = 0; round < rounds; ++round) {
      rank(pool);
      std::vector<Pool::Member> top = pool.cheapest(parents);
      if (top.empty()) return;
      for (std::size_t tries = 0, added = 0; added < children && tries < 4 * children && !stopped(); ++tries) {
        const Pool::Member& parent = top[below(random_, top.size())];
        const bool given = given_origins_.contains(parent.origin);
        if (pool.add(mutate(parent.point, random_, sketches_), given ? "estimate" : parent.origin)) ++added;
      }
    }
    rank(pool);
  }

  void fill_seeds(const std::vector<Start>& starts) {
    if (sketches_.empty()) throw Error(ErrorCode::unsupported, "the search space has no sketch for this workload");
    for (const Sketch& sketch : sketches_)
      for (const SpaceKnob& knob : sketch.knobs)
        if (knob.domain.empty())
          throw Error(ErrorCode::internal, fmt::format("knob {} of sketch {} has no value", knob.name, sketch.name));
    // The first default is what there is without a search, and what others have found comes before further defaults.
    const std::vector<Point> defaults = emitter_.space().defaults();
    if (!defaults.empty()) seeds_.add(defaults.front(), "default");
    for (const Start& start : starts) {
      seeds_.add(start.point, start.origin);
      given_origins_.insert(start.origin);
    }
    for (const Point& point : defaults) seeds_.add(point, "default");
    given_ = seeds_.size();
    all_ = every_point(sketches_, enumerable);
    for (const Point& point : all_) {
      if (stopped()) throw Stopped{};
      seeds_.add(point, "estimate");
    }
    if (all_.empty()) {
      add_random(seeds_, seed_points, "estimate");
      improve(seeds_, seed_rounds, 60, 300, [](Pool& pool) { pool.cost_by_estimate(); });
    }
    if (stopped()) throw Stopped{};
    if (seeds_.empty())
      throw Error(ErrorCode::unsupported,
                  fmt::format("no schedule of the search space is worth compiling: {}", emitter_.prune_reasons()));
    seeds_.cost_by_estimate();
  }

  /// Seeds whose instructions are counted, the best ones' neighbours among them; the cheapest by that is what a search
  /// without trials chooses.
  Pool count_seeds() {
    std::vector<Pool::Member> chosen;
    const std::size_t count = countable(counted_seeds);
    for (std::size_t i = 0; i < std::min(given_, count / 2); ++i) chosen.push_back(seeds_.members()[i]);
    seeds_.choose(chosen, count - chosen.size(), estimate_penalty);
    Pool pool(emitter_, tried_);
    for (const Pool::Member& member : chosen) pool.add(member.point, member.origin);
    const auto enough = enough_counted();
    improve(pool, counted_rounds, counted_parents, countable(counted_children), [&](Pool& p) {
      p.count(enough);
      p.cost_by_count();
    });
    return pool;
  }

  static std::optional<Pool::Member> first_choice(const Pool& pool) {
    std::optional<Pool::Member> best;  // members() starts with the defaults
    for (const Pool::Member& member : pool.members())
      if (!best || member.cost < best->cost - (best->origin == "default" ? near_estimate : 0)) best = member;
    return best;
  }

  /// What is used without a search, what others have found, what a search without trials chooses, and more unlike
  /// these. None if it was told to stop meanwhile.
  std::vector<Pool::Member> first_batch() {
    const Random before = random_;
    const Pool pool = count_seeds();
    std::vector<Pool::Member> chosen;
    const auto choice = first_choice(pool);
    for (const Pool::Member& member : pool.members()) {
      const bool first_default = given_ > 0 && member.emitted == seeds_.members().front().emitted;
      const bool start = member.origin != "default" && given_origins_.contains(member.origin);
      if (first_default || (start && chosen.size() < first_given) || (choice && member.emitted == choice->emitted))
        chosen.push_back(member);
    }
    pool.choose(chosen, batch - chosen.size(), estimate_penalty);
    if (stopped()) {
      random_ = before;
      return {};
    }
    counted_ = pool.members();
    return chosen;
  }

  /// Indices of the best trials, the best first.
  std::vector<std::size_t> ranking() const {
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < trials_.size(); ++i)
      if (std::isfinite(trials_[i].score)) order.push_back(i);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return trials_[a].score < trials_[b].score; });
    return order;
  }

  void add_child(Pool& pool, const std::vector<std::size_t>& parents) {
    const auto pick = [&] {  // the best of three
      std::size_t best = parents.size();
      for (int i = 0; i < 3; ++i) best = std::min(best, below(random_, parents.size()));
      return parents[best];
    };
    const std::size_t a = pick(), b = pick();
    if (a == b || chance(random_, 0.65)) {
      pool.add(mutate(trials_[a].point, random_, sketches_), fmt::format("mutation of {}", a));
      return;
    }
    Point child = crossover(trials_[a].point, trials_[b].point, random_, sketches_);
    if (chance(random_, 0.5)) child = mutate(child, random_, sketches_);
    pool.add(child, fmt::format("crossover of {} and {}", a, b));
  }

  void add_neighbours(Pool& pool, const std::vector<std::size_t>& parents, std::size_t most) {
    for (std::size_t i = 0; i < std::min(most, parents.size()); ++i)
      for (const Point& point : neighbours(trials_[parents[i]].point, sketches_))
        pool.add(point, fmt::format("mutation of {}", parents[i]));
  }

  /// None if it was told to stop meanwhile.
  std::vector<Pool::Member> next_batch() {
    const Random before = random_;
    CostModel model;
    train(model, false);
    const auto rank = [&](Pool& pool) {
      if (model.trained()) pool.cost_by(model);
      else pool.cost_by_estimate();
    };
    std::vector<std::size_t> parents = ranking();
    parents.resize(std::min(parents.size(), elite));

    Pool pool(emitter_, tried_), surprises(emitter_, tried_);
    add_random(surprises, 16, "random");
    surprises.cost_by_estimate();
    if (all_.empty()) {
      rank(seeds_);
      for (const Pool::Member& member : seeds_.cheapest(150)) pool.add(member.point, member.origin);
      add_random(pool, 200, "random");
      if (!parents.empty()) {
        add_neighbours(pool, parents, 2);
        for (int i = 0; i < 300 && !stopped(); ++i) add_child(pool, parents);
      }
      improve(pool, generations, 40, 150, rank);
    } else {
      for (const Pool::Member& member : seeds_.members()) pool.add(member.point, member.origin);
      rank(pool);
    }

    // Some near the best so far, most by the model, and in every other batch one from anywhere: what the model has
    // never seen it cannot like.
    CostModel counting;
    train(counting, true);
    const auto enough = enough_counted();
    const auto rank_counted = [&](Pool& p) {
      p.count(enough);
      if (counting.trained()) p.cost_by_count(counting);
      else p.cost_by_count();
    };
    std::vector<Pool::Member> chosen, likely, close;
    pool.choose(likely, countable(counted_batch), model.trained() ? prediction_penalty : estimate_penalty);
    Pool neighbourhood(emitter_, tried_), near(emitter_, tried_), shortlist(emitter_, tried_);
    add_neighbours(neighbourhood, parents, near_parents);
    rank(neighbourhood);
    neighbourhood.choose(close, countable(counted_near), prediction_penalty);
    for (const Pool::Member& member : close) near.add(member.point, member.origin);
    rank_counted(near);
    near.choose(chosen, batch_near, prediction_penalty);
    for (const auto* members : {&counted_, &likely, &close})
      for (const Pool::Member& member : *members) shortlist.add(member.point, member.origin);
    improve(shortlist, 1, counted_parents, countable(counted_children), rank_counted);
    const bool surprising = trials_.size() / batch % 2 == 0;
    shortlist.choose(chosen, batch - (surprising ? 1 : 0) - chosen.size(),
                     counting.trained() ? prediction_penalty : estimate_penalty);
    if (surprising) surprises.choose(chosen, 1, 0);
    shortlist.choose(chosen, batch - chosen.size(), prediction_penalty);
    Pool planned(emitter_, tried_);
    for (const Pool::Member& member : chosen) planned.add(member.point, member.origin);
    rank_counted(planned);
    if (stopped()) {
      random_ = before;
      return {};
    }
    counted_ = shortlist.members();
    predicted_ = counting.trained();
    return planned.members();
  }

  /// A batch in which what earlier runs have tried has its place, and the rest follows.
  std::vector<Pool::Member> with_recalled(std::vector<Pool::Member> plan) {
    if (!hooks_.recall) return plan;
    const std::size_t size = plan.size();
    const auto text = [](const Pool::Member& member) -> const std::string& { return member.emitted->text; };
    std::map<std::size_t, Pool::Member> known;  // by place in the batch
    for (std::size_t place = 0; place < plan.size(); ++place) {
      const int number = static_cast<int>(trials_.size() + place);
      auto recalled = hooks_.recall(number);
      if (!recalled) continue;
      emitter_.count({recalled->point}, {});
      const Emitted* emitted = emitter_.emit(recalled->point);
      if (emitted == nullptr)
        throw Error(ErrorCode::internal, fmt::format("trial {} is recalled with a point that is pruned", number));
      const auto planned = std::ranges::find(plan, emitted->text, text);
      known[place] =
          planned != plan.end() ? *planned : Pool::Member{recalled->point, recalled->origin, emitted, infinite};
      recalled_[number] = std::move(*recalled);
    }
    std::erase_if(plan, [&](const Pool::Member& member) {
      return std::ranges::any_of(known, [&](const auto& k) { return text(k.second) == text(member); });
    });
    std::vector<Pool::Member> batch;
    auto next = plan.begin();
    while (batch.size() < size) {
      const auto at = known.find(batch.size());
      batch.push_back(at != known.end() ? at->second : *next++);
    }
    return batch;
  }

  void train(CostModel& model, bool counted) {
    std::vector<CostRow> rows;
    std::vector<double> seconds;
    for (const Trial& trial : trials_) {
      const Emitted& emitted = *emitter_.emit(trial.point);
      rows.push_back(counted ? emitted.counted.value() : emitted.row);
      seconds.push_back(trial.score);
    }
    model.train(rows, seconds);
  }

  Candidate candidate(const Point& point) const { return std::get<Candidate>(emitter_.space().emit(point)); }

  void choose_incumbent() {
    const std::vector<std::size_t> best = ranking();
    if (best.empty() || (incumbent_ && trials_[best[0]].score * clearly_faster > trials_[*incumbent_].score)) return;
    incumbent_ = best[0];
  }

  double score(const Trial& trial) const {
    if (trial.measurement.status != TrialStatus::ok) return infinite;
    const double seconds = undisturbed(trial.measurement.seconds);
    if (!trial.incumbent || trial.measurement.incumbent_seconds.empty()) return seconds;
    const double relative =
        seconds / undisturbed(trial.measurement.incumbent_seconds) * trials_[*trial.incumbent].score;
    // A process that loses its core for all of the incumbent's samples would make the trial beside it the best of all.
    return std::max(relative, std::ranges::min(trial.measurement.seconds) / drift);
  }

  /// Every score from the measurements so far. An incumbent was tried before those that were timed beside it.
  void rescore() {
    std::map<std::size_t, std::vector<double>> times;  // of each incumbent, one for each trial beside it
    for (const Trial& trial : trials_)
      if (trial.incumbent && !trial.measurement.incumbent_seconds.empty())
        times[*trial.incumbent].push_back(undisturbed(trial.measurement.incumbent_seconds));
    for (std::size_t i = 0; i < trials_.size(); ++i) {
      trials_[i].score = score(trials_[i]);
      if (const auto found = times.find(i); found != times.end() && found->second.size() >= 3) {
        const double middle = median(found->second);
        trials_[i].score = std::clamp(trials_[i].score, middle / drift, middle * drift);
      }
    }
  }

  /// None if it is not among the trials any more.
  std::optional<std::size_t> incumbent_of(const RecalledTrial& recalled) const {
    if (recalled.incumbent_kernel.empty()) return incumbent_;
    const auto found = std::ranges::find(trials_, recalled.incumbent_kernel,
                                         [](const Trial& trial) { return trial.measurement.kernel_key; });
    if (found == trials_.end()) return std::nullopt;
    return static_cast<std::size_t>(found - trials_.begin());
  }

  /// Measures those that no earlier run has; ends early when the search is stopped or late.
  void try_out(const std::vector<Pool::Member>& members) {
    const auto take = [&](Trial& trial, Measurement measurement) {
      trial.measurement = std::move(measurement);
      trial.score = score(trial);
    };

    std::vector<Trial> fresh;
    std::vector<Implementation> missing;
    std::vector<std::size_t> missing_at;
    for (const Pool::Member& member : members) {
      Candidate made = candidate(member.point);
      Trial trial;
      trial.number = static_cast<int>(trials_.size() + fresh.size());
      trial.point = member.point;
      trial.implementation = std::move(made.implementation);
      trial.requirements = std::move(made.requirements);
      trial.estimate = member.emitted->counted->estimate;
      trial.incumbent = incumbent_;
      if (incumbent_) trial.incumbent_kernel = trials_[*incumbent_].measurement.kernel_key;
      if (predicted_ && std::isfinite(member.cost)) trial.prediction = std::exp(member.cost);
      trial.origin = member.origin;
      if (const auto known = recalled_.find(trial.number); known != recalled_.end()) {
        trial.incumbent = incumbent_of(known->second);
        trial.incumbent_kernel = known->second.incumbent_kernel;
        take(trial, known->second.measurement);
        trial.recalled = true;
      } else {
        missing.push_back(trial.implementation);
        missing_at.push_back(fresh.size());
      }
      fresh.push_back(std::move(trial));
    }

    // In the order of their numbers: what is recalled before the next one that is measured now.
    std::size_t ready = 0, measured = 0;
    const auto append_until = [&](std::size_t end) {
      for (; ready < end; ++ready) {
        pending_.push_back(fresh[ready]);
        if (hooks_.progress) hooks_.progress(with_pending());
      }
    };
    append_until(missing_at.empty() ? fresh.size() : missing_at[0]);
    if (!missing.empty())
      measurer_->measure(missing, incumbent_ ? &trials_[*incumbent_].implementation : nullptr,
                         [&](const Measurement& measurement) {
                           // What goes wrong once we are told to stop may be the stop's own doing.
                           if (stopped() && measurement.status != TrialStatus::ok) return false;
                           Trial& trial = fresh[missing_at[measured++]];
                           take(trial, measurement);
                           if (hooks_.store) hooks_.store(trial);
                           append_until(measured < missing.size() ? missing_at[measured] : fresh.size());
                           return !ended();
                         });
    cut_short_ = measured < missing.size();
    for (Trial& trial : pending_) trials_.push_back(std::move(trial));
    pending_.clear();
    rescore();
  }

  std::vector<Trial> with_pending() const {
    std::vector<Trial> all = trials_;
    all.insert(all.end(), pending_.begin(), pending_.end());
    return all;
  }

  SearchResult by_estimate() {
    const auto best = first_choice(count_seeds());
    if (stopped()) throw Stopped{};
    if (!best) throw Error(ErrorCode::unsupported, "no schedule of the search space can be compiled");
    SearchResult result;
    result.candidate = candidate(best->point);
    result.candidate.estimate = best->emitted->counted->estimate;
    return result;
  }

  /// A finalist's in fresh processes, at the speed that the machine had when the one with the best score was tried: the
  /// finalists' turns come minutes apart.
  std::vector<double> fresh_seconds(const Implementation& finalist, const Trial& best) {
    std::vector<double> seconds;
    for (const FreshTimes& process : measurer_->remeasure(finalist, best.implementation, options_.finalist_processes))
      seconds.push_back(process.candidate / process.incumbent * best.score);
    return seconds;
  }

  /// The best median of medians over fresh processes, among the best scores.
  std::optional<std::size_t> best_finalist(const std::vector<std::size_t>& order) {
    std::vector<std::size_t> finalists(order);
    // The first default is what is used without a search: it must lose here, not by the luck of one process.
    const auto first = std::find_if(order.begin(), order.end(), [&](std::size_t i) {
      return trials_[i].origin == "default" && trials_[i].score <= near_default * trials_[order[0]].score;
    });
    const auto places = static_cast<std::size_t>(std::max(0, options_.finalists));
    if (places > 0 && first != order.end() && static_cast<std::size_t>(first - order.begin()) >= places) {
      finalists.erase(finalists.begin() + (first - order.begin()));
      finalists.insert(finalists.begin() + static_cast<std::ptrdiff_t>(places) - 1, *first);
    }
    std::optional<std::size_t> winner;
    std::size_t done = 0;
    for (std::size_t i = 0; i < finalists.size() && done < places && !stopped(); ++i) {
      Trial& trial = trials_[finalists[i]];
      if (hooks_.recall_finalist) trial.process_seconds = hooks_.recall_finalist(trial.number);
      if (static_cast<int>(trial.process_seconds.size()) < options_.finalist_processes) {
        try {
          trial.process_seconds = fresh_seconds(trial.implementation, trials_[order[0]]);
        } catch (const Error&) {
          // It ran once and fails in a fresh process: not to be relied on, so the next one takes its place.
          trial.process_seconds.clear();
          continue;
        }
        if (stopped() || static_cast<int>(trial.process_seconds.size()) < options_.finalist_processes) {
          trial.process_seconds.clear();
          break;
        }
        if (hooks_.store_finalist) hooks_.store_finalist(trial);
      }
      ++done;
      if (hooks_.progress) hooks_.progress(trials_);
      if (!winner || median(trial.process_seconds) < median(trials_[*winner].process_seconds)) winner = finalists[i];
    }
    return winner;
  }

  std::string failures() const {
    std::map<TrialStatus, std::pair<int, std::string>> kinds;
    for (const Trial& trial : trials_) {
      auto& [count, message] = kinds[trial.measurement.status];
      if (count++ == 0) message = trial.measurement.message;
    }
    std::string text;
    for (const auto& [status, kind] : kinds)
      text += fmt::format("\n  {} {}, the first: {}", kind.first, to_string(status), kind.second);
    return text;
  }

  SearchResult finish() {
    SearchResult result;
    const std::vector<std::size_t> order = ranking();
    if (!order.empty()) {
      result.best = stopped() ? std::nullopt : best_finalist(order);
      if (!result.best) result.best = order[0];
      result.candidate = candidate(trials_[*result.best].point);
    } else if (!stopped()) {
      throw Error(ErrorCode::unsupported,
                  trials_.empty() ? std::string("no time was left for a single trial")
                                  : fmt::format("each of the {} trials failed:{}", trials_.size(), failures()));
    }
    result.stopped = stopped_;
    result.trials = trials_;
    return result;
  }

  const std::vector<Sketch>& sketches_;
  Emitter emitter_;
  Measurer* measurer_ = nullptr;
  SearchOptions options_;
  SearchHooks hooks_;
  Random random_;
  std::set<std::string> tried_;  ///< texts
  Pool seeds_;
  std::set<std::string> given_origins_ = {"default"};
  std::size_t given_ = 0;              ///< of the seeds: defaults and starts, which come first
  std::vector<Point> all_;             ///< of a small space; else empty
  std::vector<Pool::Member> counted_;  ///< whose instructions have been counted, and that were not chosen so far
  std::vector<Pool::Member> planned_;  ///< what is left of the batch
  std::vector<Trial> trials_, pending_;
  std::map<int, RecalledTrial> recalled_;  ///< of trials that earlier runs have measured, by number
  std::optional<std::size_t> incumbent_;
  bool predicted_ = false;  ///< the batch's costs are predictions
  bool stopped_ = false;
  bool cut_short_ = false;  ///< the measurer was told to end, or had to
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

Search::Search(const Space& space, std::uint64_t seed, const std::vector<Start>& starts,
               const std::function<bool()>& stop)
    : searcher_(std::make_unique<Searcher>(space, seed, starts, stop)) {}
Search::~Search() = default;
Search::Search(Search&&) noexcept = default;

SearchResult Search::run(Measurer* measurer, const SearchOptions& options, const SearchHooks& hooks) {
  return searcher_->run(measurer, options, hooks);
}

SearchResult search(const Space& space, Measurer* measurer, const SearchOptions& options, const SearchHooks& hooks) {
  return Search(space, options.seed).run(measurer, options, hooks);
}

}  // namespace heddle::autoscheduler
