#pragma once
#include <Halide.h>

namespace heddle::targets {

/// Halide reads an aligned ramp through a pointer to vectors, `((float3*)x)[i]`, where it may not: three lanes take the
/// room of four there, and an array of a thread's own is aligned to its elements alone. Without the alignment it writes
/// vload and vstore, which ask for no more than that of an element:
///
///   x[ramp(i*3, 1, 3) aligned(3, 0)]   ->   x[ramp(i*3, 1, 3)]
///   own[ramp(4, 1, 4) aligned(4, 0)]   ->   own[ramp(4, 1, 4)]     // own is allocated in the kernel, and not shared
///
/// OpenCL C has no vectors of truths either, so what depends on one is computed lane by lane:
///
///   select(ramp(i, 1, 4) < n, a, b)    ->   concat(select(i < n, a[0], b[0]), select(i + 1 < n, a[1], b[1]), ...)
Halide::Internal::Stmt opencl_vectors(const Halide::Internal::Stmt& s);

}  // namespace heddle::targets
