/* Kernels as Halide would make them, by hand: they use the halide_* functions and the calling convention of compiled
 * kernels, and live in a shared object with the shims. */
#include <HalideRuntime.h>

#define EXPORT __attribute__((visibility("default")))

static float* row(halide_buffer_t* buffer, int r) {
  return (float*)buffer->host + (r - buffer->dim[1].min) * buffer->dim[1].stride;
}

/* out[r, i] = in[r, i - 1] + in[r, i] + in[r, i + 1], rows in parallel, through a copy of the row in scratch memory. */

struct sum3 {
  halide_buffer_t *in, *out;
  int width;
};

static int sum3_row(void* user_context, int r, uint8_t* closure) {
  const struct sum3* c = (const struct sum3*)closure;
  const size_t bytes = (size_t)(c->width + 2) * sizeof(float);
  float* copy = (float*)halide_malloc(user_context, bytes);
  if (copy == NULL) return halide_error_out_of_memory(user_context);
  memcpy(copy, row(c->in, r), bytes);
  float* to = row(c->out, r);
  for (int i = 0; i < c->width; ++i) to[i] = copy[i] + copy[i + 1] + copy[i + 2];
  halide_free(user_context, copy);
  return 0;
}

EXPORT int k_sum3_argv(void** args) {
  void* user_context = *(void**)args[0];
  struct sum3 c = {(halide_buffer_t*)args[2], (halide_buffer_t*)args[3], *(int32_t*)args[1]};
  if (c.in->dim[0].min != -1 || c.in->dim[0].extent != c.width + 2)
    return halide_error_access_out_of_bounds(user_context, "in", 0, -1, c.width, c.in->dim[0].min,
                                             c.in->dim[0].min + c.in->dim[0].extent - 1);
  if (c.in->type.code != halide_type_float || c.in->type.bits != 32)
    return halide_error_bad_type(user_context, "in", 0, 0x00012002);
  return halide_do_par_for(user_context, sum3_row, 0, 2, (uint8_t*)&c);
}

/* out[r, i] = in[r, i] * factor[r] */
EXPORT int k_scale_argv(void** args) {
  const int width = *(int32_t*)args[1];
  halide_buffer_t* in = (halide_buffer_t*)args[2];
  const float* factor = (const float*)((halide_buffer_t*)args[3])->host;
  halide_buffer_t* out = (halide_buffer_t*)args[4];
  for (int r = 0; r < 2; ++r)
    for (int i = 0; i < width; ++i) row(out, r)[i] = row(in, r)[i] * factor[r];
  return 0;
}

/* Like k_scale, but leaves the last element out. */
EXPORT int k_forgetful_argv(void** args) {
  const int width = *(int32_t*)args[1];
  halide_buffer_t* out = (halide_buffer_t*)args[4];
  for (int r = 0; r < 2; ++r)
    for (int i = 0; i < width - r; ++i) row(out, r)[i] = 1;
  return 0;
}

EXPORT int k_failing_argv(void** args) {
  return halide_error_requirement_failed(*(void**)args[0], "width < 3", "the width is too large");
}

/* a + b and a - 1 for one-element tensors: the bodies of functions. */
EXPORT int k_add_argv(void** args) {
  *(float*)((halide_buffer_t*)args[3])->host =
      *(float*)((halide_buffer_t*)args[1])->host + *(float*)((halide_buffer_t*)args[2])->host;
  return 0;
}

EXPORT int k_less_argv(void** args) {
  *(uint8_t*)((halide_buffer_t*)args[3])->host =
      *(float*)((halide_buffer_t*)args[1])->host < *(float*)((halide_buffer_t*)args[2])->host;
  return 0;
}

/* A producer and a consumer that hand over one number at a time, as async stages do. With a width of 13 the producer
 * fails in the middle, and the consumer must not wait for ever. out[0, i] = 1 + 2 + ... + (i + 1). */

struct pipe {
  struct halide_semaphore_t filled, empty;
  float slot, sum;
  float* out;
  int width;
};

static int produce(void* user_context, int min, int extent, uint8_t* closure, void* parent) {
  struct pipe* p = (struct pipe*)closure;
  (void)parent;
  (void)extent;
  if (p->width == 13 && min == 7)
    return halide_error_requirement_failed(user_context, "min != 7", "the producer fails");
  p->slot = (float)(min + 1);
  halide_semaphore_release(&p->filled, 1);
  return 0;
}

static int consume(void* user_context, int min, int extent, uint8_t* closure, void* parent) {
  struct pipe* p = (struct pipe*)closure;
  (void)user_context;
  (void)parent;
  (void)extent;
  p->sum += p->slot;
  p->out[min] = p->sum;
  halide_semaphore_release(&p->empty, 1);
  return 0;
}

EXPORT int k_async_argv(void** args) {
  void* user_context = *(void**)args[0];
  struct pipe p = {.out = row((halide_buffer_t*)args[4], 0), .width = *(int32_t*)args[1]};
  halide_semaphore_init(&p.filled, 0);
  halide_semaphore_init(&p.empty, 1);
  struct halide_semaphore_acquire_t for_producer = {&p.empty, 1}, for_consumer = {&p.filled, 1};
  struct halide_parallel_task_t tasks[2] = {
      {produce, (uint8_t*)&p, "produce", &for_producer, 1, 0, p.width, 0, true},
      {consume, (uint8_t*)&p, "consume", &for_consumer, 1, 0, p.width, 0, true},
  };
  return halide_do_parallel_tasks(user_context, 2, tasks, NULL);
}

/* Independent iterations given as one parallel task. */
static int fill(void* user_context, int min, int extent, uint8_t* closure, void* parent) {
  (void)user_context;
  (void)parent;
  for (int i = min; i < min + extent; ++i) ((float*)closure)[i] += (float)i;
  return 0;
}

EXPORT int k_tasks_argv(void** args) {
  float* out = row((halide_buffer_t*)args[4], 0);
  const int width = *(int32_t*)args[1];
  for (int i = 0; i < width; ++i) out[i] = 0;
  struct halide_parallel_task_t task = {fill, (uint8_t*)out, "fill", NULL, 0, 0, width, 0, false};
  return halide_do_parallel_tasks(*(void**)args[0], 1, &task, NULL);
}
