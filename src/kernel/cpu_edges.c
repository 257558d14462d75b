/* From a batch of bags to edges, and from winning edges back to index values (scalar). */
#include "kernel/cpu.h"

typedef struct edges_cursor {
  const edges_request_t *request;
  edges_info_t *info;
  int64_t first_entry; /* of the feature, over all features */
} edges_cursor_t;

static void set_fault(edges_info_t *info, edges_fault_t fault, int feature, int64_t position, int64_t value) {
  *info = (edges_info_t){
      .fault = fault, .fault_feature = feature, .fault_position = position, .fault_value = value};
}

/* torch's rules for offsets (and ours where its message is an internal error). 1: fine. */
static int check_offsets(const edges_request_t *request, int feature, edges_info_t *info) {
  const sbag_bags_t *bags = &request->features[feature].bags;
  if (bags->offsets == NULL || bags->offset_count == 0) return 1;
  int64_t before = 0;
  for (int64_t b = 0; b < bags->offset_count; b++) {
    int64_t offset = cpu_index_at(bags->index_type, bags->offsets, b);
    edges_fault_t fault = EDGES_FINE;
    if (b == 0 && offset != 0)
      fault = EDGES_FIRST_OFFSET;
    else if (offset < before)
      fault = EDGES_OFFSET_FALLS;
    else if (offset > bags->index_count)
      fault = EDGES_OFFSET_TOO_BIG;
    if (fault != EDGES_FINE) {
      set_fault(info, fault, feature, b, offset);
      info->fault_before = before;
      return 0;
    }
    before = offset;
  }
  if (bags->include_last_offset && before != bags->index_count) {
    set_fault(info, EDGES_LAST_OFFSET, feature, bags->offset_count - 1, before);
    return 0;
  }
  return 1;
}

static int64_t bag_begin(const sbag_bags_t *bags, int64_t bag_count, int64_t bag) {
  if (bags->offsets == NULL) return bag * bags->bag_length;
  if (bag == bag_count && !bags->include_last_offset) return bags->index_count;
  return cpu_index_at(bags->index_type, bags->offsets, bag);
}

/* One entry: an edge, a touched padding row, dropped, or a fault (0). */
static int add_entry(edges_cursor_t *c, int f, int64_t slot, int64_t entry) {
  const edges_request_t *r = c->request;
  const edges_feature_t *feature = &r->features[f];
  int64_t row = cpu_index_at(feature->bags.index_type, feature->bags.indices, entry);
  if (row < 0 || row >= feature->num_embeddings) {
    if (!r->drop) {
      set_fault(c->info, EDGES_OUT_OF_RANGE, f, entry, row);
      return 0;
    }
    c->info->dropped++;
    return 1;
  }
  if (row == feature->padding_idx) {
    if (feature->touch_padding) r->touch[c->info->touch_count++] = plan_key(feature->plan, row);
    return 1;
  }
  int64_t edge = c->info->edge_count++;
  r->key[edge] = plan_key(feature->plan, row);
  if (r->row != NULL) r->row[edge] = row;
  r->slot[edge] = slot;
  if (r->entry != NULL) r->entry[edge] = c->first_entry + entry;
  return 1;
}

void cpu_edges_build(kernel_t *k, kernel_stream_t *stream, const edges_request_t *request,
                     edges_info_t *info) {
  (void)k, (void)stream;
  *info = (edges_info_t){0};
  edges_cursor_t cursor = {.request = request, .info = info};
  int64_t bags = request->bag_count;
  request->slot_begin[0] = 0;
  for (int f = 0; f < request->feature_count; f++) {
    const sbag_bags_t *feature = &request->features[f].bags;
    if (!check_offsets(request, f, info)) return;
    for (int64_t b = 0; b < bags; b++) {
      int64_t slot = f * bags + b, end = bag_begin(feature, bags, b + 1);
      for (int64_t entry = bag_begin(feature, bags, b); entry < end; entry++)
        if (!add_entry(&cursor, f, slot, entry)) return;
      request->slot_begin[slot + 1] = info->edge_count;
      int64_t length = info->edge_count - request->slot_begin[slot];
      if (length > info->longest) info->longest = length;
    }
    cursor.first_entry += feature->index_count;
  }
}

void cpu_winner_rows(kernel_t *k, kernel_stream_t *stream, const sbag_bags_t *bags, int64_t first_entry,
                     const int64_t *slot_begin, int64_t bag_count, int64_t dim, const int64_t *entry,
                     const int64_t *position, int64_t stride, int64_t *to) {
  (void)k, (void)stream;
  for (int64_t b = 0; b < bag_count; b++) {
    for (int64_t c = 0; c < dim; c++) {
      int64_t at = position[b * stride + c];
      to[b * dim + c] =
          at < 0 ? 0 : cpu_index_at(bags->index_type, bags->indices, entry[slot_begin[b] + at] - first_entry);
    }
  }
}
