/* shardbag ckpt verify FILE: every checksum. */
#include "app/ckpt.h"

#include <inttypes.h>

static sbag_code_t count_rows(void *user, int64_t first, int64_t rows, const void *data,
                              sbag_status_t *status) {
  (void)user, (void)first, (void)rows, (void)data, (void)status; /* reading is what checks */
  return SBAG_OK;
}

static sbag_code_t verify_all(ckpt_t *c, checkpoint_reader_t *reader, int64_t *bytes, sbag_status_t *status) {
  for (int64_t i = 0; i < checkpoint_count(reader); i++) {
    const char *name = checkpoint_name(reader, i);
    checkpoint_array_t array;
    SBAG_TRY(checkpoint_array_info(reader, name, &array, status));
    SBAG_TRY(ckpt_walk(c, reader, name, 0, array.shape[0], count_rows, NULL, status));
    *bytes += array.shape[0] * ckpt_row_bytes(&array);
  }
  return SBAG_OK;
}

static sbag_code_t tell(ckpt_t *c, int64_t arrays, int64_t bytes, const char *failure,
                        sbag_status_t *status) {
  if (failure == NULL)
    printf("%s: %" PRId64 " arrays, %" PRId64 " bytes of rows and everything else match their checksums\n",
           c->options->arguments[0], arrays, bytes);
  if (c->json == NULL) return SBAG_OK;
  json_object *object = json_object_new_object();
  json_object_object_add(object, "event", json_object_new_string("verify"));
  json_object_object_add(object, "path", json_object_new_string(c->options->arguments[0]));
  json_object_object_add(object, "ok", json_object_new_boolean(failure == NULL));
  if (failure != NULL) json_object_object_add(object, "message", json_object_new_string(failure));
  json_object_object_add(object, "arrays", json_object_new_int64(arrays));
  json_object_object_add(object, "bytes", json_object_new_int64(bytes));
  return ckpt_json(c, object, status);
}

static sbag_code_t verify(ckpt_t *c, sbag_status_t *status) {
  checkpoint_reader_t *reader = NULL;
  int64_t bytes = 0, arrays = 0;
  sbag_code_t code = ckpt_open(c, c->options->arguments[0], 0, &reader, status);
  if (code == SBAG_OK) {
    arrays = checkpoint_count(reader);
    code = verify_all(c, reader, &bytes, status);
  }
  checkpoint_close(&reader);
  if (comm_rank(c->comm) != 0) return code;
  sbag_code_t told =
      tell(c, arrays, bytes, code == SBAG_OK ? NULL : status->message, code == SBAG_OK ? status : NULL);
  return code == SBAG_OK ? told : code;
}

static int run(const options_t *options) {
  return ckpt_run("ckpt verify", options, verify);
}

const command_t command_ckpt_verify = {
    .name = "ckpt verify",
    .arguments = "FILE",
    .summary = "read the whole file and check every checksum",
    .argument_count = 1,
    .options = OPTION_JSON | OPTION_TIMEOUT,
    .details = "Names the first array and rows that do not match, and ends with 1 then.\n",
    .run = run};
