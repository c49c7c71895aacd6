#pragma once
#include <set>
#include <vector>

#include "autoscheduler/lowered_program.hpp"

// What the loops of a lowered kernel bring into a cache.
namespace heddle::autoscheduler {

struct Cache {
  const char* name;
  double bytes, bytes_a_cycle;
  double stretch_start;  ///< cycles until prefetchers have found a stretch of memory and are ahead of the kernel
  bool brings_between;   ///< its prefetchers bring lines that lie between those that are read
  double line;           ///< bytes that come together
  /// Places this far apart share the same few lines; 0: addresses are spread over all of them.
  double way_bytes;
};

/// Reckons from the accesses of each loop how much of what it touches a cache has kept.
class MemoryTraffic {
 public:
  explicit MemoryTraffic(const LoweredProgram& program);  ///< which must outlive it

  /// Bytes that have to be brought into the cache for each of the kernel's nests, in its run after others: where all
  /// that it touches fits, none. What is written counts more, as does what prefetchers have to find again and again.
  std::vector<double> of_nests(const Cache& cache) const;

 private:
  const LoweredProgram& program_;
  std::set<const LoopWork*> forgetting_;  ///< of which an iteration touches more stretches than prefetchers follow
};

}  // namespace heddle::autoscheduler
