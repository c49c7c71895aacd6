#include "graph/passes/passes.hpp"

#include "graph/compile.hpp"

namespace heddle::graph {

std::vector<Pass> passes(DType precision) {
  std::vector<Pass> all = {
      {"fold_quantization",
       "conv and matmul between dequantize and quantize -> on the integers; max_pool, reshape, concat as well",
       fold_quantization},
      {"fold_block_weights",
       "matmul by dequantized weights, a scale a block -> matmul_blocks, which reads few bits a weight",
       fold_block_weights},
      {"fold_constants", "nodes of constants -> their results", fold_constants},
      {"eliminate_common", "equal nodes on equal operands -> one of them", eliminate_common},
      {"canonicalise", "sub by a constant -> add, pow(x, 2) -> mul, nothing done -> nothing; one form for one meaning",
       canonicalise},
      {"fuse_layer_norm", "(x - mean) / sqrt(variance + epsilon) * scale + b -> layer_norm", fuse_layer_norm},
      {"fuse_attention", "matmul(softmax(scale * matmul(q, k^T) + mask), v) -> attention", fuse_attention, true},
      {"fuse_activations", "x * sigmoid(x) and the like -> swish, hard_swish, hard_sigmoid, gelu", fuse_activations},
      {"expand_batch_norm", "batch_norm with known statistics -> mul, add", expand_batch_norm},
      {"sink_views", "elementwise of a reshape or transpose -> reshape or transpose of the elementwise", sink_views},
      {"fold_affine",
       "conv, conv_transpose or matmul, then mul and add of a constant a channel -> other weights and bias",
       fold_affine},
      {"fold_pads", "pad, then conv or pooling -> the window's own pads", fold_pads},
      {"eliminate_common_again", "what the passes above made equal -> one", eliminate_common},
  };
  // Last: constants are folded in f32 and rounded once.
  if (precision != DType::f32)
    all.push_back({"narrow_floats", "f32 -> what `--precision` says, where it is data",
                   [precision](const Graph& graph) { return narrow_floats(graph, precision); }});
  return all;
}

}  // namespace heddle::graph
