/* What the static libraries of single operators have in common; the same text stands in each of their headers. Its
 * names carry a version, so that libraries made by different versions of Heddle can be linked into one program. */
#ifndef HEDDLE_STANDALONE_1_H
#define HEDDLE_STANDALONE_1_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct heddle_kernel_table;

/* An array in memory, dimensions innermost first. */
typedef struct heddle_standalone_1_array {
  const void* data;   /* the element at every dimension's min */
  uint8_t code, bits; /* 0 signed, 1 unsigned, 2 float, 4 bfloat; bits an element */
  int32_t rank;
  const int32_t* geometry; /* min, extent, stride (in elements) of each dimension */
} heddle_standalone_1_array;

/* The operator compiled for one target. */
typedef struct heddle_standalone_1_kernel {
  const char* target;
  const char* features; /* that the processor must have: names of /proc/cpuinfo with a space after each */
  int (*run)(void** arguments);
} heddle_standalone_1_kernel;

typedef struct heddle_standalone_1_library {
  int (*init)(const struct heddle_kernel_table* table, uint32_t version);
  const heddle_standalone_1_kernel* kernels; /* the best one first */
  int kernel_count;
} heddle_standalone_1_library;

/* The first kernel that this processor can run; NULL if there is none. */
const heddle_standalone_1_kernel* heddle_standalone_1_choose(const heddle_standalone_1_library* library);

/* Runs a kernel; 0 or an error code, see the operator's function. */
int heddle_standalone_1_call(const heddle_standalone_1_library* library, const int32_t* scalars, int scalar_count,
                             const heddle_standalone_1_array* arrays, int array_count);

/* Notes an error of the calling thread and returns `code`. */
int heddle_standalone_1_fail(int code, const char* message);

/* The latest error of the calling thread in words; "" if there was none. */
const char* heddle_standalone_1_error(void);

/* How many threads may work on one call, the calling one included: default HEDDLE_THREADS, or one a processor of the
 * affinity mask. Takes effect until the first call that runs in parallel. */
void heddle_standalone_1_set_threads(int threads);

/* Arithmetic of extents: division rounds down, a remainder has the divisor's sign. */
static inline int64_t heddle_standalone_1_div(int64_t a, int64_t b) {
  return a / b - (a % b != 0 && (a < 0) != (b < 0));
}
static inline int64_t heddle_standalone_1_mod(int64_t a, int64_t b) { return a - b * heddle_standalone_1_div(a, b); }
static inline int64_t heddle_standalone_1_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t heddle_standalone_1_max(int64_t a, int64_t b) { return a > b ? a : b; }

#ifdef __cplusplus
}
#endif

#endif
