/* Drawing requests and writing them down: see load_model.h. */
#include "bench/load_model.h"

#include "base/random.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const size_t bytes_max = (size_t)256 << 20;

/* What one request says of an input. */
typedef struct drawn {
  int64_t *indices, *offsets; /* offsets: of bags */
  float *dense;
  int64_t count, room; /* of indices, or dense values */
} drawn_t;

typedef struct maker {
  const load_model_t *model;
  const bench_load_settings_t *s;
  load_bodies_t *b;
  drawn_t *drawn; /* [input_count] */
  int failed;
} maker_t;

/* ---- text ---- */

static void put(maker_t *m, const void *bytes, size_t count) {
  load_bodies_t *b = m->b;
  void *grown = b->bytes;
  if (m->failed) return;
  if (b->used + count > b->room) {
    size_t room = 2 * (b->used + count) + 4096;
    if (mem_realloc(b->mem, room, "bench: requests", &grown, NULL) != SBAG_OK) {
      m->failed = 1;
      return;
    }
    b->bytes = grown;
    b->room = room;
  }
  memcpy(b->bytes + b->used, bytes, count);
  b->used += count;
}

static void put_text(maker_t *m, const char *text) {
  put(m, text, strlen(text));
}

static void put_number(maker_t *m, const char *format, int64_t number) {
  char text[80];
  snprintf(text, sizeof text, format, number);
  put_text(m, text);
}

/* A name is the server's, in UTF-8: only what JSON wants escaped is. */
static void put_name(maker_t *m, const char *name, const char *suffix) {
  put_text(m, "{\"name\":\"");
  for (const char *c = name; *c != '\0'; c++) {
    char escaped[8];
    if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ') {
      snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)(unsigned char)*c);
      put_text(m, escaped);
    } else {
      put(m, c, 1);
    }
  }
  put_text(m, suffix);
  put_text(m, "\"");
}

/* ---- tensors ---- */

/* One of a body's tensors. */
typedef struct part {
  const char *name, *suffix;
  int64_t count, width; /* width 0: it has one dimension */
  const int64_t *integers;
  const float *floats;
} part_t;

static size_t part_bytes(const part_t *p) {
  return (size_t)p->count * (p->integers != NULL ? sizeof(int64_t) : sizeof(float));
}

/* Numbers that differ between requests are as wide as the widest. */
static void put_part(maker_t *m, const part_t *p) {
  put_name(m, p->name, p->suffix);
  put_text(m, p->integers != NULL ? ",\"datatype\":\"INT64\",\"shape\":["
                                  : ",\"datatype\":\"FP32\",\"shape\":[");
  put_number(m, "%12" PRId64, p->width > 0 ? p->count / p->width : p->count);
  if (p->width > 0) put_number(m, ",%" PRId64, p->width);
  put_text(m, "]");
  if (m->s->tensors == TENSORS_BINARY) {
    put_number(m, ",\"parameters\":{\"binary_data_size\":%12" PRId64 "}}", (int64_t)part_bytes(p));
    return;
  }
  put_text(m, ",\"data\":[");
  for (int64_t i = 0; i < p->count; i++) {
    char text[32];
    if (p->integers != NULL)
      snprintf(text, sizeof text, i > 0 ? ",%" PRId64 : "%" PRId64, p->integers[i]);
    else
      snprintf(text, sizeof text, i > 0 ? ",%.9g" : "%.9g", (double)p->floats[i]);
    put_text(m, text);
  }
  put_text(m, "]}");
}

/* The parts of input i; returns how many. */
static int parts_of(const maker_t *m, int i, part_t parts[2]) {
  const load_input_t *input = &m->model->inputs[i];
  const drawn_t *d = &m->drawn[i];
  int bags = input->kind == LOAD_BAGS;
  parts[0] = (part_t){.name = input->name,
                      .suffix = bags ? ".values" : "",
                      .count = d->count,
                      .width = input->flat ? 0 : input->width,
                      .integers = input->kind == LOAD_DENSE ? NULL : d->indices,
                      .floats = d->dense};
  parts[1] =
      (part_t){.name = input->name, .suffix = ".offsets", .count = m->s->batch + 1, .integers = d->offsets};
  return bags ? 2 : 1;
}

static void put_body(maker_t *m) {
  part_t parts[2];
  size_t begin = m->b->used;
  int binary = m->s->tensors == TENSORS_BINARY;
  put_text(m, binary ? "{\"parameters\":{\"binary_data_output\":true},\"inputs\":[" : "{\"inputs\":[");
  for (int i = 0; i < m->model->input_count; i++) {
    int count = parts_of(m, i, parts);
    for (int k = 0; k < count; k++) {
      if (i + k > 0) put_text(m, ",");
      put_part(m, &parts[k]);
    }
  }
  put_text(m, "]}");
  if (!binary) return;
  m->b->json_bytes = (int64_t)(m->b->used - begin);
  for (int i = 0; i < m->model->input_count; i++) {
    int count = parts_of(m, i, parts);
    for (int k = 0; k < count; k++)
      put(m, parts[k].integers != NULL ? (const void *)parts[k].integers : parts[k].floats,
          part_bytes(&parts[k]));
  }
}

/* ---- drawing ---- */

static sbag_code_t make_room(maker_t *m, drawn_t *d, int dense, int64_t count, sbag_status_t *status) {
  void *block = dense ? (void *)d->dense : d->indices;
  d->count = count;
  if (count <= d->room) return SBAG_OK;
  SBAG_TRY(mem_realloc(m->b->mem, mem_array_bytes(count, dense ? sizeof *d->dense : sizeof *d->indices),
                       "bench: a request", &block, status));
  if (dense)
    d->dense = block;
  else
    d->indices = block;
  d->room = count;
  return SBAG_OK;
}

static void draw_dense(const maker_t *m, int i, int64_t number, drawn_t *d) {
  uint64_t key = random_key((uint64_t)m->s->seed, "bench: dense") + (uint64_t)i;
  for (int64_t k = 0; k < d->count; k++)
    d->dense[k] = (float)random_unit53(key, (uint64_t)(number * d->count + k));
}

static sbag_code_t draw_input(maker_t *m, int i, int64_t number, sbag_status_t *status) {
  const load_input_t *input = &m->model->inputs[i];
  drawn_t *d = &m->drawn[i];
  int bags = input->kind == LOAD_BAGS;
  if (input->kind == LOAD_DENSE) {
    SBAG_TRY(make_room(m, d, 1, m->s->batch * input->width, status));
    draw_dense(m, i, number, d);
    return SBAG_OK;
  }
  const bench_draw_t draw = {.rows = input->rows,
                             .batch = m->s->batch,
                             .length = bags ? m->s->length : input->width,
                             .lengths = bags ? (bench_lengths_t)m->s->lengths : LENGTHS_FIXED,
                             .zipf = m->s->zipf,
                             .scatter = m->s->scatter,
                             .seed = m->s->seed};
  int64_t count = bags ? bench_draw_offsets(&draw, 0, number, i, d->offsets) : m->s->batch * input->width;
  SBAG_TRY(make_room(m, d, 0, count, status));
  bench_draw_rows(&draw, 0, number, i, bags ? d->offsets : NULL, d->indices);
  return SBAG_OK;
}

static sbag_code_t draw(maker_t *m, int64_t number, sbag_status_t *status) {
  for (int i = 0; i < m->model->input_count; i++) SBAG_TRY(draw_input(m, i, number, status));
  return SBAG_OK;
}

/* An index of some input is one of no row; 0 where there are no indices. */
static int spoil(maker_t *m, int64_t number) {
  for (int k = 0; k < m->model->input_count; k++) {
    int i = (int)((number + k) % m->model->input_count);
    drawn_t *d = &m->drawn[i];
    if (m->model->inputs[i].kind == LOAD_DENSE) continue;
    d->indices[number % d->count] = m->model->inputs[i].rows + number;
    return 1;
  }
  return 0;
}

static sbag_code_t make_one(maker_t *m, int64_t number, sbag_status_t *status) {
  put_body(m);
  m->b->begins[number + 1] = m->b->used;
  return m->failed ? status_set(status, SBAG_ERR_MEMORY, "bench: no memory for requests") : SBAG_OK;
}

static sbag_code_t make_all(maker_t *m, sbag_status_t *status) {
  load_bodies_t *b = m->b;
  while (b->count < m->s->bodies && (b->count == 0 || b->used < bytes_max)) {
    SBAG_TRY(draw(m, b->count, status));
    SBAG_TRY(make_one(m, b->count, status));
    b->count++;
  }
  for (int k = 0; k < LOAD_INVALID_BODIES; k++) {
    SBAG_TRY(draw(m, b->count + k, status));
    if (!spoil(m, k)) return SBAG_OK;
    SBAG_TRY(make_one(m, b->count + k, status));
    b->invalid++;
  }
  return SBAG_OK;
}

static sbag_code_t open_maker(maker_t *m, sbag_status_t *status) {
  void *block = NULL;
  int inputs = m->model->input_count;
  SBAG_TRY(
      mem_calloc(m->b->mem, mem_array_bytes(inputs, sizeof *m->drawn), "bench: requests", &block, status));
  m->drawn = block;
  for (int i = 0; i < inputs; i++) {
    if (m->model->inputs[i].kind != LOAD_BAGS) continue;
    SBAG_TRY(mem_alloc(m->b->mem, mem_array_bytes(m->s->batch + 1, sizeof(int64_t)), "bench: requests",
                       &block, status));
    m->drawn[i].offsets = block;
  }
  SBAG_TRY(mem_calloc(m->b->mem, mem_array_bytes(m->s->bodies + LOAD_INVALID_BODIES + 1, sizeof(size_t)),
                      "bench: requests", &block, status));
  m->b->begins = block;
  return SBAG_OK;
}

static void close_maker(maker_t *m) {
  for (int i = 0; i < m->model->input_count && m->drawn != NULL; i++) {
    mem_free(m->b->mem, m->drawn[i].indices);
    mem_free(m->b->mem, m->drawn[i].offsets);
    mem_free(m->b->mem, m->drawn[i].dense);
  }
  mem_free(m->b->mem, m->drawn);
}

sbag_code_t load_bodies_make(const load_model_t *model, const bench_load_settings_t *settings, mem_t *mem,
                             load_bodies_t *bodies, sbag_status_t *status) {
  *bodies = (load_bodies_t){.mem = mem};
  maker_t m = {.model = model, .s = settings, .b = bodies};
  sbag_code_t code = open_maker(&m, status);
  if (code == SBAG_OK) code = make_all(&m, status);
  close_maker(&m);
  if (code != SBAG_OK) load_bodies_clear(bodies);
  return code;
}

void load_bodies_clear(load_bodies_t *bodies) {
  if (bodies->mem != NULL) {
    mem_free(bodies->mem, bodies->bytes);
    mem_free(bodies->mem, bodies->begins);
  }
  memset(bodies, 0, sizeof *bodies);
}
