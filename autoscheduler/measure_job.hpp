#pragma once
#include <string>
#include <vector>

#include "autoscheduler/measure.hpp"
#include "dsl/operator.hpp"

// What a measurer and its worker say to each other, a line of JSON each:
//   measurer: job, then requests in order, or that it wants no more
//   worker:   that it is ready, or why it cannot be; that it begins with a request; its measurement, in order
namespace heddle::autoscheduler {

struct MeasureJob {
  Json workload;     ///< as workload_to_json makes it
  std::string text;  ///< Workload::text(), which whoever reads it has to come to as well
  std::string target;
  std::vector<std::string> modules;
  MeasureOptions options;
};
Json to_json(const MeasureJob& job);
MeasureJob measure_job_from_json(const Json& json);
MeasureJob measure_job(const Workload& workload, const Target& target, const std::vector<std::string>& modules,
                       const MeasureOptions& options);
/// As for a workload.
std::unique_ptr<Measurer> make_measurer(MeasureJob job, std::function<bool()> stop);

struct MeasureRequest {
  int id = 0;
  std::string implementation;
  std::string incumbent;  ///< empty: none
};
Json to_json(const MeasureRequest& request);
MeasureRequest measure_request_from_json(const Json& json);

Json to_json(const Measurement& measurement);
Measurement measurement_from_json(const Json& json);

/// Serves one measurer, on the two descriptors of the connection to it, until it is gone. The process must have one
/// thread and be for nothing else. Returns the exit status.
int serve_measurer(int in, int out);

}  // namespace heddle::autoscheduler
