/* Kernels for a device as Halide would make them, by hand: this is their host code, which computes grids and launches
 * entries of the device code. k_scale runs on the processor. */
#include <HalideRuntime.h>

#define EXPORT __attribute__((visibility("default")))

int halide_opencl_initialize_kernels(void* user_context, void** state, const char* code, int size);
void halide_opencl_finalize_kernels(void* user_context, void* state);
int halide_opencl_run(void* user_context, void* state, const char* entry, int blocks_x, int blocks_y, int blocks_z,
                      int threads_x, int threads_y, int threads_z, int shared_bytes, size_t sizes[], void* arguments[],
                      int8_t is_buffer[]);
const struct halide_device_interface_t* halide_opencl_device_interface(void);

static int elements(const halide_buffer_t* buffer) {
  int n = 1;
  for (int d = 0; d < buffer->dimensions; ++d) n *= buffer->dim[d].extent;
  return n;
}

/* Launches an entry with two buffers, their number of elements and a float, in blocks of `threads`. */
static int launch(void* user_context, const char* kernel, const char* entry, int threads, halide_buffer_t* in,
                  halide_buffer_t* out, float number) {
  void* state = NULL;
  int n = elements(out);
  int failed = halide_opencl_initialize_kernels(user_context, &state, kernel, 0);
  size_t sizes[] = {8, 8, sizeof(n), sizeof(number), 0};
  void* arguments[] = {in, out, &n, &number, NULL};
  int8_t is_buffer[] = {1, 1, 0, 0, 0};
  if (failed == 0)
    failed = halide_opencl_run(user_context, state, entry, (n + threads - 1) / threads, 1, 1, threads, 1, 1, 0, sizes,
                               arguments, is_buffer);
  halide_opencl_finalize_kernels(user_context, state);
  if (failed == 0) out->flags |= halide_buffer_flag_device_dirty;
  return failed;
}

/* out = in + 1 */
EXPORT int k_add_argv(void** args) {
  return launch(*(void**)args[0], "k_add", "add", 64, (halide_buffer_t*)args[2], (halide_buffer_t*)args[3], 1);
}

/* out = (in + 1) * 2, through an intermediate on the device */
EXPORT int k_chain_argv(void** args) {
  void* user_context = *(void**)args[0];
  halide_buffer_t* in = (halide_buffer_t*)args[2];
  halide_buffer_t* out = (halide_buffer_t*)args[3];
  halide_dimension_t dim = {0, elements(in), 1, 0};
  halide_buffer_t between = {0};
  between.type = in->type;
  between.dimensions = 1;
  between.dim = &dim;
  int failed = halide_device_malloc(user_context, &between, halide_opencl_device_interface());
  if (failed == 0) failed = launch(user_context, "k_chain", "add", 64, in, &between, 1);
  if (failed == 0) failed = launch(user_context, "k_chain", "multiply", 64, &between, out, 2);
  if (between.device != 0) halide_device_free(user_context, &between);
  return failed;
}

/* out[r, i] = in[r, i] * factor[r], one launch a row through crops */
EXPORT int k_rows_argv(void** args) {
  void* user_context = *(void**)args[0];
  const int width = *(int32_t*)args[1];
  halide_buffer_t* in = (halide_buffer_t*)args[2];
  halide_buffer_t* factor = (halide_buffer_t*)args[3];
  halide_buffer_t* out = (halide_buffer_t*)args[4];
  void* state = NULL;
  int failed = halide_opencl_initialize_kernels(user_context, &state, "k_rows", 0);
  int n = width;
  size_t sizes[] = {8, 8, 8, sizeof(n), 0};
  void* arguments[] = {in, factor, out, &n, NULL};
  int8_t is_buffer[] = {1, 1, 1, 0, 0};
  if (failed == 0)
    failed = halide_opencl_run(user_context, state, "rows", 2, 1, 1, 32, 1, 1, 0, sizes, arguments, is_buffer);
  return failed;
}

/* Launches the second row by itself: out = in + 1 for a crop of both. */
EXPORT int k_crop_argv(void** args) {
  void* user_context = *(void**)args[0];
  halide_buffer_t* in = (halide_buffer_t*)args[2];
  halide_buffer_t* out = (halide_buffer_t*)args[3];
  halide_dimension_t in_dims[2] = {in->dim[0], in->dim[1]}, out_dims[2] = {out->dim[0], out->dim[1]};
  halide_buffer_t in_row = *in, out_row = *out;
  in_row.dim = in_dims;
  out_row.dim = out_dims;
  in_dims[1].min = out_dims[1].min = 1;
  in_dims[1].extent = out_dims[1].extent = 1;
  halide_device_crop(user_context, in, &in_row);
  halide_device_crop(user_context, out, &out_row);
  return launch(user_context, "k_add", "add", 64, &in_row, &out_row, 1);
}

EXPORT int k_unknown_argv(void** args) {
  return launch(*(void**)args[0], "k_add", "subtract", 64, (halide_buffer_t*)args[2], (halide_buffer_t*)args[3], 1);
}

EXPORT int k_many_threads_argv(void** args) {
  return launch(*(void**)args[0], "k_add", "add", 4096, (halide_buffer_t*)args[2], (halide_buffer_t*)args[3], 1);
}

/* On the processor: out[r, i] = in[r, i] * factor[r]. */
EXPORT int k_scale_argv(void** args) {
  const int width = *(int32_t*)args[1];
  const float* in = (const float*)((halide_buffer_t*)args[2])->host;
  const float* factor = (const float*)((halide_buffer_t*)args[3])->host;
  float* out = (float*)((halide_buffer_t*)args[4])->host;
  for (int r = 0; r < 2; ++r)
    for (int i = 0; i < width; ++i) out[r * width + i] = in[r * width + i] * factor[r];
  return 0;
}
