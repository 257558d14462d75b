/* XXH3: see checksum.h. The library's header is compiled in, so that ours needs no more shared libraries. */
#include "checkpoint/checksum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

struct checksum_stream {
  XXH3_state_t state; /* wants 64 bytes of alignment, which mem gives */
  mem_t *mem;
};

uint64_t checksum_piece(const void *data, size_t bytes) {
  return XXH3_64bits(data, bytes);
}

sbag_code_t checksum_stream_create(mem_t *mem, checksum_stream_t **stream, sbag_status_t *status) {
  void *block = NULL;
  SBAG_TRY(mem_calloc(mem, sizeof(checksum_stream_t), "checkpoint: digest", &block, status));
  *stream = block;
  (*stream)->mem = mem;
  XXH3_128bits_reset(&(*stream)->state);
  return SBAG_OK;
}

void checksum_stream_add(checksum_stream_t *stream, const void *data, size_t bytes) {
  XXH3_128bits_update(&stream->state, data, bytes);
}

checksum_digest_t checksum_stream_end(const checksum_stream_t *stream) {
  XXH128_hash_t hash = XXH3_128bits_digest(&stream->state);
  return (checksum_digest_t){hash.low64, hash.high64};
}

void checksum_stream_destroy(checksum_stream_t **stream) {
  if (*stream == NULL) return;
  mem_t *mem = (*stream)->mem;
  mem_free(mem, *stream);
  *stream = NULL;
}
