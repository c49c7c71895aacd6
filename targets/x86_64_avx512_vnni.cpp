#include "targets/table.hpp"

namespace heddle::targets {

/// Cascade Lake (2019) and Ice Lake servers: dot products of bytes (VNNI), none of bfloat16. Halide knows VNNI only
/// with what else Zen 4 has, so kernels of bytes are generated for that.
Target x86_64_avx512_vnni() {
  Target target = x86_64_avx512();
  target.name = target.machine.target = "x86-64-linux-avx512_vnni";
  target.machine.int8_dot = true;
  target.features.push_back("avx512_vnni");
  target.rank = 35;
  target.bytes = BorrowedInstructions{
      x86_64_avx512_zen4().halide,
      {
          "vpermb",      "vpermi2b",    "vpermt2b",     "vpmultishiftqb",         // VBMI
          "vpcompressb", "vpcompressw", "vpexpandb",    "vpexpandw",              // VBMI2
          "vpshldw",     "vpshldd",     "vpshldq",      "vpshldv",                //
          "vpshrdw",     "vpshrdd",     "vpshrdq",      "vpshrdv",                //
          "vpmadd52",    "vpopcnt",     "vpshufbitqmb",                           // IFMA, BITALG and VPOPCNTDQ
          "gf2p8",       "vgf2p8",      "vaes",         "vpclmul",        "sha",  // GFNI, VAES, VPCLMULQDQ, SHA
          "vcvtne",      "vdpbf16ps",                                             // BF16
          "extrq",       "insertq",     "movnts",       "clzero",         "rdpid",
          "mwaitx",      "wbnoinvd"  // what AMD alone has, or later ones
      }};
  return target;
}

}  // namespace heddle::targets
