/* A libFuzzer target: the gate in front of libhdf5, on files that are nearly checkpoints. Each input is tried
 * as it is, and with its checksums made right, which no mutation would find. What passes must have arrays
 * within the file. tests/fault/fuzz.sh builds and runs it. */
#include "checkpoint/disk.h"
#include "checkpoint/gate.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void require(int good) {
  if (!good) abort();
}

static void check_arrays(mem_t *mem, const void *footer_bytes, int64_t bytes, void *list) {
  trailer_footer_t footer;
  trailer_t trailer;
  require(trailer_decode_footer(footer_bytes, bytes, "", &footer, NULL) == SBAG_OK);
  require(trailer_decode(mem, &footer, list, "", &trailer, NULL) == SBAG_OK);
  for (int64_t i = 0; i < trailer.count; i++) {
    const trailer_array_t *a = &trailer.arrays[i];
    int64_t first = 0, rows = 0, pieces = trailer_piece_count(a);
    require(a->offset >= 0 && a->rows >= 0 && a->rows <= (footer.list_offset - a->offset) / a->row_bytes);
    if (pieces > 0) trailer_piece(a, pieces - 1, &first, &rows);
    require(first + rows == a->rows);
  }
  trailer_clear(mem, &trailer);
}

static void try_file(mem_t *mem, const uint8_t *data, size_t bytes) {
  char footer[TRAILER_FOOTER_BYTES];
  int file = memfd_create("fuzz", MFD_CLOEXEC), ours = 0, copy = -1;
  void *list = NULL;
  sbag_status_t status;
  require(file >= 0);
  require(disk_write(file, "", 0, (int64_t)bytes, data, &status) == SBAG_OK);
  require(gate_footer(file, "", (int64_t)bytes, footer, &ours, &status) == SBAG_OK);
  if (!ours) {
    require(gate_no_footer(file, "", (int64_t)bytes, &status) == SBAG_ERR_FORMAT);
  } else if (gate_pass(mem, file, "", (int64_t)bytes, footer, &list, &copy, &status) == SBAG_OK) {
    check_arrays(mem, footer, (int64_t)bytes, list);
    require(close(copy) == 0);
    mem_free(mem, list);
  } else {
    require(status.code == SBAG_ERR_FORMAT && status.message[0] != '\0');
  }
  require(close(file) == 0);
}

/* The digest last: it covers only what stands in front of the list, if that is all in order. */
static void mend(mem_t *mem, uint8_t *data, size_t bytes) {
  uint64_t words[TRAILER_FOOTER_BYTES / 8];
  uint8_t *footer = data + bytes - TRAILER_FOOTER_BYTES;
  memcpy(words, footer, sizeof words);
  memcpy(words, "SBAGCKPT", 8);
  words[2] = bytes;
  if (words[3] > bytes - TRAILER_FOOTER_BYTES) words[3] = (bytes - TRAILER_FOOTER_BYTES) / 2 / 8 * 8;
  words[4] = bytes - TRAILER_FOOTER_BYTES - words[3];
  uint8_t *list = data + words[3];
  words[5] = checksum_piece(list, words[4]);
  void *copy = NULL;
  trailer_t trailer;
  const trailer_footer_t found = {(int64_t)words[3], (int64_t)words[4], words[5]};
  require(mem_alloc(mem, words[4], "fuzz", &copy, NULL) == SBAG_OK);
  memcpy(copy, list, words[4]);
  if (trailer_decode(mem, &found, copy, "", &trailer, NULL) == SBAG_OK) {
    int file = memfd_create("fuzz", MFD_CLOEXEC);
    checksum_digest_t digest = {0};
    require(file >= 0 && disk_write(file, "", 0, (int64_t)bytes, data, NULL) == SBAG_OK);
    require(gate_digest(mem, file, "", &trailer, found.list_offset, -1, &digest, NULL) == SBAG_OK);
    require(close(file) == 0);
    memcpy(list + 8, &digest, sizeof digest);
    words[5] = checksum_piece(list, words[4]);
    trailer_clear(mem, &trailer);
  }
  mem_free(mem, copy);
  words[7] = checksum_piece(words, sizeof words - 8);
  memcpy(footer, words, sizeof words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  mem_t *mem = NULL;
  require(mem_create(&mem, NULL) == SBAG_OK);
  try_file(mem, data, bytes);
  if (bytes >= TRAILER_FOOTER_BYTES) {
    void *mended = NULL;
    require(mem_alloc(mem, bytes, "fuzz", &mended, NULL) == SBAG_OK);
    memcpy(mended, data, bytes);
    mend(mem, mended, bytes);
    try_file(mem, mended, bytes);
    mem_free(mem, mended);
  }
  require(mem_stats(mem).live_bytes == 0);
  mem_destroy(&mem);
  return 0;
}
