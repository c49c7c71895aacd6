#pragma once
#include "graph/graph.hpp"

// The passes, one file each; passes.cpp has the order. Every one keeps the graph's meaning within the operators'
// tolerances, and every value's `origin` right: a value that stands for another takes its name.
namespace heddle::graph {

Graph fold_constants(const Graph& graph);
Graph eliminate_common(const Graph& graph);
Graph canonicalise(const Graph& graph);
Graph expand_batch_norm(const Graph& graph);
Graph fold_affine(const Graph& graph);
Graph fold_pads(const Graph& graph);
Graph fold_quantization(const Graph& graph);
Graph fold_block_weights(const Graph& graph);
Graph fuse_layer_norm(const Graph& graph);
Graph fuse_attention(const Graph& graph);
Graph fuse_activations(const Graph& graph);
Graph sink_views(const Graph& graph);
Graph narrow_floats(const Graph& graph, DType type);

}  // namespace heddle::graph
