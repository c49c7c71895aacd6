#include "tests/runtime/opencl_bench.hpp"

namespace heddle::test {

const char* const opencl_source = R"(
__kernel void scale_add(__global const float* x, __global float* y, float scale, int shift, uchar half_of_it,
                        ushort n, __local uchar* shared) {
  int i = get_global_id(0);
  if (i < n) y[i] = x[i] * scale + (float)shift + (float)half_of_it / 2;
}
__kernel void add_long(__global const long* x, __global long* y, long n, __local uchar* shared) {
  y[get_global_id(0)] = x[get_global_id(0)] + n;
}
// Each block reverses its own part.
__kernel void reverse(__global const float* x, __global float* y, __local float* shared) {
  int i = get_local_id(0), n = get_local_size(0), first = get_group_id(0) * n;
  shared[i] = x[first + i];
  barrier(CLK_LOCAL_MEM_FENCE);
  y[first + i] = shared[n - 1 - i];
}
__kernel void increment(__global int* x, int by, __local uchar* shared) { x[get_global_id(0)] += by; }
// y[z][y][x] = the place's number, from the ids of three dimensions.
__kernel void number(__global int* y, __local uchar* shared) {
  int at = (get_global_id(2) * get_global_size(1) + get_global_id(1)) * get_global_size(0) + get_global_id(0);
  y[at] = 10000 * get_global_id(2) + 100 * get_global_id(1) + get_global_id(0);
}
__kernel void fixed(__global float* x, __local uchar* shared) {
  __local float a[256];
  a[get_local_id(0)] = x[get_global_id(0)];
  barrier(CLK_LOCAL_MEM_FENCE);
  x[get_global_id(0)] = a[get_local_size(0) - 1 - get_local_id(0)];
}
__kernel void special(__global const float* x, __global int* y, __local uchar* shared) {
  int i = get_global_id(0);
  y[i] = (isnan(x[i]) ? 1 : 0) + (isinf(x[i]) ? 2 : 0) + (x[i] != x[i] ? 4 : 0) + (isnan(x[i] - x[i]) ? 8 : 0);
}
)";

}  // namespace heddle::test
