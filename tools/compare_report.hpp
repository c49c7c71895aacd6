#pragma once
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "tools/peak.hpp"

namespace heddle::tools {

/// What `compare` found, in three forms. The first entry is what the others are compared with.
struct ComparisonReport {
  struct Entry {
    std::string name, source, schedule, loops;
    std::string mismatch;         ///< empty: the result is right
    std::vector<double> seconds;  ///< element i of all entries was measured in the same round
  };
  std::string title;
  int threads = 1;
  double flops = 0, bytes = 0;  ///< of one execution
  Peak peak;
  DType numbers = DType::f32;  ///< that are multiplied: what a share of the peak is of
  std::vector<Entry> entries;

  std::string text(bool with_loops) const;
  nlohmann::json json() const;
  std::string html() const;  ///< one self-contained page

 private:
  double reached() const { return peak.of(numbers); }
};

}  // namespace heddle::tools
