/* The version of these headers; sbag_version() is that of the library linked. */
#ifndef SHARDBAG_VERSION_H
#define SHARDBAG_VERSION_H

#define SBAG_VERSION "0.1.0"

#endif
