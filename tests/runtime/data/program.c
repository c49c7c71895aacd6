/* Runs the sample package given as argument on x = [[1 ... 6], [11 ... 16]] and prints the first output. */
#include <heddle/heddle.h>
#include <stdio.h>
#include <stdlib.h>

static void check(heddle_status status) {
  if (status == HEDDLE_OK) return;
  fprintf(stderr, "%d: %s\n", (int)status, heddle_last_error());
  exit(1);
}

int main(int argc, char** argv) {
  heddle_model* model;
  heddle_session* session;
  heddle_session_options options = HEDDLE_SESSION_OPTIONS_INIT;
  const int64_t shape[] = {2, 6};
  float x[12];
  heddle_tensor in = {HEDDLE_F32, 2, NULL, NULL};
  heddle_tensor out;
  int i;
  if (argc != 2 || heddle_version()[0] == '\0') return 2;
  for (i = 0; i < 12; ++i) x[i] = (float)(i < 6 ? i + 1 : i + 5);
  in.shape = shape;
  in.data = x;
  check(heddle_model_load(argv[1], NULL, &model));
  check(heddle_session_create(model, &options, &session));
  check(heddle_session_set_input(session, 0, &in));
  check(heddle_session_run(session));
  check(heddle_session_get_output(session, 0, &out));
  printf("out %dx%d:", (int)out.shape[0], (int)out.shape[1]);
  for (i = 0; i < 12; ++i) printf(" %g", (double)((const float*)out.data)[i]);
  printf("\n");
  heddle_session_free(session);
  heddle_model_free(model);
  return 0;
}
