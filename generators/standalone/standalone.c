/* The little runtime of the static libraries that `heddle kernel` makes: chooses a target, runs the kernel's parallel
 * loops on a pool of threads and keeps error messages. Several libraries in one program share it: the linker takes the
 * first one's copy. The runtime of packages (libheddle_runtime) is another thing, with its pool pinned to processors.
 */
#include "generators/standalone/standalone.h"

#include <HalideRuntime.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#else
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "generators/shims/kernel_table.h"

enum { NO_TARGET = -1001, OTHER_VERSION = -1002 };

/* ---- Errors ---- */

static _Thread_local char last_error[1024];

int heddle_standalone_1_fail(int code, const char* message) {
  snprintf(last_error, sizeof last_error, "%s", message);
  return code;
}

const char* heddle_standalone_1_error(void) { return last_error; }

/* One call of a kernel: what its user_context points to. Messages may come from any thread of the pool. */
struct call {
  atomic_flag failed;
  char message[1024];
};

static void note_error(void* user_context, const char* message) {
  struct call* call = user_context;
  if (!atomic_flag_test_and_set(&call->failed)) snprintf(call->message, sizeof call->message, "%s", message);
}

static void print(void* user_context, const char* text) {
  (void)user_context;
  fputs(text, stderr);
}

/* ---- Scratch memory: large blocks are kept, since malloc would map them anew, page by page, at every call. ---- */

enum { MARGIN = 128, KEPT_BLOCKS = 16 };
struct block {
  size_t bytes; /* usable */
};
static struct {
  pthread_mutex_t mutex;
  struct block* kept[KEPT_BLOCKS];
  size_t kept_bytes;
} scratch = {.mutex = PTHREAD_MUTEX_INITIALIZER};
static const size_t most_kept_bytes = (size_t)256 << 20;

static void* allocate(void* user_context, size_t bytes) {
  (void)user_context;
  struct block* block = NULL;
  pthread_mutex_lock(&scratch.mutex);
  int best = -1;
  for (int i = 0; i < KEPT_BLOCKS; ++i) {
    const struct block* b = scratch.kept[i];
    if (b != NULL && b->bytes >= bytes && b->bytes / 2 <= bytes && (best < 0 || b->bytes < scratch.kept[best]->bytes))
      best = i;
  }
  if (best >= 0) {
    block = scratch.kept[best];
    scratch.kept[best] = NULL;
    scratch.kept_bytes -= block->bytes;
  }
  pthread_mutex_unlock(&scratch.mutex);
  if (block == NULL) {
    const size_t usable = (bytes + MARGIN - 1) / MARGIN * MARGIN;
    block = usable < bytes ? NULL : aligned_alloc(MARGIN, usable + 2 * MARGIN);
    if (block == NULL) return NULL;
    block->bytes = usable;
  }
  return (char*)block + MARGIN;
}

static void release(void* user_context, void* memory) {
  (void)user_context;
  struct block* block = (struct block*)((char*)memory - MARGIN);
  pthread_mutex_lock(&scratch.mutex);
  if (scratch.kept_bytes + block->bytes <= most_kept_bytes)
    for (int i = 0; i < KEPT_BLOCKS && block != NULL; ++i)
      if (scratch.kept[i] == NULL) {
        scratch.kept[i] = block;
        scratch.kept_bytes += block->bytes;
        block = NULL;
      }
  pthread_mutex_unlock(&scratch.mutex);
  free(block);
}

/* ---- Parallel loops ---- */

static struct {
  pthread_mutex_t mutex;
  pthread_cond_t wake, finished;
  int threads; /* 0: not decided yet */
  bool started;
  atomic_bool taken;      /* one loop at a time; others run in their own thread */
  atomic_uint generation; /* counts loops; workers spin on it */
  /* Under the mutex. */
  bool open; /* workers may still join the loop */
  atomic_int active;
  /* The loop: constant while it is open or active. */
  halide_task_t task;
  void* user_context;
  uint8_t* closure;
  int end;
  atomic_int next, status;
} pool = {.mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .finished = PTHREAD_COND_INITIALIZER};

static _Thread_local bool in_loop;

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void work_on_loop(void) {
  in_loop = true;
  while (atomic_load_explicit(&pool.status, memory_order_relaxed) == 0) {
    const int index = atomic_fetch_add_explicit(&pool.next, 1, memory_order_relaxed);
    if (index >= pool.end) break;
    const int status = pool.task(pool.user_context, index, pool.closure);
    if (status != 0) atomic_store(&pool.status, status);
  }
  in_loop = false;
}

static void* worker(void* unused) {
  (void)unused;
  unsigned seen = 0;
  while (true) {
    /* Another loop often follows at once, and waking a thread takes longer than many of them. */
    for (const int64_t until = now_ns() + 100000; atomic_load(&pool.generation) == seen && now_ns() < until;)
      for (int i = 0; i < 32; ++i) relax();
    pthread_mutex_lock(&pool.mutex);
    while (atomic_load(&pool.generation) == seen || !pool.open) {
      seen = atomic_load(&pool.generation);
      pthread_cond_wait(&pool.wake, &pool.mutex);
    }
    seen = atomic_load(&pool.generation);
    atomic_fetch_add(&pool.active, 1);
    pthread_mutex_unlock(&pool.mutex);
    work_on_loop();
    pthread_mutex_lock(&pool.mutex);
    if (atomic_fetch_sub(&pool.active, 1) == 1) pthread_cond_signal(&pool.finished);
    pthread_mutex_unlock(&pool.mutex);
  }
  return NULL;
}

void heddle_standalone_1_set_threads(int threads) {
  pthread_mutex_lock(&pool.mutex);
  pool.threads = threads < 1 ? 1 : threads > 256 ? 256 : threads;
  pthread_mutex_unlock(&pool.mutex);
}

/* Under the mutex. */
static void start_workers(void) {
  pool.started = true;
  if (pool.threads == 0) {
    const char* wanted = getenv("HEDDLE_THREADS");
    cpu_set_t mask;
    if (wanted != NULL && atoi(wanted) > 0) pool.threads = atoi(wanted);
    else pool.threads = sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : 1;
    if (pool.threads > 256) pool.threads = 256;
  }
  int running = 1;
  for (; running < pool.threads; ++running) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, worker, NULL) != 0) break; /* fewer threads do the same work */
    pthread_detach(thread);
  }
  pool.threads = running;
}

static int parallel_for(void* user_context, halide_task_t task, int min, int extent, uint8_t* closure) {
  bool free = false;
  if (extent <= 1 || in_loop || !atomic_compare_exchange_strong(&pool.taken, &free, true)) {
    for (int i = min; i < min + extent; ++i) {
      const int status = task(user_context, i, closure);
      if (status != 0) return status;
    }
    return 0;
  }
  pthread_mutex_lock(&pool.mutex);
  if (!pool.started) start_workers();
  pool.task = task;
  pool.user_context = user_context;
  pool.closure = closure;
  pool.end = min + extent;
  atomic_store(&pool.next, min);
  atomic_store(&pool.status, 0);
  pool.open = true;
  atomic_fetch_add(&pool.generation, 1);
  pthread_cond_broadcast(&pool.wake);
  pthread_mutex_unlock(&pool.mutex);

  work_on_loop();
  for (const int64_t until = now_ns() + 100000; atomic_load(&pool.active) != 0 && now_ns() < until;) relax();
  pthread_mutex_lock(&pool.mutex);
  pool.open = false;
  while (atomic_load(&pool.active) != 0) pthread_cond_wait(&pool.finished, &pool.mutex);
  pthread_mutex_unlock(&pool.mutex);
  const int status = atomic_load(&pool.status);
  atomic_store(&pool.taken, false);
  return status;
}

static const heddle_kernel_table table = {
    .allocate = allocate, .release = release, .parallel_for = parallel_for, .error = note_error, .print = print};

/* ---- Targets ---- */

static char features[8192]; /* with a space before and after each */
static pthread_once_t detected = PTHREAD_ONCE_INIT;

#if defined(__aarch64__)
static void detect(void) {
  /* Bits of the Linux ABI. /proc/cpuinfo is another machine's where an emulator runs the program. */
  static const struct {
    int bit;
    const char* name;
  } bits[] = {{1, "asimd"}, {8, "atomics"}, {9, "fphp"}, {10, "asimdhp"}, {20, "asimddp"}, {22, "sve"}};
  const unsigned long capabilities = getauxval(AT_HWCAP);
  char* end = features;
  *end++ = ' ';
  for (size_t i = 0; i < sizeof bits / sizeof bits[0]; ++i)
    if ((capabilities >> bits[i].bit & 1) != 0) end += sprintf(end, "%s ", bits[i].name);
}
#else
static void detect(void) {
  FILE* file = fopen("/proc/cpuinfo", "r");
  if (file == NULL) return;
  char line[sizeof features];
  while (fgets(line, sizeof line, file) != NULL) {
    const char* colon = strchr(line, ':');
    if (strncmp(line, "flags", 5) != 0 || colon == NULL) continue;
    snprintf(features, sizeof features, "%s", colon + 1);
    for (char* c = features; *c != '\0'; ++c)
      if (*c == '\n' || *c == '\t') *c = ' ';
    break;
  }
  fclose(file);
  /* Linux saves AMX's registers for processes alone that asked for them (5.16: ARCH_REQ_XCOMP_PERM, XCR0's bit 18). */
  char* tiles = strstr(features, " amx_tile ");
  if (tiles != NULL && syscall(SYS_arch_prctl, 0x1023, 18) != 0) memset(tiles, ' ', strlen(" amx_tile "));
}
#endif

static bool runs_here(const char* wanted) {
  for (const char* end; (end = strchr(wanted, ' ')) != NULL; wanted = end + 1) {
    char word[64];
    snprintf(word, sizeof word, " %.*s ", (int)(end - wanted), wanted);
    if (strstr(features, word) == NULL) return false;
  }
  return true;
}

const heddle_standalone_1_kernel* heddle_standalone_1_choose(const heddle_standalone_1_library* library) {
  pthread_once(&detected, detect);
  for (int i = 0; i < library->kernel_count; ++i)
    if (runs_here(library->kernels[i].features)) return &library->kernels[i];
  return NULL;
}

int heddle_standalone_1_call(const heddle_standalone_1_library* library, const int32_t* scalars, int scalar_count,
                             const heddle_standalone_1_array* arrays, int array_count) {
  enum { MOST_ARGUMENTS = 64, MOST_DIMENSIONS = 256 };
  const heddle_standalone_1_kernel* kernel = heddle_standalone_1_choose(library);
  if (kernel == NULL)
    return heddle_standalone_1_fail(NO_TARGET,
                                    "this processor runs none of the targets that the kernel was compiled for");
  if (library->init(&table, HEDDLE_KERNEL_TABLE_VERSION) != 0)
    return heddle_standalone_1_fail(OTHER_VERSION, "the kernel was made by another version of Heddle than the library");

  halide_buffer_t buffers[MOST_ARGUMENTS];
  halide_dimension_t dims[MOST_DIMENSIONS];
  void* arguments[1 + 2 * MOST_ARGUMENTS];
  struct call call = {.failed = ATOMIC_FLAG_INIT};
  void* context = &call;
  int used = 0, count = 0;
  arguments[count++] = &context;
  for (int i = 0; i < scalar_count; ++i) arguments[count++] = (void*)&scalars[i];
  for (int i = 0; i < array_count; ++i) {
    const heddle_standalone_1_array* array = &arrays[i];
    halide_buffer_t* buffer = &buffers[i];
    memset(buffer, 0, sizeof *buffer);
    buffer->host = (uint8_t*)array->data;
    buffer->type.code = array->code;
    buffer->type.bits = array->bits;
    buffer->type.lanes = 1;
    buffer->dimensions = array->rank;
    buffer->dim = &dims[used];
    for (int d = 0; d < array->rank; ++d, ++used) {
      dims[used].min = array->geometry[3 * d];
      dims[used].extent = array->geometry[3 * d + 1];
      dims[used].stride = array->geometry[3 * d + 2];
      dims[used].flags = 0;
    }
    arguments[count++] = buffer;
  }
  const int status = kernel->run(arguments);
  return status == 0 ? 0
                     : heddle_standalone_1_fail(status, call.message[0] != '\0' ? call.message : "the kernel failed");
}
