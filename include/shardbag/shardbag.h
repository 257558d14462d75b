/* All of shardbag but the MPI context (shardbag/mpi.h). */
#ifndef SHARDBAG_SHARDBAG_H
#define SHARDBAG_SHARDBAG_H

#include <shardbag/batch.h>
#include <shardbag/collection.h>
#include <shardbag/context.h>
#include <shardbag/embedding_bag.h>
#include <shardbag/optimizer.h>
#include <shardbag/status.h>
#include <shardbag/table.h>
#include <shardbag/version.h>

#endif
