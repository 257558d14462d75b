/* shardbag ckpt ls|verify|export|import|diff */
#include "app/ckpt.h"

static const command_t *const parts[] = {&command_ckpt_ls,     &command_ckpt_verify, &command_ckpt_export,
                                         &command_ckpt_import, &command_ckpt_diff,   NULL};

const command_t command_ckpt = {.name = "ckpt",
                                .arguments = "PART ...",
                                .summary = "look at, check, export, import and compare checkpoints",
                                .details = "Under mpirun the ranks share the work.\n",
                                .parts = parts};
