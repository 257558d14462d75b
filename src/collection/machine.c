/* Machines by name, and their cores by the ranks that share them. */
#include "collection/machine.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What each rank tells the others. A machine with more cores than a cpu_set_t holds gives an empty one. */
typedef struct place {
  machine_t machine;
  cpu_set_t cores;
} place_t;

void machine_name(machine_t *machine) {
  memset(machine, 0, sizeof *machine);
  if (gethostname(machine->host, sizeof machine->host - 1) != 0)
    snprintf(machine->host, sizeof machine->host, "a machine");
  FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
  if (file == NULL) return; /* the name has to do */
  if (fgets(machine->boot, (int)sizeof machine->boot, file) == NULL) machine->boot[0] = '\0';
  fclose(file);
}

int machine_same(const machine_t *a, const machine_t *b) {
  return strcmp(a->host, b->host) == 0 && strcmp(a->boot, b->boot) == 0;
}

static int share(const place_t *mine, const place_t *all, int size) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  int ranks = 0;
  for (int p = 0; p < size; p++) {
    if (!machine_same(&all[p].machine, &mine->machine)) continue;
    CPU_OR(&cores, &cores, &all[p].cores);
    ranks++;
  }
  int part = CPU_COUNT(&cores) / ranks, own = CPU_COUNT(&mine->cores);
  if (part > own) part = own;
  return part > 1 ? part : 1;
}

sbag_code_t machine_threads(mem_t *mem, comm_t *comm, int *threads, sbag_status_t *status) {
  const char *wanted = getenv("OMP_NUM_THREADS"); /* a list has a number for each level: the first counts */
  long asked = wanted != NULL ? strtol(wanted, NULL, 10) : 0;
  int size = comm_size(comm);
  void *block = NULL;
  sbag_code_t code =
      mem_calloc(mem, mem_array_bytes(size + 1, sizeof(place_t)), "start: places of ranks", &block, status);
  SBAG_TRY(comm_agree(comm, code, status));
  place_t *mine = block, *all = mine + 1;
  machine_name(&mine->machine);
  if (sched_getaffinity(0, sizeof mine->cores, &mine->cores) != 0) CPU_ZERO(&mine->cores);
  code = comm_allgather(comm, mine, (int64_t)sizeof *mine, all, "start: machines", status);
  if (code == SBAG_OK) *threads = asked > 0 && asked < 4096 ? (int)asked : share(mine, all, size);
  if (code == SBAG_OK) mem_free(mem, block); /* else the transport may still write there */
  return code;
}
