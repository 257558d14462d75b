/* The commands of `shardbag`, one file each. */
#ifndef APP_COMMANDS_H
#define APP_COMMANDS_H

#include "app/options.h"

extern const command_t command_train, command_eval, command_predict, command_plan, command_ckpt, command_data,
    command_bench, command_report, command_neighbours, command_serve;

#endif
