/* Certificate and key for TLS, which the HTTP library takes as text. */
#include "serve/http_impl.h"

#include <errno.h>
#include <string.h>

enum { PEM_BYTES = 1 << 20 };

/* mark: what such a file has in it. */
static sbag_code_t read_pem(mem_t *mem, const char *option, const char *path, const char *mark, char **text,
                            sbag_status_t *status) {
  void *block = NULL;
  FILE *file = fopen(path, "re");
  if (file == NULL)
    return status_set(status, SBAG_ERR_ARGUMENT, "%s %s: cannot be read: %s", option, path, strerror(errno));
  sbag_code_t code = mem_calloc(mem, PEM_BYTES, "serving: TLS", &block, status);
  if (code != SBAG_OK) {
    fclose(file);
    return code;
  }
  size_t bytes = fread(block, 1, PEM_BYTES - 1, file);
  int bad = ferror(file);
  fclose(file);
  *text = block;
  if (bad) return status_set(status, SBAG_ERR_ARGUMENT, "%s %s: cannot be read", option, path);
  if (bytes < PEM_BYTES - 1 && strstr(*text, "-----BEGIN ") != NULL && strstr(*text, mark) != NULL)
    return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT, "%s %s: is no PEM file with a line '-----BEGIN ...%s'", option,
                    path, mark);
}

sbag_code_t http_tls_open(http_t *h, sbag_status_t *status) {
  const http_options_t *o = &h->options;
  if (o->tls_cert == NULL && o->tls_key == NULL) return SBAG_OK;
  if (o->tls_cert == NULL || o->tls_key == NULL)
    return status_set(status, SBAG_ERR_ARGUMENT, "--tls-cert and --tls-key are given together");
  if (MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES)
    return status_set(status, SBAG_ERR_UNSUPPORTED, "this machine's libmicrohttpd was made without TLS");
  SBAG_TRY(read_pem(h->mem, "--tls-cert", o->tls_cert, "CERTIFICATE-----", &h->cert, status));
  return read_pem(h->mem, "--tls-key", o->tls_key, "PRIVATE KEY-----", &h->key, status);
}

sbag_code_t http_tls_blame(const http_t *h, sbag_status_t *status) {
  if (h->cert == NULL || strstr(h->said, "TLS") == NULL) return SBAG_OK;
  return status_set(status, SBAG_ERR_ARGUMENT,
                    "--tls-cert %s, --tls-key %s: they are not a certificate and its key that TLS takes",
                    h->options.tls_cert, h->options.tls_key);
}

static void forget(mem_t *mem, char **text) {
  if (*text != NULL) explicit_bzero(*text, PEM_BYTES);
  mem_free(mem, *text);
  *text = NULL;
}

void http_tls_close(http_t *h) {
  forget(h->mem, &h->cert);
  forget(h->mem, &h->key);
}
