/* Hopcroft and Karp, "An n^5/2 algorithm for maximum matchings in bipartite graphs", SIAM J. Comput. 2(4),
 * 1973: phases of a breadth-first search for the length of the shortest augmenting paths, and depth-first
 * searches along them. The latter keep a stack of their own, as paths may be as long as there are rows. */
#include "bench/exchange_cover.h"

typedef struct search {
  const bench_graph_t *g;
  int64_t *row_match, *level, *next, *list; /* [rows]; list: the queue, and then the stack */
  int64_t *bag_match;                       /* [bags] */
  int64_t found_at;                         /* the level at which free bags are met */
} search_t;

int64_t bench_cover_scratch(const bench_graph_t *graph) {
  return 4 * graph->rows + graph->bags;
}

/* Levels of the rows that shortest augmenting paths may use, -1 for the others; 0 where there is no path. */
static int find_levels(search_t *s) {
  int64_t head = 0, tail = 0;
  s->found_at = -1;
  for (int64_t row = 0; row < s->g->rows; row++) {
    s->level[row] = s->row_match[row] < 0 ? 0 : -1;
    if (s->level[row] == 0) s->list[tail++] = row;
  }
  while (head < tail) {
    int64_t row = s->list[head++];
    if (s->found_at >= 0 && s->level[row] >= s->found_at) break;
    for (int64_t e = s->g->begin[row]; e < s->g->begin[row + 1]; e++) {
      int64_t other = s->bag_match[s->g->bag[e]];
      if (other < 0) {
        s->found_at = s->level[row] + 1;
      } else if (s->level[other] < 0) {
        s->level[other] = s->level[row] + 1;
        s->list[tail++] = other;
      }
    }
  }
  return s->found_at >= 0;
}

/* The stack holds the path's rows; each leaves by the edge before its `next`. */
static void flip_path(search_t *s, int64_t depth) {
  for (int64_t d = depth; d >= 0; d--) {
    int64_t row = s->list[d], bag = s->g->bag[s->next[row] - 1];
    s->bag_match[bag] = row;
    s->row_match[row] = bag;
  }
}

static int augment(search_t *s, int64_t start) {
  int64_t depth = 0;
  s->list[0] = start;
  while (depth >= 0) {
    int64_t row = s->list[depth];
    if (s->next[row] == s->g->begin[row + 1]) {
      s->level[row] = -1; /* a dead end for this phase */
      depth--;
      continue;
    }
    int64_t other = s->bag_match[s->g->bag[s->next[row]++]];
    if (other < 0 && s->level[row] + 1 == s->found_at) {
      flip_path(s, depth);
      return 1;
    }
    if (other >= 0 && s->level[other] == s->level[row] + 1) s->list[++depth] = other;
  }
  return 0;
}

static int64_t match_greedily(search_t *s) {
  int64_t matched = 0;
  for (int64_t row = 0; row < s->g->rows; row++) {
    s->row_match[row] = -1;
    for (int64_t e = s->g->begin[row]; e < s->g->begin[row + 1] && s->row_match[row] < 0; e++) {
      int64_t bag = s->g->bag[e];
      if (s->bag_match[bag] >= 0) continue;
      s->bag_match[bag] = row;
      s->row_match[row] = bag;
      matched++;
    }
  }
  return matched;
}

int64_t bench_cover(const bench_graph_t *graph, int64_t *scratch) {
  int64_t rows = graph->rows;
  search_t s = {.g = graph,
                .row_match = scratch,
                .level = scratch + rows,
                .next = scratch + 2 * rows,
                .list = scratch + 3 * rows,
                .bag_match = scratch + 4 * rows};
  for (int64_t bag = 0; bag < graph->bags; bag++) s.bag_match[bag] = -1;
  int64_t matched = match_greedily(&s);
  while (find_levels(&s)) {
    for (int64_t row = 0; row < rows; row++) s.next[row] = graph->begin[row];
    for (int64_t row = 0; row < rows; row++)
      if (s.row_match[row] < 0 && s.level[row] == 0) matched += augment(&s, row);
  }
  return matched;
}
