/* SBAG_API marks the symbols that the shared library exports; all others are hidden. */
#ifndef SHARDBAG_EXPORT_H
#define SHARDBAG_EXPORT_H

#if defined(__GNUC__) || defined(__clang__)
#define SBAG_API __attribute__((visibility("default")))
#else
#define SBAG_API
#endif

#endif
