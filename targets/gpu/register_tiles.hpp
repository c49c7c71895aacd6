#pragma once
#include <Halide.h>

namespace heddle::targets {

/// Gives every thread of a block only its own part of a Func that is computed at the block and stored in registers.
/// Halide allocates the part of all threads in each of them:
///
///   allocate acc[float32 * 4096] in Register            allocate acc[float32 * 16] in Register
///   gpu_thread (ty, 0, 16)                               gpu_thread (ty, 0, 16)
///     gpu_thread (tx, 0, 16)                        ->     gpu_thread (tx, 0, 16)
///       acc[ramp(ty*256 + tx*4 + 64, 1, 4)] = ...            acc[ramp(4, 1, 4)] = ...
///       out[...] = acc[ramp(ty*256 + tx*4 + 64, 1, 4)]       out[...] = acc[ramp(4, 1, 4)]
///
/// Applied where every access is base(threads) + position, the base is the same in all of them, the positions come from
/// constants, vector lanes and loops of constant extent, and no two threads of the block address the same element.
/// Then no value crosses threads: whoever computed an element is the thread that reads it. Positions with gaps between
/// them are packed.
///
/// Elsewhere Halide's kernel would be wrong (a thread reads what another one computed into registers of its own) or
/// overflow its stack: Error{unsupported} names the stage and the access that cannot be proved. Allocations inside of
/// all loops over threads, and those in shared memory, stay as they are.
Halide::Internal::Stmt register_tiles(const Halide::Internal::Stmt& s);

}  // namespace heddle::targets
