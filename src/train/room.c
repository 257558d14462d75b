/* Memory that is left: by the machine (/proc/meminfo), the process's control group, and its address space. */
#include "train/room.h"

#include "collection/machine.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Left for buffers, the pages of files, and everybody else. */
static const int64_t spare_bytes = (int64_t)64 << 20;

/* What each rank tells the others. */
typedef struct room {
  machine_t machine;
  int64_t wanted, available;
} room_t;

/* The number behind `key`, or at the start where key is ""; -1: there is none. */
static int64_t read_number(const char *path, const char *key) {
  char line[256];
  int64_t number = -1;
  FILE *file = fopen(path, "re");
  if (file == NULL) return -1;
  while (number < 0 && fgets(line, sizeof line, file) != NULL) {
    char *end = NULL;
    if (strncmp(line, key, strlen(key)) != 0) continue;
    long long found = strtoll(line + strlen(key), &end, 10);
    if (end != line + strlen(key) && found >= 0) number = found;
  }
  fclose(file);
  return number;
}

/* Of the control group that has a limit of its own at the usual place: a container's. */
static int64_t group_available(void) {
  int64_t most = read_number("/sys/fs/cgroup/memory.max", ""),
          used = read_number("/sys/fs/cgroup/memory.current", ""),
          cached = read_number("/sys/fs/cgroup/memory.stat", "inactive_file ");
  if (most < 0 || used < 0) return INT64_MAX;
  return most - used + (cached > 0 ? cached : 0);
}

static int64_t machine_available(void) {
  int64_t kib = read_number("/proc/meminfo", "MemAvailable:"), group = group_available();
  int64_t machine = kib >= 0 && kib < INT64_MAX / 1024 ? kib * 1024 : INT64_MAX;
  return machine < group ? machine : group;
}

/* Of addresses (ulimit -v). */
static int64_t process_available(void) {
  struct rlimit limit;
  int64_t pages = read_number("/proc/self/statm", ""), page_bytes = sysconf(_SC_PAGESIZE);
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || pages < 0) return INT64_MAX;
  int64_t used = pages * page_bytes;
  return limit.rlim_cur < (rlim_t)INT64_MAX ? (int64_t)limit.rlim_cur - used : INT64_MAX;
}

static sbag_code_t refuse(const char *who, int64_t wanted, int64_t available, sbag_status_t *status) {
  return status_set(status, SBAG_ERR_MEMORY,
                    "%s has no memory for it beside what is served: it takes %.1f MiB and some to spare, "
                    "%.1f MiB are left",
                    who, (double)wanted / 1048576, (double)(available > 0 ? available : 0) / 1048576);
}

static sbag_code_t check(const room_t *all, int size, int rank, sbag_status_t *status) {
  const room_t *mine = &all[rank];
  int64_t wanted = 0, available = mine->available, own = process_available();
  for (int p = 0; p < size; p++) {
    if (!machine_same(&all[p].machine, &mine->machine)) continue;
    wanted += all[p].wanted;
    if (all[p].available < available) available = all[p].available;
  }
  if (own < INT64_MAX && mine->wanted > own - spare_bytes)
    return refuse("the process", mine->wanted, own, status);
  if (available < INT64_MAX && wanted > available - spare_bytes)
    return refuse(mine->machine.host, wanted, available, status);
  return SBAG_OK;
}

sbag_code_t room_check(comm_t *comm, mem_t *mem, int64_t bytes, sbag_status_t *status) {
  int size = comm_size(comm);
  void *block = NULL;
  sbag_code_t code =
      mem_calloc(mem, mem_array_bytes(size + 1, sizeof(room_t)), "memory: ranks", &block, status);
  SBAG_TRY(comm_agree(comm, code, status));
  room_t *mine = block, *all = mine + 1;
  machine_name(&mine->machine);
  mine->wanted = bytes;
  mine->available = machine_available();
  SBAG_TRY(comm_allgather(comm, mine, (int64_t)sizeof *mine, all, "memory: ranks", status));
  code = comm_agree(comm, check(all, size, comm_rank(comm), status), status);
  if (comm_check(comm, NULL) == SBAG_OK) mem_free(mem, block); /* else the transport may still write there */
  return code;
}
