#pragma once
#include <optional>
#include <string>
#include <vector>

#include "autoscheduler/subject.hpp"
#include "dsl/machine.hpp"
#include "dsl/stage.hpp"

namespace heddle::autoscheduler {

/// A loop of the output over blocks, threads and a thread's own part.
struct TileEdge {
  std::size_t place = 0;
  std::string loop;
  std::int64_t extent = 1, threads = 1, tile = 1;
  std::int64_t block() const { return threads * tile; }
  std::int64_t blocks() const { return (extent + block() - 1) / block(); }
};

/// Loops of a block's tile, innermost first.
struct TileLoops {
  std::vector<std::string> within;   ///< a thread's own, the vector first
  std::vector<std::string> threads;  ///< one to three
  std::vector<std::string> all() const;
};

/// The tile of the output that a block of threads computes.
class BlockTile {
 public:
  /// Knobs `threads_LOOP`, `tile_LOOP` and `lanes` of the output's places that have tiles. Throws Pruned where a device
  /// cannot run such a block, or it makes no sense.
  BlockTile(const Subject& subject, const std::vector<std::size_t>& places, const KnobValues& values);

  const std::vector<TileEdge>& edges() const { return edges_; }
  const TileEdge* edge_of(std::optional<std::size_t> place) const;  ///< null: that place has none
  bool is_first(const TileEdge& edge) const { return &edge == edges_.data(); }
  /// Whether an edge is no loop over threads or a thread's part: its loop is one of blocks. Never the first one.
  bool is_grid_only(const TileEdge& edge) const { return !is_first(edge) && edge.block() == 1; }

  std::int64_t threads() const { return threads_; }
  std::int64_t part() const { return part_; }    ///< elements of a thread
  std::int64_t lanes() const { return lanes_; }  ///< of its vectors
  double waste() const { return waste_; }        ///< elements computed over those that there are
  double blocks() const;

  bool interleaves() const { return interleaves_; }
  /// A thread's vectors along the first edge lie `threads` vectors apart instead of side by side, so that neighbouring
  /// threads touch neighbours.
  void interleave(bool wanted) { interleaves_ = wanted; }

  /// Splits what a stage has of a block along an edge, its loop `loop`, among threads.
  void split(Stage& stage, const TileEdge& edge, const std::string& loop, TileLoops& loops) const;
  /// Runs a definition's loops, which have been split and put in order.
  void run(Stage& stage, const TileLoops& loops) const;
  /// Runs a definition's loops as one, over all threads of the block, vectors of `lanes` along the first; `serial`
  /// loops go inside. `elements`: in all.
  void spread(Stage& stage, std::vector<std::string> loops, std::int64_t elements, std::int64_t lanes,
              const std::vector<std::string>& serial) const;

 private:
  const Subject& subject_;
  std::vector<TileEdge> edges_;
  std::int64_t threads_ = 1, part_ = 1, lanes_ = 1;
  double waste_ = 1;
  bool interleaves_ = false;
};

}  // namespace heddle::autoscheduler
