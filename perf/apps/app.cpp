#include "perf/apps/app.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.hpp"

namespace heddle::perf {
namespace {

const Tolerance exact = {.reason = "integers"};
// Schedules change which products are fused with an addition, and in which order sums are taken.
const Tolerance sums = {.relative = 1e-4, .of_largest = 1e-5, .reason = "sums in another order"};
// A float that is next to a boundary between two integers may fall to either side.
const Tolerance rounded = {.of_largest = 1.5 / 65535, .reason = "floats rounded to 16 bits"};

const ValueDomain unit = {0, 1, {}};

const std::array table = {
    App{"attention", "softmax(q k^T) v, 12 heads", make_attention, 64, 128, 32, 48, {-2, 2, {}}, sums},
    App{"bilateral_grid", "edge-preserving smoothing through a grid of intensities", make_bilateral_grid, 1024, 768, 80,
        56, unit, sums},
    App{"camera_pipe",
        "raw sensor to picture: hot pixels, demosaicing, colours, tone, sharpening",
        make_camera_pipe,
        1024,
        768,
        96,
        64,
        {0, 1023, {}},
        exact},
    App{"histogram_equalisation",
        "the luminance of a colour picture spread over all values",
        make_histogram_equalisation,
        1536,
        1024,
        72,
        40,
        {0, 255, {}},
        exact},
    App{"local_laplacian",
        "local contrast by a pyramid for each of 8 intensities",
        make_local_laplacian,
        768,
        512,
        96,
        64,
        {0, 65535, {}},
        rounded},
    App{"max_filter", "the largest value within a disc of radius 12", make_max_filter, 1024, 768, 80, 48, unit, sums},
    App{"non_local_means", "means over a window, weighted by how alike the patches are", make_non_local_means, 320, 240,
        40, 32, unit, sums},
    App{"stencil_chain", "twelve 3x3 stencils one after the other", make_stencil_chain, 1024, 768, 80, 48, unit, sums},
    App{"unsharp_mask",
        "details made stronger by their difference from a blurred picture",
        make_unsharp_mask,
        1280,
        768,
        80,
        48,
        {0.05, 1, {}},
        sums},
};

void fix_sizes(Halide::OutputImageParam buffer, const std::vector<int>& shape) {
  int stride = 1;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    buffer.dim(static_cast<int>(d)).set_bounds(0, shape[d]).set_stride(stride);
    stride *= shape[d];
  }
}

}  // namespace

std::vector<Halide::Argument> AppPipeline::arguments() const { return {inputs.begin(), inputs.end()}; }

void AppPipeline::schedule_plainly() {
  for (std::size_t i = 0; i + 1 < stages.size(); ++i) stages[i].compute_root();
}

AppPipeline App::instantiate(int of_width, int of_height) const {
  AppPipeline pipeline = make(of_width, of_height);
  for (std::size_t i = 0; i < pipeline.inputs.size(); ++i) {
    const auto& extents = pipeline.input_shapes[i];
    for (std::size_t d = 0; d < extents.size(); ++d)
      pipeline.inputs[i].dim(static_cast<int>(d)).set_estimate(0, extents[d]);
    fix_sizes(pipeline.inputs[i], extents);
  }
  const auto arguments = pipeline.output().args();
  for (std::size_t d = 0; d < arguments.size(); ++d) pipeline.output().set_estimate(arguments[d], 0, pipeline.shape[d]);
  fix_sizes(pipeline.output().output_buffer(), pipeline.shape);
  return pipeline;
}

std::span<const App> apps() { return table; }

const App& find_app(const std::string& name) {
  std::vector<std::string> names;
  for (const App& app : apps()) {
    if (app.name == name) return app;
    names.push_back(app.name);
  }
  throw Error(ErrorCode::not_found,
              fmt::format("there is no app '{}'{}; apps: {}", name, did_you_mean(name, names), fmt::join(names, ", ")));
}

}  // namespace heddle::perf
