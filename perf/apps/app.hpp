#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include <Halide.h>

#include "dsl/machine.hpp"
#include "dsl/operator.hpp"

// Image pipelines of many stages, as Halide is used for, written from the published algorithms.
namespace heddle::perf {

/// One fresh, unscheduled pipeline. Sizes and shapes are in Halide's order, innermost first; every dimension starts at
/// 0.
struct AppPipeline {
  std::vector<Halide::ImageParam> inputs;
  std::vector<std::vector<int>> input_shapes;
  std::vector<Halide::Func> stages;  ///< producers first; the last one is the output
  std::vector<int> shape;            ///< of the output
  /// A careful schedule by hand for a processor: once, on the unscheduled pipeline.
  std::function<void(const Machine& machine, int threads)> hand;

  Halide::Func& output() { return stages.back(); }
  std::vector<Halide::Argument> arguments() const;

  /// Every stage on its own before the next, no vectors, no threads: slow, and plainly right.
  void schedule_plainly();
};

struct App {
  std::string name;
  std::string summary;
  AppPipeline (*make)(int width, int height) = nullptr;
  int width = 0, height = 0;              ///< measured at
  int small_width = 0, small_height = 0;  ///< tested at
  ValueDomain domain;                     ///< of the inputs
  Tolerance tolerance;                    ///< of a schedule's result against another's

  /// With estimates of all sizes set, and those the only sizes that inputs and output may have.
  AppPipeline instantiate(int width, int height) const;
};

std::span<const App> apps();
const App& find_app(const std::string& name);  ///< throws Error{not_found} with the names there are

AppPipeline make_attention(int head_size, int tokens);
AppPipeline make_bilateral_grid(int width, int height);
AppPipeline make_camera_pipe(int width, int height);
AppPipeline make_histogram_equalisation(int width, int height);
AppPipeline make_local_laplacian(int width, int height);
AppPipeline make_max_filter(int width, int height);
AppPipeline make_non_local_means(int width, int height);
AppPipeline make_stencil_chain(int width, int height);
AppPipeline make_unsharp_mask(int width, int height);

}  // namespace heddle::perf
