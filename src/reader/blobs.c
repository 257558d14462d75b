/* Named byte blobs: the reader's fitted state as the checkpoint keeps it. */
#include "reader/blobs.h"
#include "reader/grow.h"

#include <stdio.h>
#include <string.h>

sbag_code_t reader_blobs_add(blobs_t *blobs, mem_t *mem, const char *kind, const char *name, int64_t bytes,
                             unsigned char **data, sbag_status_t *status) {
  SBAG_TRY(reader_grow_to(mem, (void **)&blobs->items, &blobs->capacity, blobs->count + 1,
                          sizeof *blobs->items, "reader: blobs", status));
  reader_blob_t *blob = &blobs->items[blobs->count];
  *blob = (reader_blob_t){.bytes = bytes};
  snprintf(blob->name, sizeof blob->name, "%s/%s", kind, name);
  SBAG_TRY(mem_calloc(mem, mem_array_bytes(bytes, 1), "reader: blob", &blob->data, status));
  blobs->count++;
  *data = blob->data;
  return SBAG_OK;
}

void reader_blobs_free(blobs_t *blobs, mem_t *mem) {
  for (int64_t i = 0; i < blobs->count; i++) mem_free(mem, blobs->items[i].data);
  mem_free(mem, blobs->items);
  *blobs = (blobs_t){0};
}

static const reader_blob_t *find(const blobs_t *blobs, const char *name) {
  for (int64_t i = 0; i < blobs->count; i++)
    if (strncmp(blobs->items[i].name, name, sizeof blobs->items[i].name) == 0) return &blobs->items[i];
  return NULL;
}

sbag_code_t reader_blobs_find(const blobs_t *blobs, const char *kind, const char *name,
                              const reader_blob_t **blob, sbag_status_t *status) {
  char whole[sizeof blobs->items->name];
  snprintf(whole, sizeof whole, "%s/%s", kind, name);
  *blob = find(blobs, whole);
  if (*blob == NULL || (*blob)->data == NULL)
    return status_set(status, SBAG_ERR_ARGUMENT,
                      "the saved reader state has no '%s', which this data source needs; it was saved for "
                      "another configuration",
                      whole);
  return SBAG_OK;
}

sbag_code_t reader_blobs_check_names(const blobs_t *given, const blobs_t *made, sbag_status_t *status) {
  for (int64_t i = 0; i < given->count; i++) {
    const char *name = given->items[i].name;
    int shown = (int)sizeof given->items[i].name;
    if (memchr(name, '\0', sizeof given->items[i].name) == NULL || find(made, name) == NULL)
      return status_set(status, SBAG_ERR_ARGUMENT,
                        "the saved reader state has '%.*s', which this data source has no use for; it was "
                        "saved for another configuration",
                        shown, name);
    if (find(given, name) != &given->items[i])
      return status_set(status, SBAG_ERR_ARGUMENT, "the saved reader state has '%.*s' twice", shown, name);
  }
  return SBAG_OK;
}

void reader_blob_put_u64(unsigned char *at, uint64_t value) {
  for (int i = 0; i < 8; i++) at[i] = (unsigned char)(value >> 8 * i);
}

uint64_t reader_blob_get_u64(const unsigned char *at) {
  uint64_t value = 0;
  for (int i = 0; i < 8; i++) value |= (uint64_t)at[i] << 8 * i;
  return value;
}

void reader_blob_put_f64(unsigned char *at, double value) {
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  reader_blob_put_u64(at, bits);
}

double reader_blob_get_f64(const unsigned char *at) {
  uint64_t bits = reader_blob_get_u64(at);
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
