#include "autoscheduler/measure_job.hpp"

#include "ops/workload_json.hpp"

namespace heddle::autoscheduler {

Json to_json(const MeasureJob& job) {
  const MeasureOptions& o = job.options;
  return {{"workload", job.workload},
          {"text", job.text},
          {"target", job.target},
          {"modules", job.modules},
          {"options",
           {{"compile_limit_s", o.compile_limit_s},
            {"run_limit_s", o.run_limit_s},
            {"memory_bytes", o.memory_bytes},
            {"processes", o.processes},
            {"least_seconds", o.least_seconds},
            {"least_samples", o.least_samples},
            {"seed", o.seed},
            {"device", o.device},
            {"compile_jobs", o.compile_jobs}}}};
}

MeasureJob measure_job_from_json(const Json& json) {
  const Json& o = json.at("options");
  return {.workload = json.at("workload"),
          .text = json.at("text"),
          .target = json.at("target"),
          .modules = json.at("modules"),
          .options = {.compile_limit_s = o.at("compile_limit_s"),
                      .run_limit_s = o.at("run_limit_s"),
                      .memory_bytes = o.at("memory_bytes"),
                      .processes = o.at("processes"),
                      .least_seconds = o.at("least_seconds"),
                      .least_samples = o.at("least_samples"),
                      .seed = o.at("seed"),
                      .device = o.at("device"),
                      .compile_jobs = o.at("compile_jobs")}};
}

MeasureJob measure_job(const Workload& workload, const Target& target, const std::vector<std::string>& modules,
                       const MeasureOptions& options) {
  return {.workload = workload_to_json(workload),
          .text = workload.text(),
          .target = target.name,
          .modules = modules,
          .options = options};
}

Json to_json(const MeasureRequest& request) {
  return {{"id", request.id}, {"implementation", request.implementation}, {"incumbent", request.incumbent}};
}

MeasureRequest measure_request_from_json(const Json& json) {
  return {.id = json.at("id"), .implementation = json.at("implementation"), .incumbent = json.at("incumbent")};
}

Json to_json(const Measurement& m) {
  return {{"status", std::string(to_string(m.status))},
          {"message", m.message},
          {"seconds", m.seconds},
          {"incumbent_seconds", m.incumbent_seconds},
          {"compile_seconds", m.compile_seconds},
          {"run_seconds", m.run_seconds},
          {"kernel_key", m.kernel_key}};
}

Measurement measurement_from_json(const Json& json) {
  return {.status = trial_status_from_string(json.at("status").get<std::string>()),
          .message = json.at("message"),
          .seconds = json.at("seconds"),
          .incumbent_seconds = json.at("incumbent_seconds"),
          .compile_seconds = json.at("compile_seconds"),
          .run_seconds = json.at("run_seconds"),
          .kernel_key = json.at("kernel_key")};
}

}  // namespace heddle::autoscheduler
