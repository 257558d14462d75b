/* The network that matches queries with items (dense/match.h): factorisation and two towers for ranking,
 * CBOW. It has no layers of its own: all that it learns are the tables' rows. Its outputs are the query, then
 * the scores. */
#ifndef MODEL_MATCH_H
#define MODEL_MATCH_H

#include "model/network.h"

network_create_fn match_create;

#endif
