/* Runs a model that Heddle compiled with --target opencl through plain OpenCL 1.2: neither Heddle nor Halide is here,
 * only the package's files. opencl/launches.json, which fixed shapes have, says what to do with them; docs/launches.md
 * and docs/gpu.md explain it.
 *
 *   cc -std=c11 -O2 -DCL_TARGET_OPENCL_VERSION=120 main.c -lOpenCL -lm -o standalone_opencl
 *   standalone_opencl PACKAGE in NAME FILE ... [out NAME FILE ...] [expect NAME FILE ...]
 *
 * FILEs hold a tensor's bytes, row-major. `out` writes one, `expect` compares (f32) and fails if it differs. */
#include <CL/cl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char* what, const char* of) {
  fprintf(stderr, "%s %s\n", what, of);
  exit(1);
}
static void check(cl_int status, const char* what) {
  if (status == CL_SUCCESS) return;
  fprintf(stderr, "%s: OpenCL status %d\n", what, status);
  exit(1);
}
static void* allocate(size_t bytes) {
  void* memory = calloc(1, bytes);
  if (memory == NULL) fail("out of", "memory");
  return memory;
}

/* The whole file, with a zero byte after it. */
static char* read_file(const char* path, size_t* bytes) {
  FILE* file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) fail("cannot read", path);
  const long size = ftell(file);
  if (size < 0) fail("cannot read", path);
  rewind(file);
  char* data = allocate((size_t)size + 1);
  if (fread(data, 1, (size_t)size, file) != (size_t)size) fail("cannot read", path);
  fclose(file);
  *bytes = (size_t)size;
  return data;
}
static char* read_package_file(const char* package, const char* name, size_t* bytes) {
  char path[4096];
  if (snprintf(path, sizeof path, "%s/%s", package, name) >= (int)sizeof path) fail("too long a path:", name);
  return read_file(path, bytes);
}

/* --- As much of JSON as launches.json has: no escapes but \" and \\, no fractions --- */

typedef struct json {
  char* key;  /* in an object */
  char* text; /* of a string; NULL of all others */
  long long number;
  struct json* first; /* of an object or array */
  struct json* next;  /* its neighbour */
} json;

static const char* skip(const char* at) { return at + strspn(at, " \t\r\n"); }

static const char* parse_string(const char* at, char** text) {
  if (*at++ != '"') fail("launches.json is damaged before", at - 1);
  char* end = *text = allocate(strlen(at) < 4096 ? strlen(at) + 1 : 4096);
  for (; *at != '"'; *end++ = *at++) {
    if (*at == '\\') ++at;
    if (*at == 0 || end - *text > 4000) fail("launches.json has", "an endless string");
  }
  return at + 1;
}

static const char* parse(const char* at, json* value) {
  at = skip(at);
  if (*at == '"') return parse_string(at, &value->text);
  if (*at == '{' || *at == '[') {
    const char close = *at == '{' ? '}' : ']';
    json** last = &value->first;
    for (at = skip(at + 1); *at != close; at = skip(at)) {
      json* element = *last = allocate(sizeof *element);
      last = &element->next;
      if (close == '}') {
        at = skip(parse_string(at, &element->key));
        if (*at++ != ':') fail("launches.json is damaged before", at - 1);
      }
      at = skip(parse(at, element));
      if (*at == ',') ++at;
      else if (*at != close) fail("launches.json is damaged before", at);
    }
    return at + 1;
  }
  if (strncmp(at, "true", 4) == 0) return value->number = 1, at + 4;
  if (strncmp(at, "false", 5) == 0) return at + 5;
  char* end;
  value->number = strtoll(at, &end, 10);
  if (end == at) fail("launches.json is damaged before", at);
  return end;
}

static const json* look(const json* object, const char* key) {
  for (const json* member = object->first; member != NULL; member = member->next)
    if (member->key != NULL && strcmp(member->key, key) == 0) return member;
  return NULL;
}
static const json* get(const json* object, const char* key) {
  const json* member = look(object, key);
  if (member == NULL) fail("launches.json has no", key);
  return member;
}
static const char* text_of(const json* object, const char* key) {
  const json* member = get(object, key);
  if (member->text == NULL) fail("launches.json has no text as", key);
  return member->text;
}
static size_t size_of(const json* object, const char* key) { return (size_t)get(object, key)->number; }

/* --- OpenCL --- */

static cl_device_id device;
static cl_context context;
static cl_command_queue queue;

static void open_device(void) {
  cl_platform_id platform;
  cl_uint count = 0;
  if (clGetPlatformIDs(1, &platform, &count) != CL_SUCCESS || count == 0) fail("there is no", "OpenCL platform");
  check(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL), "clGetDeviceIDs");
  char name[256] = "";
  clGetDeviceInfo(device, CL_DEVICE_NAME, sizeof name - 1, name, NULL);
  printf("on %s\n", name);
  cl_int status;
  context = clCreateContext(NULL, 1, &device, NULL, NULL, &status);
  check(status, "clCreateContext");
  /* In order: every launch sees what the ones before it wrote. */
  queue = clCreateCommandQueue(context, device, 0, &status);
  check(status, "clCreateCommandQueue");
}

/* A memory by its name in launches.json. */
typedef struct {
  char name[32];
  cl_mem buffer;
} memory;
static memory memories[256];
static int memory_count;

static cl_mem memory_named(const char* name) {
  for (int m = 0; m < memory_count; ++m)
    if (strcmp(memories[m].name, name) == 0) return memories[m].buffer;
  return NULL;
}
static void add_memory(const char* name, size_t bytes, void* content) {
  if (memory_named(name) != NULL) return;
  if (memory_count == sizeof memories / sizeof *memories) fail("too many memories:", name);
  memory* added = &memories[memory_count++];
  snprintf(added->name, sizeof added->name, "%s", name);
  cl_int status;
  added->buffer = clCreateBuffer(context, CL_MEM_READ_WRITE | (content != NULL ? CL_MEM_COPY_HOST_PTR : 0u),
                                 bytes > 0 ? bytes : 1, content, &status);
  check(status, name);
}

static void make_memories(const char* package, const json* launches) {
  for (const json* m = get(launches, "memories")->first; m != NULL; m = m->next)
    add_memory(m->key, (size_t)m->number, NULL);
  size_t bytes;
  char* weights = read_package_file(package, text_of(launches, "weights"), &bytes);
  add_memory("weights", bytes, bytes > 0 ? weights : NULL);
  free(weights);
  /* Inputs and outputs have memories of their own, where they are not the arena's or constants. */
  for (int outputs = 0; outputs < 2; ++outputs)
    for (const json* t = get(launches, outputs ? "outputs" : "inputs")->first; t != NULL; t = t->next)
      add_memory(text_of(t, "memory"), size_of(t, "offset") + size_of(t, "bytes"), NULL);
}

/* Entries of one file follow one another: the last program built is kept. */
static cl_kernel make_kernel(const char* package, const char* file, const char* entry) {
  static cl_program built;
  static char built_from[4096];
  cl_int status;
  if (strcmp(file, built_from) != 0) {
    if (built != NULL) clReleaseProgram(built); /* goes when its kernels do */
    size_t bytes;
    char* source = read_package_file(package, file, &bytes);
    built = clCreateProgramWithSource(context, 1, (const char**)&source, &bytes, &status);
    check(status, "clCreateProgramWithSource");
    if (clBuildProgram(built, 1, &device, "", NULL, NULL) != CL_SUCCESS) {
      char log[16384] = "";
      clGetProgramBuildInfo(built, device, CL_PROGRAM_BUILD_LOG, sizeof log - 1, log, NULL);
      fail(file, log);
    }
    free(source);
    snprintf(built_from, sizeof built_from, "%s", file);
  }
  cl_kernel kernel = clCreateKernel(built, entry, &status);
  check(status, entry);
  return kernel;
}

/* The part of a memory that an argument is; the caller releases it. */
static cl_mem part_of(const json* place) {
  const cl_buffer_region region = {size_of(place, "offset"), size_of(place, "bytes")};
  cl_mem whole = memory_named(text_of(place, "memory"));
  if (whole == NULL) fail("there is no memory", text_of(place, "memory"));
  cl_int status;
  cl_mem part = clCreateSubBuffer(whole, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION, &region, &status);
  check(status, "clCreateSubBuffer");
  return part;
}

static void enqueue(const char* package, const json* launch) {
  cl_kernel kernel = make_kernel(package, text_of(launch, "file"), text_of(launch, "entry"));
  cl_mem parts[256];
  cl_uint index = 0, part_count = 0;
  for (const json* a = get(launch, "arguments")->first; a != NULL; a = a->next, ++index) {
    if (look(a, "scalar") != NULL) {
      unsigned char bytes[8];
      size_t count = 0;
      unsigned byte;
      for (const char* digits = text_of(a, "scalar"); count < sizeof bytes && sscanf(digits, "%2x", &byte) == 1;
           digits += 2)
        bytes[count++] = (unsigned char)byte;
      check(clSetKernelArg(kernel, index, count, bytes), "clSetKernelArg of a scalar");
      continue;
    }
    if (part_count == sizeof parts / sizeof *parts) fail("too many arguments of", text_of(launch, "entry"));
    cl_mem part = parts[part_count++] = part_of(a);
    check(clSetKernelArg(kernel, index, sizeof part, &part), "clSetKernelArg of a buffer");
  }
  /* Local memory comes last; none at all is refused. */
  const size_t shared = size_of(launch, "shared_bytes");
  check(clSetKernelArg(kernel, index, shared > 0 ? shared : 1, NULL), "clSetKernelArg of local memory");

  size_t all[3], block[3];
  const json *b = get(launch, "blocks")->first, *t = get(launch, "threads")->first;
  for (int d = 0; d < 3; ++d, b = b->next, t = t->next) {
    if (b == NULL || t == NULL) fail("a grid has three extents, but not that of", text_of(launch, "entry"));
    block[d] = (size_t)t->number;
    all[d] = (size_t)(b->number * t->number); /* OpenCL counts threads, not blocks */
  }
  check(clEnqueueNDRangeKernel(queue, kernel, 3, NULL, all, block, 0, NULL, NULL), "clEnqueueNDRangeKernel");
  clReleaseKernel(kernel); /* it and the parts go when the launch is done */
  while (part_count > 0) clReleaseMemObject(parts[--part_count]);
}

/* --- Inputs and outputs --- */

static const json* tensor_named(const json* launches, const char* list, const char* name) {
  for (const json* t = get(launches, list)->first; t != NULL; t = t->next)
    if (strcmp(text_of(t, "name"), name) == 0) return t;
  fail("the model has there no tensor", name);
  return NULL;
}

static void set_input(const json* tensor, const char* path) {
  size_t bytes;
  char* data = read_file(path, &bytes);
  if (bytes != size_of(tensor, "bytes")) fail(path, "is not of the input's size");
  check(clEnqueueWriteBuffer(queue, memory_named(text_of(tensor, "memory")), CL_TRUE, size_of(tensor, "offset"), bytes,
                             data, 0, NULL, NULL),
        "clEnqueueWriteBuffer");
  free(data);
}

static char* get_output(const json* tensor) {
  char* data = allocate(size_of(tensor, "bytes"));
  check(clEnqueueReadBuffer(queue, memory_named(text_of(tensor, "memory")), CL_TRUE, size_of(tensor, "offset"),
                            size_of(tensor, "bytes"), data, 0, NULL, NULL),
        "clEnqueueReadBuffer");
  return data;
}

static int equals(const json* tensor, const char* got, const char* path) {
  size_t bytes;
  char* want = read_file(path, &bytes);
  if (bytes != size_of(tensor, "bytes") || strcmp(text_of(tensor, "dtype"), "f32") != 0)
    fail(path, "cannot be compared with the output");
  float worst = 0, largest = 0;
  for (size_t at = 0; at + 4 <= bytes; at += 4) {
    float a, b;
    memcpy(&a, got + at, 4);
    memcpy(&b, want + at, 4);
    const float difference = fabsf(a - b);
    if (!(difference <= worst)) worst = difference; /* a NaN is worse than anything */
    if (fabsf(b) > largest) largest = fabsf(b);
  }
  free(want);
  printf("%s: differs by %g at most, of %g\n", text_of(tensor, "name"), worst, largest);
  return worst <= 1e-4F * (largest > 1 ? largest : 1);
}

int main(int count, char** words) {
  if (count < 2 || count % 3 != 2) {
    fprintf(stderr, "usage: %s PACKAGE {in|out|expect NAME FILE}...\n", words[0]);
    return 2;
  }
  const char* package = words[1];
  size_t bytes;
  char* text = read_package_file(package, "opencl/launches.json", &bytes);
  json launches = {0};
  parse(text, &launches);
  free(text);
  if (strcmp(text_of(&launches, "format"), "heddle-launches") != 0 || size_of(&launches, "version") != 1 ||
      strcmp(text_of(&launches, "device"), "opencl") != 0)
    fail("opencl/launches.json is of another version,", "or for another device");

  open_device();
  make_memories(package, &launches);
  for (int i = 2; i + 2 < count; i += 3)
    if (strcmp(words[i], "in") == 0) set_input(tensor_named(&launches, "inputs", words[i + 1]), words[i + 2]);
  int launched = 0, good = 1;
  for (const json* step = get(&launches, "steps")->first; step != NULL; step = step->next)
    for (const json* launch = get(step, "launches")->first; launch != NULL; launch = launch->next, ++launched)
      enqueue(package, launch);
  check(clFinish(queue), "clFinish");
  printf("%d launches\n", launched);

  for (int i = 2; i + 2 < count; i += 3) {
    if (strcmp(words[i], "in") == 0) continue;
    const json* tensor = tensor_named(&launches, "outputs", words[i + 1]);
    char* got = get_output(tensor);
    if (strcmp(words[i], "out") == 0) {
      FILE* file = fopen(words[i + 2], "wb");
      if (file == NULL || fwrite(got, 1, size_of(tensor, "bytes"), file) != size_of(tensor, "bytes") ||
          fclose(file) != 0)
        fail("cannot write", words[i + 2]);
    } else {
      good = equals(tensor, got, words[i + 2]) && good;
    }
    free(got);
  }
  for (int m = 0; m < memory_count; ++m) clReleaseMemObject(memories[m].buffer);
  clReleaseCommandQueue(queue);
  clReleaseContext(context);
  return good ? 0 : 1;
}
