/* To be preloaded: makes one rank stop, die, sleep or meet with an error at its n-th call of MPI, of those
 * that begin something. No program needs to know of it, so it reaches every phase of `shardbag` too:
 * start-up, steps, evaluation, checkpoints, the end.
 *
 * SOAK_RANK  the rank (of the launcher) that it happens to
 * SOAK_AT    the number of the call, from 1
 * SOAK_DO    stop (SIGSTOP), kill (SIGKILL), error (the call fails), sleep (half a second), exit (code 3)
 * SOAK_MARK  a file that gets the call's name when it happens, or "calls N" if the program ends before */
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long calls; /* one thread calls MPI */

static void mark(const char *text) {
  const char *path = getenv("SOAK_MARK");
  FILE *file = path != NULL ? fopen(path, "we") : NULL;
  if (file == NULL) return;
  fprintf(file, "%s\n", text);
  fclose(file);
}

static int chosen(void) {
  const char *mine = getenv("OMPI_COMM_WORLD_RANK"), *wanted = getenv("SOAK_RANK");
  return mine != NULL && wanted != NULL && strcmp(mine, wanted) == 0;
}

/* Returns whether the call is to fail. One that cannot leaves that to the next that can. */
static int pass(const char *name, int may_fail) {
  const char *at = getenv("SOAK_AT"), *what = getenv("SOAK_DO");
  static int done;
  calls++;
  if (done || at == NULL || what == NULL || !chosen() || calls < strtol(at, NULL, 10)) return 0;
  if (strcmp(what, "error") == 0 && !may_fail) return 0;
  done = 1;
  mark(name);
  if (strcmp(what, "stop") == 0) raise(SIGSTOP);
  if (strcmp(what, "kill") == 0) raise(SIGKILL);
  if (strcmp(what, "exit") == 0) _exit(3);
  if (strcmp(what, "sleep") == 0) usleep(500000);
  return strcmp(what, "error") == 0;
}

int MPI_Init_thread(int *argc, char ***argv, int required, int *provided) {
  pass("MPI_Init_thread", 0);
  return PMPI_Init_thread(argc, argv, required, provided);
}

int MPI_Finalize(void) {
  pass("MPI_Finalize", 0);
  char text[32];
  snprintf(text, sizeof text, "calls %ld", calls);
  const char *path = getenv("SOAK_MARK");
  if (chosen() && path != NULL && access(path, F_OK) != 0) mark(text);
  return PMPI_Finalize();
}

int MPI_Comm_idup(MPI_Comm comm, MPI_Comm *made, MPI_Request *request) {
  if (pass("MPI_Comm_idup", 1)) return MPI_ERR_OTHER;
  return PMPI_Comm_idup(comm, made, request);
}

int MPI_Comm_free(MPI_Comm *comm) {
  pass("MPI_Comm_free", 0);
  return PMPI_Comm_free(comm);
}

int MPI_Iallreduce(const void *from, void *to, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm,
                   MPI_Request *request) {
  if (pass("MPI_Iallreduce", 1)) return MPI_ERR_OTHER;
  return PMPI_Iallreduce(from, to, count, type, op, comm, request);
}

int MPI_Ibcast(void *data, int count, MPI_Datatype type, int root, MPI_Comm comm, MPI_Request *request) {
  if (pass("MPI_Ibcast", 1)) return MPI_ERR_OTHER;
  return PMPI_Ibcast(data, count, type, root, comm, request);
}

int MPI_Isend(const void *data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request *request) {
  if (pass("MPI_Isend", 1)) return MPI_ERR_OTHER;
  return PMPI_Isend(data, count, type, to, tag, comm, request);
}

int MPI_Irecv(void *data, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm,
              MPI_Request *request) {
  if (pass("MPI_Irecv", 1)) return MPI_ERR_OTHER;
  return PMPI_Irecv(data, count, type, from, tag, comm, request);
}
