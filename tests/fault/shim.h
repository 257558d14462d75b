/* A shared object to be preloaded (LD_PRELOAD) that makes one chosen file call fail. The program finds the
 * two functions by dlsym; the shim counts the calls on files of one folder. */
#ifndef TESTS_FAULT_SHIM_H
#define TESTS_FAULT_SHIM_H

typedef enum fault_kind {
  FAULT_EIO,    /* the n-th call fails */
  FAULT_ENOSPC, /* the n-th call fails, as on a full disk */
  FAULT_SHORT,  /* the n-th call, if it reads or writes, moves half of its bytes */
  FAULT_GONE,   /* the n-th call and all behind it fail */
  FAULT_KINDS
} fault_kind_t;

/* From now on calls on files in `folder` (borrowed) are counted, and the n-th is hit. */
typedef void (*fault_begin_t)(const char *folder, long n, fault_kind_t kind);
/* No more faults; returns how many calls there were. */
typedef long (*fault_end_t)(void);

/* What a power cut could have undone when it mattered, since fault_begin: files closed with writes behind
 * their last fsync, and a rename without an fsync of the folder behind it. */
typedef long (*fault_lost_t)(void);

void fault_begin(const char *folder, long n, fault_kind_t kind);
long fault_end(void);
long fault_lost(void);

#endif
