#include "targets/table.hpp"

namespace heddle::targets {

/// Sapphire Rapids (2023) and later Xeons: what Zen 4 has, and AMX. Their dot products of bfloat16 take two cycles
/// each, half of the rate of products of f32 (measured on Granite Rapids: 114 and 227 GFLOP/s), so that only tiles are
/// worth having.
Target x86_64_avx512_sapphirerapids() {
  Target target = x86_64_avx512_zen4();
  using T = Halide::Target;
  target.name = target.machine.target = "x86-64-linux-avx512_sapphirerapids";
  for (const auto feature : {T::AVXVNNI, T::AVX512_SapphireRapids}) target.halide.set_feature(feature);
  target.machine.l1_bytes = 48 << 10;
  target.machine.l2_bytes = 2 << 20;
  target.machine.bf16_dot = false;
  target.machine.matrix_tiles = true;
  target.features.insert(target.features.end(), {"avx_vnni", "amx_tile", "amx_int8", "amx_bf16"});
  target.rank = 45;
  return target;
}

}  // namespace heddle::targets
