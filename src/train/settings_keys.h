/* The table behind settings_t: what config_read and config_help go by. */
#ifndef TRAIN_SETTINGS_KEYS_H
#define TRAIN_SETTINGS_KEYS_H

#include "config/schema.h"

extern const config_section_t settings_section;

#endif
