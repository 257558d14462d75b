/* A mark for small pure functions that GPU kernels call too. */
#ifndef BASE_DEVICE_H
#define BASE_DEVICE_H

#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__
#else
#define HOST_DEVICE
#endif

#endif
