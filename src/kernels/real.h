/* real.h - the number type of code that is compiled twice: float, and double for the oracle of the
 * tests (-DFJ_F64).  FJ_R(name) is the name of a function in the instance being compiled, FJ_KERN the
 * kernel table that goes with it. */
#ifndef FJ_KERNELS_REAL_H
#define FJ_KERNELS_REAL_H

#include "kernels/kern.h"

#ifdef FJ_F64
typedef double real;
#define FJ_R(name) name##_f64
#define FJ_KERN fj_kern64
#else
typedef float real;
#define FJ_R(name) name##_f32
#define FJ_KERN fj_kern
#endif

#endif
