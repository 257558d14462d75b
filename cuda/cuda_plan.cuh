/* Plans on the device: plan.h's arithmetic, with the lists that it reads in device memory. */
#ifndef CUDA_PLAN_CUH
#define CUDA_PLAN_CUH

#include "cuda/cuda_common.cuh"

#include "plan/plan.h"

#endif
