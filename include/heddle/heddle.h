/* Heddle's runtime: loads a package that `heddle compile` wrote and runs it on the CPU, or on a device by OpenCL or
 * Vulkan.
 *
 * Link with libheddle_runtime; it needs neither the compiler nor a compiler's libraries, and looks for those of OpenCL
 * and Vulkan only when a device is asked for. A first program, without its
 * error handling:
 *
 *     heddle_model* model;
 *     heddle_session* session;
 *     heddle_model_load("resnet50.heddle", NULL, &model);
 *     heddle_session_create(model, NULL, &session);
 *
 *     const int64_t shape[] = {1, 3, 224, 224};
 *     heddle_tensor image = {.dtype = HEDDLE_F32, .rank = 4, .shape = shape, .data = pixels};
 *     heddle_session_set_input(session, 0, &image);
 *     heddle_session_run(session);
 *
 *     heddle_tensor scores;
 *     heddle_session_get_output(session, 0, &scores);   // scores.data, scores.shape[0 .. scores.rank - 1]
 *
 *     heddle_session_free(session);
 *     heddle_model_free(model);
 *
 * Errors. Every function that can fail returns a heddle_status: HEDDLE_OK (0), or what went wrong, and
 * heddle_last_error() then says it in words. What a failed call would have written to its results is left unchanged.
 *
 * Threads. Every function may be called from any thread at any time, with two exceptions: nothing may use an object
 * while or after it is freed, and memory that was handed over must not be changed while a run uses it. Calls on one
 * session exclude one another, so two runs of one session happen one after the other; to run a model several times at
 * once, make a session for each thread. Models are immutable and shared by their sessions.
 *
 * Processors. All sessions of a process share one pool of threads, one pinned to each processor of the process's
 * affinity mask, so restrict the mask (taskset, a container's cpuset) to restrict Heddle. After work the threads spin
 * for a short time (spin_us), because waking a thread takes longer than many kernels, and then sleep. The thread that
 * calls heddle_session_run works too; it is not pinned unless the session asks for it. Sessions that run at the same
 * time get disjoint threads of the pool, or none. A child of fork() may use sessions made before the fork (their loops
 * then run in one thread) or make new ones, provided that no run was in progress when it forked.
 *
 * Devices. A package compiled for opencl or vulkan has kernels for any device of that kind; a model loaded for one
 * keeps its constants there, and its sessions their intermediates. The first run for a combination of input shapes
 * records the device's work, later ones start all of it at once and wait. Inputs and outputs are memory of the host.
 * What the device cannot do runs on the CPU in between. A child of fork() cannot use sessions on a device made before
 * the fork.
 *
 * Numbers. During a run subnormal floating-point numbers count as zero, unless the session says otherwise; the calling
 * thread's setting is put back afterwards.
 *
 * Compatibility. Structs that may grow begin with their size; set it with the HEDDLE_*_INIT value. */
#ifndef HEDDLE_HEDDLE_H
#define HEDDLE_HEDDLE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a call ended with. */
typedef enum heddle_status {
  HEDDLE_OK = 0,
  HEDDLE_INVALID_ARGUMENT = 1, /* the request cannot be meant: a wrong shape, dtype, index, a null pointer */
  HEDDLE_NOT_FOUND = 2,        /* a package, input, output or target of that name does not exist */
  HEDDLE_UNSUPPORTED = 3,      /* understood, but this runtime or this processor cannot do it */
  HEDDLE_CORRUPT = 4,          /* the package is damaged: bytes that do not decode or whose checksum differs */
  HEDDLE_IO = 5,               /* the operating system refused: permissions, a failing disk */
  HEDDLE_OUT_OF_MEMORY = 6,
  HEDDLE_DEVICE = 7,  /* a device or its driver failed; inputs and earlier outputs are as they were */
  HEDDLE_INTERNAL = 8 /* a bug of Heddle's; please report it with the message */
} heddle_status;

/* Element types. A boolean is one byte, 0 or 1; F16 is IEEE half precision, BF16 its truncated relative. */
typedef enum heddle_dtype {
  HEDDLE_F32 = 0,
  HEDDLE_F64 = 1,
  HEDDLE_F16 = 2,
  HEDDLE_BF16 = 3,
  HEDDLE_I8 = 4,
  HEDDLE_U8 = 5,
  HEDDLE_I16 = 6,
  HEDDLE_U16 = 7,
  HEDDLE_I32 = 8,
  HEDDLE_U32 = 9,
  HEDDLE_I64 = 10,
  HEDDLE_U64 = 11,
  HEDDLE_BOOLEAN = 12
} heddle_dtype;

typedef struct heddle_model heddle_model;     /* a loaded package */
typedef struct heddle_session heddle_session; /* one client of a model */

/* "0.1.0" */
const char* heddle_version(void);

/* The message of the latest call in this thread that failed: what is wrong and what to do about it. Never NULL; valid
 * until the next failing call in this thread. */
const char* heddle_last_error(void);

/* "f32"; "?" for what is no heddle_dtype. */
const char* heddle_dtype_name(heddle_dtype dtype);
/* Bytes of one element; 0 for what is no heddle_dtype. */
size_t heddle_dtype_size(heddle_dtype dtype);

/* ---- Devices ---- */

/* How a device is reached. Each is a target of packages: "opencl", "vulkan". */
typedef enum heddle_device_api { HEDDLE_OPENCL = 0, HEDDLE_VULKAN = 1 } heddle_device_api;

typedef enum heddle_device_kind {
  HEDDLE_KIND_CPU = 0,        /* a driver that computes on the processor */
  HEDDLE_KIND_INTEGRATED = 1, /* shares the processor's memory */
  HEDDLE_KIND_DISCRETE = 2,   /* has its own */
  HEDDLE_KIND_OTHER = 3
} heddle_device_kind;

typedef struct heddle_device_info {
  size_t size; /* sizeof(heddle_device_info), set by the caller */
  heddle_device_api api;
  heddle_device_kind kind;
  int32_t index;      /* among the API's devices */
  const char* name;   /* "NVIDIA H100 80GB HBM3" */
  const char* driver; /* its name and version */
  uint64_t memory_bytes;
} heddle_device_info;
#define HEDDLE_DEVICE_INFO_INIT {sizeof(heddle_device_info), HEDDLE_OPENCL, HEDDLE_KIND_OTHER, 0, NULL, NULL, 0}

/* Looks for the API's devices that can run kernels. None is no error: *count is 0, and heddle_last_error says why. */
heddle_status heddle_device_count(heddle_device_api api, size_t* count);
/* One of those that this thread's latest heddle_device_count for the API found. The strings are valid until its next
 * one. */
heddle_status heddle_device(heddle_device_api api, size_t index, heddle_device_info* info);

/* ---- Models ---- */

typedef struct heddle_load_options {
  size_t size;        /* sizeof(heddle_load_options) */
  const char* target; /* which of the package's targets to take: "x86-64-linux-avx2", "opencl", "vulkan", or "cpu" for
                         the best one for this processor. NULL: the same as "cpu", and if the package has none, one for
                         a device; with `device` set, one for a device */
  const char* device; /* which device: its index, or a part of its name. NULL: the environment variable HEDDLE_DEVICE,
                         or the best there is, discrete ones first */
} heddle_load_options;
#define HEDDLE_LOAD_OPTIONS_INIT {sizeof(heddle_load_options), NULL, NULL}

/* Loads the package directory `path`: verifies the checksums of what it uses, picks the kernels for this processor or a
 * device and maps the weights. For a device it also has the driver compile the kernels, which may take seconds the
 * first time (the results are kept in HEDDLE_CACHE, or heddle/ in the user's cache directory), and copies the weights
 * there. `options` may be NULL. Errors: not_found, io, corrupt (damaged or tampered with), unsupported (no target of
 * the package runs here; the message lists what each one lacks, or a newer Heddle wrote it, or the driver rejects a
 * kernel), out_of_memory and device. */
heddle_status heddle_model_load(const char* path, const heddle_load_options* options, heddle_model** model);

/* NULL is fine. Sessions keep what they need: they may outlive the model. */
void heddle_model_free(heddle_model* model);

/* Name of the source model, and the target whose kernels were picked. Valid while the model is. */
const char* heddle_model_name(const heddle_model* model);
const char* heddle_model_target(const heddle_model* model);
/* The device that the model was loaded for; not_found if it runs on the CPU. The strings are valid while the model is.
 */
heddle_status heddle_model_device(const heddle_model* model, heddle_device_info* info);

/* Type of an input or output. An extent that depends on the inputs is -1 in `extents` and an expression over the
 * model's symbols in `texts`: "W", "div(W + 1, 2)". All pointers are valid while the model is. */
typedef struct heddle_tensor_info {
  const char* name;
  heddle_dtype dtype;
  int32_t rank;
  const int64_t* extents;   /* `rank` of them */
  const char* const* texts; /* `rank` of them; a fixed extent is its number */
} heddle_tensor_info;

size_t heddle_model_input_count(const heddle_model* model);
size_t heddle_model_output_count(const heddle_model* model);
heddle_status heddle_model_input(const heddle_model* model, size_t index, heddle_tensor_info* info);
heddle_status heddle_model_output(const heddle_model* model, size_t index, heddle_tensor_info* info);
/* Index of an input or output by name; not_found names the near ones. */
heddle_status heddle_model_input_index(const heddle_model* model, const char* name, size_t* index);
heddle_status heddle_model_output_index(const heddle_model* model, const char* name, size_t* index);

/* A symbolic extent and the values for which the model was compiled, both inclusive. */
typedef struct heddle_symbol_info {
  const char* name; /* valid while the model is */
  int64_t min, max;
} heddle_symbol_info;

size_t heddle_model_symbol_count(const heddle_model* model);
heddle_status heddle_model_symbol(const heddle_model* model, size_t index, heddle_symbol_info* info);

/* ---- Sessions ---- */

typedef struct heddle_session_options {
  size_t size;     /* sizeof(heddle_session_options) */
  int32_t threads; /* that work on one run, the calling one included; 0: one a physical core. More than there are
                      processors are not used */
  int32_t spin_us; /* how long idle pool threads spin before they sleep; -1: the environment variable HEDDLE_SPIN_US, or
                      200; 0: they sleep at once, for machines that are shared or save power */
  int32_t pin;     /* 1: the thread that calls run stays on its processor meanwhile, which steadies short runs */
  int32_t keep_subnormals; /* 1: subnormal numbers are computed with, at a great cost on many processors */
  int32_t poison;          /* 1: intermediates and outputs start as NaNs, to find what is never written. For tests */
  int32_t profile;         /* 1: every step is timed, see heddle_session_profile */
} heddle_session_options;
#define HEDDLE_SESSION_OPTIONS_INIT {sizeof(heddle_session_options), 0, -1, 0, 0, 0, 0}

/* `options` may be NULL: the values of HEDDLE_SESSION_OPTIONS_INIT. */
heddle_status heddle_session_create(const heddle_model* model, const heddle_session_options* options,
                                    heddle_session** session);
/* NULL is fine. */
void heddle_session_free(heddle_session* session);

/* A tensor in memory: dense, the last dimension contiguous (row-major). */
typedef struct heddle_tensor {
  heddle_dtype dtype;
  int32_t rank;
  const int64_t* shape; /* `rank` extents; may be NULL if rank is 0 */
  void* data;           /* of inputs it is only read */
} heddle_tensor;

/* Hands over an input. Its shape is copied; its data is not, and must stay valid and unchanged during every later run,
 * until the input is set again. Data aligned to 64 bytes is read in place, other data is copied at the begin of each
 * run; for a device all data is. Inputs stay set from run to run. Errors: invalid_argument for an index, dtype or rank
 * that the model does not have. */
heddle_status heddle_session_set_input(heddle_session* session, size_t index, const heddle_tensor* tensor);
/* The same by name; not_found names the near ones. */
heddle_status heddle_session_set_input_by_name(heddle_session* session, const char* name, const heddle_tensor* tensor);

/* Says where an output is to be written by later runs: memory of the caller for a tensor of exactly the shape that the
 * inputs lead to, which run checks before it writes. Aligned to 64 bytes it is written directly. `tensor` == NULL
 * returns to the default, memory of the session. */
heddle_status heddle_session_set_output(heddle_session* session, size_t index, const heddle_tensor* tensor);

/* Computes all outputs. The first run for a combination of input shapes prepares it, which takes milliseconds; the
 * plans of the eight latest combinations are kept. Errors: invalid_argument for an input that is not set or shapes that
 * do not fit (naming the input, the dimension, what was expected and what was given), unsupported for what the device
 * cannot do with these shapes, out_of_memory, device, internal. After an error the outputs have no value. */
heddle_status heddle_session_run(heddle_session* session);

/* An output of the latest run. Shape and data belong to the session (or are the memory given to set_output) and are
 * valid until the next run, set_output or free of this session. invalid_argument if there was no successful run. */
heddle_status heddle_session_get_output(heddle_session* session, size_t index, heddle_tensor* tensor);

/* Time of one step in the latest run of a session that profiles. Steps run one after another. */
typedef struct heddle_step_time {
  const char* label; /* what it computes: "conv_3 + relu" */
  const char* name;  /* the kernel or host operator */
  int64_t start_ns;  /* since the begin of the run */
  int64_t duration_ns;
  int64_t flops; /* operations for these shapes: a multiplication and an addition are two */
  int64_t bytes; /* read and written at least once */
} heddle_step_time;

/* Gives the steps' times, in order; valid until the next run, profile call or free of this session. invalid_argument if
 * the session does not profile or has not run. */
heddle_status heddle_session_profile(heddle_session* session, size_t* count, const heddle_step_time** steps);

#ifdef __cplusplus
}
#endif

#endif
