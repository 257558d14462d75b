/* Drawing requests and writing them down: see load_model.h. */
#include "bench/load_model.h"

#include "base/random.h"

#include <inttypes.h>
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
} maker_t;

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
static void put_part(const maker_t *m, const part_t *p) {
  buffer_t *text = &m->b->text;
  char name[LOAD_NAME_BYTES + 16];
  snprintf(name, sizeof name, "%s%s", p->name, p->suffix);
  buffer_text(text, "{\"name\":");
  buffer_quote(text, name);
  buffer_print(text, ",\"datatype\":\"%s\",\"shape\":[%12" PRId64, p->integers != NULL ? "INT64" : "FP32",
               p->width > 0 ? p->count / p->width : p->count);
  if (p->width > 0) buffer_print(text, ",%" PRId64, p->width);
  buffer_text(text, "]");
  if (m->s->tensors == TENSORS_BINARY) {
    buffer_print(text, ",\"parameters\":{\"binary_data_size\":%12zu}}", part_bytes(p));
    return;
  }
  buffer_text(text, ",\"data\":[");
  for (int64_t i = 0; i < p->count; i++) {
    if (i > 0) buffer_text(text, ",");
    if (p->integers != NULL)
      buffer_print(text, "%" PRId64, p->integers[i]);
    else
      buffer_float(text, p->floats[i]);
  }
  buffer_text(text, "]}");
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

static void put_body(const maker_t *m) {
  part_t parts[2];
  buffer_t *text = &m->b->text;
  size_t begin = text->used;
  int binary = m->s->tensors == TENSORS_BINARY;
  buffer_text(text, binary ? "{\"parameters\":{\"binary_data_output\":true},\"inputs\":[" : "{\"inputs\":[");
  for (int i = 0; i < m->model->input_count; i++) {
    int count = parts_of(m, i, parts);
    for (int k = 0; k < count; k++) {
      if (i + k > 0) buffer_text(text, ",");
      put_part(m, &parts[k]);
    }
  }
  buffer_text(text, "]}");
  if (!binary) return;
  m->b->json_bytes = (int64_t)(text->used - begin);
  for (int i = 0; i < m->model->input_count; i++) {
    int count = parts_of(m, i, parts);
    for (int k = 0; k < count; k++)
      buffer_put(text, parts[k].integers != NULL ? (const void *)parts[k].integers : parts[k].floats,
                 part_bytes(&parts[k]));
  }
}

/* ---- drawing ---- */

static sbag_code_t make_room(maker_t *m, drawn_t *d, int dense, int64_t count, sbag_status_t *status) {
  void *block = dense ? (void *)d->dense : d->indices;
  d->count = count;
  if (count <= d->room) return SBAG_OK;
  SBAG_TRY(mem_realloc(m->b->text.mem, mem_array_bytes(count, dense ? sizeof *d->dense : sizeof *d->indices),
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
  m->b->begins[number + 1] = m->b->text.used;
  return m->b->text.failed ? status_set(status, SBAG_ERR_MEMORY, "bench: no memory for requests") : SBAG_OK;
}

static sbag_code_t make_all(maker_t *m, sbag_status_t *status) {
  load_bodies_t *b = m->b;
  while (b->count < m->s->bodies && (b->count == 0 || b->text.used < bytes_max)) {
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
  SBAG_TRY(mem_calloc(m->b->text.mem, mem_array_bytes(inputs, sizeof *m->drawn), "bench: requests", &block,
                      status));
  m->drawn = block;
  for (int i = 0; i < inputs; i++) {
    if (m->model->inputs[i].kind != LOAD_BAGS) continue;
    SBAG_TRY(mem_alloc(m->b->text.mem, mem_array_bytes(m->s->batch + 1, sizeof(int64_t)), "bench: requests",
                       &block, status));
    m->drawn[i].offsets = block;
  }
  SBAG_TRY(mem_calloc(m->b->text.mem, mem_array_bytes(m->s->bodies + LOAD_INVALID_BODIES + 1, sizeof(size_t)),
                      "bench: requests", &block, status));
  m->b->begins = block;
  return SBAG_OK;
}

static void close_maker(maker_t *m) {
  for (int i = 0; i < m->model->input_count && m->drawn != NULL; i++) {
    mem_free(m->b->text.mem, m->drawn[i].indices);
    mem_free(m->b->text.mem, m->drawn[i].offsets);
    mem_free(m->b->text.mem, m->drawn[i].dense);
  }
  mem_free(m->b->text.mem, m->drawn);
}

sbag_code_t load_bodies_make(const load_model_t *model, const bench_load_settings_t *settings, mem_t *mem,
                             load_bodies_t *bodies, sbag_status_t *status) {
  *bodies = (load_bodies_t){.text = {.mem = mem}};
  maker_t m = {.model = model, .s = settings, .b = bodies};
  sbag_code_t code = open_maker(&m, status);
  if (code == SBAG_OK) code = make_all(&m, status);
  close_maker(&m);
  if (code != SBAG_OK) load_bodies_clear(bodies);
  return code;
}

void load_bodies_clear(load_bodies_t *bodies) {
  if (bodies->text.mem != NULL) {
    mem_free(bodies->text.mem, bodies->begins);
    buffer_clear(&bodies->text);
  }
  memset(bodies, 0, sizeof *bodies);
}
