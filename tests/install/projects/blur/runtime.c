/* The C API as a C program sees it: the library is found, and an error says what is wrong. */
#include <heddle/heddle.h>
#include <stdio.h>

int main(void) {
  heddle_model* model = NULL;
  const heddle_status status = heddle_model_load("no/such/package", NULL, &model);
  printf("%s\n%d\n%s\n", heddle_version(), (int)status, heddle_last_error());
  return status == HEDDLE_OK;
}
