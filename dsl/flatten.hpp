#pragma once
#include "dsl/workload.hpp"

// Rewrites of compositions that make kernels simpler and let more of a model's groups share one. Every value keeps its
// bytes: only the dimensions they are seen through change, so a caller passes the same memory to either kernel. Inputs
// keep their numbers.
namespace heddle {

/// All the rewrites below, whichever applies; the composition itself if none does.
Composition flatten(const Composition& composition);

/// Elementwise groups: adjacent dimensions (in memory) that every operand walks through alike become one. Dimensions of
/// the result are in memory order. Before: relu f32[1,64,56,56]{0,2,3,1}. After: relu f32[200704].
Composition flatten_elementwise(const Composition& composition);

/// Reductions, softmax and normalisations with elementwise operators around them: as above, the reduced dimensions and
/// the others each among themselves. Before: softmax over the last of f32[1,12,128,128]. After: of f32[1536,128].
Composition flatten_reduction(const Composition& composition);

/// Whether a convolution with these attributes and weights makes each pixel of one pixel: 1x1 of stride 1 without
/// padding, in groups or not.
bool is_pointwise(const Json& attributes, const TensorType& weights);

/// Pointwise convolutions over dense channels-last data: all pixels are one row.
/// Before: x f32[4,64,56,56]{0,2,3,1}. After: x f32[1,64,1,12544]{0,2,3,1}.
Composition flatten_pointwise(const Composition& composition);

/// Matrix products whose second operand has no batch: the first one's batch dimensions become rows.
/// Before: a f32[1,128,768] b f32[768,768]. After: a f32[128,768] b f32[768,768].
Composition flatten_matmul(const Composition& composition);

}  // namespace heddle
