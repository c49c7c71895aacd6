#pragma once
#include <optional>
#include <string>
#include <vector>

#include "autoscheduler/search.hpp"
#include "schedules/records.hpp"

// What other searches of the same workload have found. Records of workloads that differ in their extents were tried as
// well, as starts and as rows for the cost model, and were not shown to help: perf/results/transfer.md.
namespace heddle::autoscheduler {

/// A point as records keep it: {"sketch": "tiled", "knobs": {"vectors": 2, ...}}.
Json recorded_point(const Point& point, const std::vector<Sketch>& sketches);

/// The point of the space that is nearest to one of an earlier space, as records keep it (Record::point): the sketch of
/// that name; knobs by name, ordered ones at the nearest value, others at the same one or as the space's first default
/// has them. Where that point is pruned, the cheapest of its neighbours by estimate. Nothing if there is none, or if
/// the space has no such sketch.
std::optional<Point> nearest_point(const std::string& recorded, const Space& space);

/// Where a search may begin: the fastest schedules that earlier searches of the workload (by another seed, with other
/// sketches, by another version) have measured on this machine, as points of the space. Origins name the records.
std::vector<Start> starts_from_records(const RecordStore& store, const Workload& workload, const std::string& target,
                                       const std::string& machine, const Space& space);

}  // namespace heddle::autoscheduler
