#include "schedules/conv_support.hpp"

#include <algorithm>

namespace heddle::schedules {

bool is_two_dimensional_conv(const Workload& w) {
  if (w.anchor().op->name() != "conv") return false;
  const TensorType out = w.output_types()[0];
  const TensorType in = w.anchor_inputs()[0];
  if (out.rank() != 4 || out.dtype != DType::f32 || !w.input_type("w").is_static() || !extent_of(w, "co").is_constant())
    return false;
  // Vectors run over channels: both sides must have them innermost (or only one pixel, where order means nothing).
  return (out.innermost() == 1 || loops_by_memory(w)[0].name == "co") &&
         (in.innermost() == 1 || in.shape[1] == Extent(1) || in.shape[1] == Extent(3));
}

bool has_variant(const Workload& w, const std::string& variant) {
  const auto variants = w.anchor().op->variants(w.anchor().attributes, w.anchor_inputs());
  return std::ranges::find(variants, variant) != variants.end();
}

bool weights_are_constant(const Workload& w) {
  for (std::size_t i = 0; i < w.inputs().size(); ++i)
    if (w.inputs()[i].role == "w" && !w.composition().inputs[i].constant) return false;
  return true;
}

void schedule_padding(Schedule& s, const std::vector<std::string>& roles, const Machine& m) {
  if (!has_role(roles, "padded")) return;
  s["padded"].compute_root().vectorize("ci", m.lanes(4), Tail::GuardWithIf).parallel("y");
}

}  // namespace heddle::schedules
