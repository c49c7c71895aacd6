// Halide's hook: an autoscheduler by the name of Heddle for any pipeline that a program or a generator has.
#include <dlfcn.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include <fmt/format.h>

#include "base/error.hpp"
#include "base/file.hpp"
#include "dsl/halide_error.hpp"
#include "dsl/schedule_cpp.hpp"
#include "ops/catalog.hpp"
#include "ops/halide_pipeline.hpp"
#include "plugin/options.hpp"
#include "targets/target.hpp"
#include "tools/tuning.hpp"

namespace heddle::plugin {
namespace {

/// The target of ours whose instructions are among those that the program compiles for, the best of them.
Target target_for(const Halide::Target& wanted) {
  if (wanted.has_gpu_feature())
    throw Error(ErrorCode::unsupported,
                fmt::format("{}: schedules are searched for processors; leave the device's feature out of the target",
                            wanted.to_string()));
  const Target host = host_target();
  const Target* best = nullptr;
  for (const Target& target : all_targets()) {
    if (target.is_gpu() || target.halide.arch != wanted.arch || target.halide.bits != wanted.bits ||
        target.halide.os != wanted.os)
      continue;
    bool runs = true;
    for (const auto feature :
         {Halide::Target::SSE41, Halide::Target::AVX, Halide::Target::AVX2, Halide::Target::FMA, Halide::Target::F16C,
          Halide::Target::AVX512, Halide::Target::AVX512_Skylake, Halide::Target::AVX512_Cannonlake,
          Halide::Target::AVX512_Zen4, Halide::Target::AVX512_SapphireRapids, Halide::Target::ARMDotProd,
          Halide::Target::ARMFp16, Halide::Target::SVE, Halide::Target::SVE2})
      runs = runs && (!target.halide.has_feature(feature) || wanted.has_feature(feature));
    if (runs && (best == nullptr || target.rank > best->rank)) best = &target;
  }
  if (best == nullptr)
    throw Error(ErrorCode::unsupported,
                fmt::format("Heddle has no target whose instructions {} has; use `host`, or more of its features",
                            wanted.to_string()));
  return best->name == host.name ? host : *best;  // the host's caches are measured
}

/// Workers are processes of the heddle program, which this one is not.
void find_program() {
  if (const char* named = ::getenv("HEDDLE_PROGRAM"); named != nullptr && *named != '\0') return;
  ::Dl_info info{};
  if (::dladdr(reinterpret_cast<void*>(&find_program), &info) != 0 && info.dli_fname != nullptr) {
    const auto own = std::filesystem::absolute(info.dli_fname).parent_path();
    for (const auto& candidate : {own / "heddle", own / ".." / "bin" / "heddle"})
      if (std::filesystem::is_regular_file(candidate)) {
        ::setenv("HEDDLE_PROGRAM", candidate.lexically_normal().c_str(), 0);
        return;
      }
  }
  throw Error(ErrorCode::not_found,
              "measuring needs the heddle program, which is neither beside the plugin nor in ../bin: name it with "
              "HEDDLE_PROGRAM, or take autoscheduler.trials=0");
}

void require_unscheduled(const Pipeline& own) {
  for (const auto& stage : own.stages) {
    Halide::Internal::Function f = stage.func.function();
    f.lock_loop_levels();  // or they cannot be looked at; Halide's autoschedulers do so too
    bool scheduled = !f.definition().schedule().splits().empty() || !f.schedule().wrappers().empty() ||
                     !f.definition().specializations().empty();
    for (const auto& update : f.updates()) scheduled = scheduled || !update.schedule().splits().empty();
    const bool placed = !f.schedule().compute_level().is_inlined() && &stage != &own.stages.back();
    if (scheduled || placed)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("'{}' has a schedule already: an autoscheduler takes pipelines without one (test "
                              "using_autoscheduler() before scheduling)",
                              f.name()));
  }
}

/// Searches round a tile up where the estimated size is a multiple of it; the program may be run on other sizes.
Schedule for_any_size(Schedule schedule) {
  for (auto& line : schedule.lines)
    for (auto& directive : line.directives)
      for (auto& argument : directive.arguments)
        if (auto* text = std::get_if<std::string>(&argument.value);
            line.stage == "out" && line.update < 0 && text != nullptr && *text == "RoundUp")
          *text = "ShiftInwards";
  return schedule;
}

struct Found {
  Implementation implementation;
  std::string how;
};

Found find(const Workload& workload, const Target& target, const Options& options) {
  if (options.trials == 0 && !options.records.empty()) {
    const RecordStore store(options.records, RecordStore::Open::existing);
    if (auto record = choose_record(store, workload, target.machine))
      return {std::move(record->choice.implementation), record->choice.source};
  }
  if (options.trials > 0) find_program();
  const TemporaryDirectory forgotten;
  RecordStore store(options.records.empty() || options.trials == 0
                        ? "sqlite:" + (forgotten.path() / "trials.db").string()
                        : options.records);
  tools::TuneRequest request;
  request.workload = &workload;
  request.target = target;
  request.seed = options.seed;
  autoscheduler::SearchOptions search;
  search.trials = options.trials;
  search.seed = options.seed;
  tools::Tuner tuner(request, store);
  const tools::TuneResult result = tuner.run(search, {}, [] { return false; });
  const auto& candidate = result.search.candidate;
  return {candidate.implementation,
          result.search.best ? fmt::format("the best of {} trials, {:.4f} ms at the estimated sizes",
                                           result.search.trials.size(), result.seconds() * 1e3)
                             : fmt::format("by estimate, {:.4f} ms at the estimated sizes", candidate.estimate * 1e3)};
}

/// `Func blur = pipeline.get_func(3);` for each Func, then the schedule, as Halide's own autoschedulers write it.
std::string source(const Schedule& schedule, const Halide::Pipeline& pipeline, const Pipeline& own,
                   const std::string& how) {
  const ScheduleCpp code = schedule_to_cpp(schedule, own);
  std::string text = as_comment(fmt::format("Heddle: {}\n{}", how, schedule.print()), "    ");
  text += "    using namespace ::Halide;\n";
  Halide::Pipeline asked = pipeline;
  for (std::size_t s = 0; s < own.stages.size(); ++s) {
    std::size_t index = 0;
    while (asked.get_func(index).name() != own.stages[s].func.name()) ++index;
    text += fmt::format("    Func {} = pipeline.get_func({});\n    (void){};\n", code.funcs[s], index, code.funcs[s]);
  }
  return text + code.body;
}

void schedule(const Halide::Pipeline& pipeline, const Halide::Target& wanted,
              const Halide::AutoschedulerParams& parameters, Halide::AutoSchedulerResults* results) {
  const Options options = parse_options(parameters.extra);
  Pipeline own = ops::own_stages(pipeline);
  require_unscheduled(own);
  const ops::ImportedPipeline imported = ops::import_pipeline(pipeline);
  const int processors = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const Workload workload = Workload::of(Operators().get("halide_pipeline"), imported.attributes, imported.inputs, {},
                                         options.threads > 0 ? options.threads : processors);
  const Found found = find(workload, target_for(wanted), options);
  const Schedule chosen = for_any_size(found.implementation.schedule);
  // What would fail on the program's Funcs is to fail before they are touched.
  Pipeline trial = workload.instantiate();
  apply(chosen, trial);
  const std::string text = source(chosen, pipeline, own, found.how);
  apply(chosen, own);
  if (results == nullptr) return;
  results->target = wanted;
  results->autoscheduler_params = parameters;
  results->schedule_source = text;
}

/// Halide's hook is the constructor of something that lives as long as the plugin.
struct Registration {
  Registration() {
    Halide::Pipeline::add_autoscheduler(
        "Heddle", [](const Halide::Pipeline& pipeline, const Halide::Target& target,
                     const Halide::AutoschedulerParams& parameters, Halide::AutoSchedulerResults* results) {
          // Ours must not cross into a program that knows Halide's errors alone; those report as Halide does.
          std::string message;
          try {
            schedule(pipeline, target, parameters, results);
            return;
          } catch (const Halide::Error&) {
            throw;
          } catch (const std::exception& error) {
            message = error.what();
          }
          _halide_user_error << "Heddle's autoscheduler: " << message << "\n";
        });
  }
};
const Registration registration;

}  // namespace
}  // namespace heddle::plugin
