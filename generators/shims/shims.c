/* The halide_* functions that kernels compiled with `no_runtime` call, linked into every module of kernels with hidden
 * visibility. They forward to the table that heddle_module_init receives; see kernel_table.h.
 *
 * Not provided, so that linking with `-z defs` names them instead of a run failing: memoize (halide_memoization_*),
 * tracing, Halide's profiler, debug_to_file and the devices that are not targets. */

/* Before the header below, which includes it: memcpy is not ours to hide. */
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Also for what the header declares: the definitions below take their visibility from there. */
#pragma GCC visibility push(hidden)
#include <HalideRuntime.h>
#pragma GCC visibility pop

#include "generators/shims/kernel_table.h"

#pragma GCC visibility push(hidden)

static const heddle_kernel_table* table;

__attribute__((visibility("default"))) int heddle_module_init(const heddle_kernel_table* given, uint32_t version) {
  if (version != HEDDLE_KERNEL_TABLE_VERSION) return HEDDLE_KERNEL_TABLE_VERSION;
  table = given;
  return 0;
}

/* Memory, parallelism, messages. */

void* halide_malloc(void* user_context, size_t bytes) { return table->allocate(user_context, bytes); }

void halide_free(void* user_context, void* memory) {
  if (memory != NULL) table->release(user_context, memory);
}

int halide_do_par_for(void* user_context, halide_task_t task, int min, int extent, uint8_t* closure) {
  return table->parallel_for(user_context, task, min, extent, closure);
}

int halide_do_task(void* user_context, halide_task_t task, int index, uint8_t* closure) {
  return task(user_context, index, closure);
}

int halide_do_loop_task(void* user_context, halide_loop_task_t task, int min, int extent, uint8_t* closure,
                        void* parent) {
  return task(user_context, min, extent, closure, parent);
}

int halide_do_parallel_tasks(void* user_context, int count, struct halide_parallel_task_t* tasks, void* parent) {
  return table->parallel_tasks(user_context, count, tasks, parent);
}

int halide_semaphore_init(struct halide_semaphore_t* semaphore, int count) {
  return table->semaphore_init(semaphore, count);
}

int halide_semaphore_release(struct halide_semaphore_t* semaphore, int count) {
  return table->semaphore_release(semaphore, count);
}

bool halide_semaphore_try_acquire(struct halide_semaphore_t* semaphore, int count) {
  return table->semaphore_try_acquire(semaphore, count) != 0;
}

void halide_error(void* user_context, const char* message) { table->error(user_context, message); }
void halide_print(void* user_context, const char* text) { table->print(user_context, text); }

/* The loader checks the processor before it takes a module, so nothing is known to be bad here. */
int halide_can_use_target_features(int count, const uint64_t* features) {
  (void)count;
  (void)features;
  return 1;
}

/* Devices. Halide's generated code allocates, copies and launches through these alone; an interface is only a name to
 * it. Buffers of a kernel arrive with an address on the device, so nothing is copied. */

static const struct halide_device_interface_t device_interface;

const struct halide_device_interface_t* halide_opencl_device_interface(void) { return &device_interface; }
const struct halide_device_interface_t* halide_vulkan_device_interface(void) { return &device_interface; }

int halide_device_malloc(void* user_context, struct halide_buffer_t* buffer,
                         const struct halide_device_interface_t* interface) {
  if (buffer->device != 0) return 0; /* called again on buffers that have memory */
  const int failed = table->device_allocate(user_context, buffer);
  if (failed == 0) buffer->device_interface = interface;
  return failed;
}

int halide_device_free(void* user_context, struct halide_buffer_t* buffer) {
  const int failed = buffer->device != 0 ? table->device_release(user_context, buffer) : 0;
  buffer->device = 0;
  buffer->device_interface = NULL;
  return failed;
}

void halide_device_free_as_destructor(void* user_context, void* buffer) {
  halide_device_free(user_context, (struct halide_buffer_t*)buffer);
}

/* Only intermediates have both, and what they hold on the host is what the kernel itself wrote there. */
int halide_device_and_host_malloc(void* user_context, struct halide_buffer_t* buffer,
                                  const struct halide_device_interface_t* interface) {
  return halide_device_malloc(user_context, buffer, interface);
}
int halide_device_and_host_free(void* user_context, struct halide_buffer_t* buffer) {
  return halide_device_free(user_context, buffer);
}
void halide_device_and_host_free_as_destructor(void* user_context, void* buffer) {
  halide_device_free(user_context, (struct halide_buffer_t*)buffer);
}

int halide_copy_to_device(void* user_context, struct halide_buffer_t* buffer,
                          const struct halide_device_interface_t* interface) {
  const int failed = halide_device_malloc(user_context, buffer, interface);
  if (failed != 0 || (buffer->flags & halide_buffer_flag_host_dirty) == 0) return failed;
  return table->device_copy(user_context, buffer, 1);
}

int halide_copy_to_host(void* user_context, struct halide_buffer_t* buffer) {
  if ((buffer->flags & halide_buffer_flag_device_dirty) == 0) return 0;
  return table->device_copy(user_context, buffer, 0);
}

int halide_device_crop(void* user_context, const struct halide_buffer_t* from, struct halide_buffer_t* to) {
  (void)user_context;
  int64_t elements = 0;
  for (int d = 0; d < from->dimensions; ++d)
    elements += (int64_t)(to->dim[d].min - from->dim[d].min) * from->dim[d].stride;
  to->device = from->device + (uint64_t)(elements * ((from->type.bits + 7) / 8));
  to->device_interface = from->device_interface;
  return 0;
}

int halide_device_release_crop(void* user_context, struct halide_buffer_t* buffer) {
  (void)user_context;
  buffer->device = 0;
  buffer->device_interface = NULL;
  return 0;
}

/* Instead of its code a kernel passes its name: the runtime has loaded the code beforehand. The state is the name. */
static int initialize_kernels(void** state, const char* name) {
  *state = (void*)name;
  return 0;
}

static int launch(void* user_context, void* state, const char* entry, int blocks_x, int blocks_y, int blocks_z,
                  int threads_x, int threads_y, int threads_z, int shared_bytes, size_t sizes[], void* arguments[],
                  int8_t is_buffer[]) {
  const int blocks[3] = {blocks_x, blocks_y, blocks_z}, threads[3] = {threads_x, threads_y, threads_z};
  return table->launch(user_context, (const char*)state, entry, blocks, threads, shared_bytes, sizes, arguments,
                       is_buffer);
}

int halide_opencl_initialize_kernels(void* user_context, void** state, const char* code, int size) {
  (void)user_context, (void)size;
  return initialize_kernels(state, code);
}
int halide_vulkan_initialize_kernels(void* user_context, void** state, const char* code, int size) {
  (void)user_context, (void)size;
  return initialize_kernels(state, code);
}
void halide_opencl_finalize_kernels(void* user_context, void* state) { (void)user_context, (void)state; }
void halide_vulkan_finalize_kernels(void* user_context, void* state) { (void)user_context, (void)state; }

int halide_opencl_run(void* user_context, void* state, const char* entry, int blocks_x, int blocks_y, int blocks_z,
                      int threads_x, int threads_y, int threads_z, int shared_bytes, size_t sizes[], void* arguments[],
                      int8_t is_buffer[]) {
  return launch(user_context, state, entry, blocks_x, blocks_y, blocks_z, threads_x, threads_y, threads_z, shared_bytes,
                sizes, arguments, is_buffer);
}
int halide_vulkan_run(void* user_context, void* state, const char* entry, int blocks_x, int blocks_y, int blocks_z,
                      int threads_x, int threads_y, int threads_z, int shared_bytes, size_t sizes[], void* arguments[],
                      int8_t is_buffer[]) {
  return launch(user_context, state, entry, blocks_x, blocks_y, blocks_z, threads_x, threads_y, threads_z, shared_bytes,
                sizes, arguments, is_buffer);
}

/* Locks of atomic() updates that have no atomic instruction: held for a few instructions, hence spinning. */

struct halide_mutex_array {
  uint64_t size;
  unsigned char locked[];
};

struct halide_mutex_array* halide_mutex_array_create(uint64_t size) {
  struct halide_mutex_array* array = (struct halide_mutex_array*)calloc(1, sizeof(struct halide_mutex_array) + size);
  if (array != NULL) array->size = size;
  return array;
}

void halide_mutex_array_destroy(void* user_context, void* array) {
  (void)user_context;
  free(array);
}

int halide_mutex_array_lock(struct halide_mutex_array* array, int entry) {
  for (unsigned spins = 0; __atomic_exchange_n(&array->locked[entry], 1, __ATOMIC_ACQUIRE) != 0; ++spins) {
    /* The holder may have been descheduled. */
    if (spins > 1000) sched_yield();
  }
  return 0;
}

int halide_mutex_array_unlock(struct halide_mutex_array* array, int entry) {
  __atomic_store_n(&array->locked[entry], 0, __ATOMIC_RELEASE);
  return 0;
}

/* Memory sanitizer hooks: called by print() and by code compiled for the sanitizer; nothing to do without it. */

int halide_msan_check_memory_is_initialized(void* user_context, const void* memory, uint64_t bytes, const char* name) {
  (void)user_context, (void)memory, (void)bytes, (void)name;
  return 0;
}

int halide_msan_check_buffer_is_initialized(void* user_context, struct halide_buffer_t* buffer, const char* name) {
  (void)user_context, (void)buffer, (void)name;
  return 0;
}

int halide_msan_annotate_memory_is_initialized(void* user_context, const void* memory, uint64_t bytes) {
  (void)user_context, (void)memory, (void)bytes;
  return 0;
}

int halide_msan_annotate_buffer_is_initialized(void* user_context, struct halide_buffer_t* buffer) {
  (void)user_context, (void)buffer;
  return 0;
}

void halide_msan_annotate_buffer_is_initialized_as_destructor(void* user_context, void* buffer) {
  (void)user_context, (void)buffer;
}

/* Text of print() and require(): each appends to [to, end) and returns the new end of the text. HalideRuntime.h does
 * not declare them. */

char* halide_string_to_string(char* to, char* end, const char* text);
char* halide_double_to_string(char* to, char* end, double value, int scientific);
char* halide_int64_to_string(char* to, char* end, int64_t value, int digits);
char* halide_uint64_to_string(char* to, char* end, uint64_t value, int digits);
char* halide_pointer_to_string(char* to, char* end, const void* value);
char* halide_type_to_string(char* to, char* end, const struct halide_type_t* type);
char* halide_buffer_to_string(char* to, char* end, const struct halide_buffer_t* buffer);

__attribute__((format(printf, 3, 4))) static char* append(char* to, char* end, const char* format, ...) {
  if (to >= end) return end;
  va_list arguments;
  va_start(arguments, format);
  const int written = vsnprintf(to, (size_t)(end - to), format, arguments);
  va_end(arguments);
  return written < 0 ? to : written >= end - to ? end - 1 : to + written;
}

char* halide_string_to_string(char* to, char* end, const char* text) {
  return append(to, end, "%s", text != NULL ? text : "<nullptr>");
}

char* halide_double_to_string(char* to, char* end, double value, int scientific) {
  return append(to, end, scientific != 0 ? "%e" : "%f", value);
}

char* halide_int64_to_string(char* to, char* end, int64_t value, int digits) {
  return append(to, end, "%0*" PRId64, digits, value);
}

char* halide_uint64_to_string(char* to, char* end, uint64_t value, int digits) {
  return append(to, end, "%0*" PRIu64, digits, value);
}

char* halide_pointer_to_string(char* to, char* end, const void* value) { return append(to, end, "%p", value); }

char* halide_type_to_string(char* to, char* end, const struct halide_type_t* type) {
  static const char* const names[] = {"int", "uint", "float", "handle", "bfloat"};
  const char* name = type->code < 5 ? names[type->code] : "type";
  to = append(to, end, "%s%d", name, (int)type->bits);
  return type->lanes > 1 ? append(to, end, "x%d", (int)type->lanes) : to;
}

char* halide_buffer_to_string(char* to, char* end, const struct halide_buffer_t* buffer) {
  if (buffer == NULL) return append(to, end, "nullptr");
  to = append(to, end, "buffer(%p, ", (const void*)buffer->host);
  to = halide_type_to_string(to, end, &buffer->type);
  for (int d = 0; d < buffer->dimensions; ++d)
    to = append(to, end, ", {%d, %d, %d}", buffer->dim[d].min, buffer->dim[d].extent, buffer->dim[d].stride);
  return append(to, end, ")");
}

/* Errors: each formats its message, hands it on and returns its code. */

__attribute__((format(printf, 3, 4))) static int fail(void* user_context, int code, const char* format, ...) {
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof(message), format, arguments);
  va_end(arguments);
  table->error(user_context, message);
  return code;
}

int halide_error_bounds_inference_call_failed(void* user_context, const char* stage, int result) {
  return fail(user_context, result, "the bounds query of extern stage '%s' failed with code %d", stage, result);
}

int halide_error_extern_stage_failed(void* user_context, const char* stage, int result) {
  return fail(user_context, result, "extern stage '%s' failed with code %d", stage, result);
}

int halide_error_explicit_bounds_too_small(void* user_context, const char* func, const char* var, int min_bound,
                                           int max_bound, int min_required, int max_required) {
  return fail(user_context, halide_error_code_explicit_bounds_too_small,
              "the bounds %d to %d given for '%s' of '%s' do not cover %d to %d, which are required", min_bound,
              max_bound, var, func, min_required, max_required);
}

int halide_error_bad_type(void* user_context, const char* func, uint32_t given, uint32_t correct) {
  struct halide_type_t types[2];
  memcpy(&types[0], &given, sizeof(given));
  memcpy(&types[1], &correct, sizeof(correct));
  char names[2][32];
  for (int i = 0; i < 2; ++i) halide_type_to_string(names[i], names[i] + sizeof(names[i]), &types[i]);
  return fail(user_context, halide_error_code_bad_type, "%s has type %s but a buffer of type %s was passed", func,
              names[1], names[0]);
}

int halide_error_bad_dimensions(void* user_context, const char* func, int32_t given, int32_t correct) {
  return fail(user_context, halide_error_code_bad_dimensions, "%s needs %d dimensions but the buffer passed has %d",
              func, correct, given);
}

int halide_error_access_out_of_bounds(void* user_context, const char* func, int dimension, int min_touched,
                                      int max_touched, int min_valid, int max_valid) {
  return fail(user_context, halide_error_code_access_out_of_bounds,
              "%s is accessed from %d to %d in dimension %d, outside its range %d to %d", func, min_touched,
              max_touched, dimension, min_valid, max_valid);
}

int halide_error_buffer_allocation_too_large(void* user_context, const char* buffer, uint64_t size, uint64_t most) {
  return fail(user_context, halide_error_code_buffer_allocation_too_large,
              "the allocation of '%s' takes %" PRIu64 " bytes, more than the %" PRIu64 " possible", buffer, size, most);
}

int halide_error_buffer_extents_negative(void* user_context, const char* buffer, int dimension, int extent) {
  return fail(user_context, halide_error_code_buffer_extents_negative,
              "the extent of buffer '%s' in dimension %d is negative (%d)", buffer, dimension, extent);
}

int halide_error_buffer_extents_too_large(void* user_context, const char* buffer, int64_t size, int64_t most) {
  return fail(user_context, halide_error_code_buffer_extents_too_large,
              "buffer '%s' has %" PRId64 " elements, more than the %" PRId64 " possible", buffer, size, most);
}

int halide_error_constraints_make_required_region_smaller(void* user_context, const char* buffer, int dimension,
                                                          int constrained_min, int constrained_extent, int required_min,
                                                          int required_extent) {
  return fail(user_context, halide_error_code_constraints_make_required_region_smaller,
              "buffer '%s' is constrained to %d to %d in dimension %d, but %d to %d is required", buffer,
              constrained_min, constrained_min + constrained_extent - 1, dimension, required_min,
              required_min + required_extent - 1);
}

int halide_error_constraint_violated(void* user_context, const char* var, int value, const char* constrained,
                                     int constrained_value) {
  return fail(user_context, halide_error_code_constraint_violated, "constraint violated: %s (%d) == %s (%d)", var,
              value, constrained, constrained_value);
}

int halide_error_param_too_small_i64(void* user_context, const char* name, int64_t value, int64_t least) {
  return fail(user_context, halide_error_code_param_too_small,
              "parameter %s is %" PRId64 " but must be at least %" PRId64, name, value, least);
}

int halide_error_param_too_small_u64(void* user_context, const char* name, uint64_t value, uint64_t least) {
  return fail(user_context, halide_error_code_param_too_small,
              "parameter %s is %" PRIu64 " but must be at least %" PRIu64, name, value, least);
}

int halide_error_param_too_small_f64(void* user_context, const char* name, double value, double least) {
  return fail(user_context, halide_error_code_param_too_small, "parameter %s is %g but must be at least %g", name,
              value, least);
}

int halide_error_param_too_large_i64(void* user_context, const char* name, int64_t value, int64_t most) {
  return fail(user_context, halide_error_code_param_too_large,
              "parameter %s is %" PRId64 " but must be at most %" PRId64, name, value, most);
}

int halide_error_param_too_large_u64(void* user_context, const char* name, uint64_t value, uint64_t most) {
  return fail(user_context, halide_error_code_param_too_large,
              "parameter %s is %" PRIu64 " but must be at most %" PRIu64, name, value, most);
}

int halide_error_param_too_large_f64(void* user_context, const char* name, double value, double most) {
  return fail(user_context, halide_error_code_param_too_large, "parameter %s is %g but must be at most %g", name, value,
              most);
}

int halide_error_out_of_memory(void* user_context) {
  return fail(user_context, halide_error_code_out_of_memory, "out of memory (an allocation failed)");
}

int halide_error_buffer_argument_is_null(void* user_context, const char* buffer) {
  return fail(user_context, halide_error_code_buffer_argument_is_null, "buffer argument '%s' is null", buffer);
}

int halide_error_debug_to_file_failed(void* user_context, const char* func, const char* file, int code) {
  return fail(user_context, halide_error_code_debug_to_file_failed, "writing '%s' to file '%s' failed with code %d",
              func, file, code);
}

int halide_error_unaligned_host_ptr(void* user_context, const char* func, int alignment) {
  return fail(user_context, halide_error_code_unaligned_host_ptr,
              "the memory of '%s' is not aligned to %d bytes as the kernel requires", func, alignment);
}

int halide_error_host_is_null(void* user_context, const char* func) {
  return fail(user_context, halide_error_code_host_is_null, "the memory of '%s' is null", func);
}

int halide_error_bad_fold(void* user_context, const char* func, const char* var, const char* loop) {
  return fail(user_context, halide_error_code_bad_fold,
              "'%s' is folded over '%s' but not accessed in order inside the loop over '%s'", func, var, loop);
}

int halide_error_bad_extern_fold(void* user_context, const char* func, int dimension, int min, int extent,
                                 int valid_min, int factor) {
  return fail(user_context, halide_error_code_bad_extern_fold,
              "dimension %d of '%s' is folded by %d from %d on, but an extern stage needs %d to %d, which wraps around",
              dimension, func, factor, valid_min, min, min + extent - 1);
}

int halide_error_fold_factor_too_small(void* user_context, const char* func, const char* var, int factor,
                                       const char* loop, int required) {
  return fail(user_context, halide_error_code_fold_factor_too_small,
              "the fold factor %d of '%s' over '%s' is too small: the loop over '%s' needs %d", factor, func, var, loop,
              required);
}

int halide_error_requirement_failed(void* user_context, const char* condition, const char* message) {
  return fail(user_context, halide_error_code_requirement_failed, "requirement failed: (%s) %s", condition, message);
}

int halide_error_specialize_fail(void* user_context, const char* message) {
  return fail(user_context, halide_error_code_specialize_fail, "no specialization fits: %s", message);
}

int halide_error_no_device_interface(void* user_context) {
  return fail(user_context, halide_error_code_no_device_interface, "a buffer has device memory but no interface to it");
}

int halide_error_device_interface_no_device(void* user_context) {
  return fail(user_context, halide_error_code_device_interface_no_device,
              "a buffer has a device interface but no device memory");
}

int halide_error_host_and_device_dirty(void* user_context) {
  return fail(user_context, halide_error_code_host_and_device_dirty,
              "a buffer is marked as changed both on the host and on the device");
}

int halide_error_buffer_is_null(void* user_context, const char* routine) {
  return fail(user_context, halide_error_code_buffer_is_null, "a null buffer was passed to %s", routine);
}

int halide_error_device_dirty_with_no_device_support(void* user_context, const char* buffer) {
  return fail(user_context, halide_error_code_device_dirty_with_no_device_support,
              "buffer '%s' has changed on a device that this kernel knows nothing of: copy it to the host first",
              buffer);
}

int halide_error_storage_bound_too_small(void* user_context, const char* func, const char* var, int provided,
                                         int required) {
  return fail(user_context, halide_error_code_storage_bound_too_small,
              "the storage bound %d of '%s' in '%s' is too small: %d is required", provided, var, func, required);
}

int halide_error_device_crop_failed(void* user_context) {
  return fail(user_context, halide_error_code_device_crop_failed, "a device buffer could not be cropped");
}

int halide_error_split_factor_not_positive(void* user_context, const char* func, const char* original,
                                           const char* outer, const char* inner, const char* factor, int value) {
  return fail(user_context, halide_error_code_split_factor_not_positive,
              "'%s' splits '%s' into '%s' and '%s' by %s = %d, which is not positive", func, original, outer, inner,
              factor, value);
}

int halide_error_vscale_invalid(void* user_context, const char* func, int runtime, int compiled) {
  return fail(user_context, halide_error_code_vscale_invalid,
              "'%s' was compiled for a vector scale of %d but runs with %d", func, compiled, runtime);
}

#pragma GCC visibility pop
