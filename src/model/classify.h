/* The network of classifiers: all features' vectors side by side, an MLP, and a softmax over classes. Without
 * hidden layers and with one text as the feature it is fastText's (Joulin et al. 2017, arXiv:1607.01759). */
#ifndef MODEL_CLASSIFY_H
#define MODEL_CLASSIFY_H

#include "model/network.h"

network_create_fn classify_create;

#endif
