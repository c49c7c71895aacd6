#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "autoscheduler/subject.hpp"
#include "dsl/stage.hpp"

namespace heddle::autoscheduler {

/// How `out`'s loops are tiled, ordered and shared among threads. Places are those of Subject::order.
struct NestShape {
  std::vector<std::int64_t> tile;   ///< elements a place; the first a multiple of the lanes
  std::vector<std::int64_t> block;  ///< tiles of a cache block a place; 0: none
  std::size_t innermost = 0;        ///< the place whose loop over tiles is innermost
  std::size_t outermost = 0;        ///< and outermost
  std::int64_t parallel = 0;        ///< outer loops that are shared among threads; 0: one thread
  bool guard_vector = false;        ///< guard the first place's last tile instead of shifting it inwards
};

/// One loop over tiles or blocks, or several fused.
struct NestLoop {
  std::string name;
  std::int64_t count = 1;
  std::vector<std::size_t> places;  ///< whose index it advances
};

/// The loops around a tile of `out`.
class Nest {
 public:
  /// Nothing if the shape makes no sense for the subject; `why` then says so.
  static std::optional<Nest> make(const Subject& subject, const NestShape& shape, std::string& why);

  const NestShape& shape() const { return shape_; }
  const std::vector<NestLoop>& loops() const { return loops_; }  ///< innermost first; at least one
  std::size_t levels() const { return loops_.size(); }
  int vector_lanes() const { return lanes_; }  ///< of the first place; 1: no vector fits
  std::int64_t vectors() const { return shape_.tile[0] / lanes_; }
  std::int64_t tasks() const;                        ///< iterations of the parallel loop
  std::int64_t iterations(std::size_t level) const;  ///< of loop `level` in all
  /// What one iteration of loop `level` computes of `out`, Halide's order; beyond the last level: everything.
  Box region(std::size_t level) const;
  /// Elements computed in all over those that there are: tiles that do not divide.
  double waste() const;
  /// The level of the loop over a place's tiles, or of its blocks.
  std::optional<std::size_t> level_of(std::size_t place, bool block) const;

  /// Schedules `out`.
  void schedule(Schedule& schedule) const;

 private:
  explicit Nest(const Subject& subject) : subject_(&subject) {}
  const Subject* subject_;
  NestShape shape_;
  int lanes_ = 1;
  std::vector<NestLoop> loops_;
  std::vector<NestLoop> unfused_;
};

/// What one iteration of each loop of a nest needs of every stage and operand, found once a loop. Both must outlive it.
class NestRegions {
 public:
  NestRegions(const Dependences& dependences, const Nest& nest) : dependences_(dependences), nest_(nest) {}
  const std::map<std::string, Box>& at(std::size_t level) const {
    const auto [known, fresh] = by_level_.try_emplace(level);
    if (fresh) known->second = dependences_.regions(dependences_.out().role, nest_.region(level));
    return known->second;
  }

 private:
  const Dependences& dependences_;
  const Nest& nest_;
  mutable std::map<std::size_t, std::map<std::string, Box>> by_level_;
};

}  // namespace heddle::autoscheduler
