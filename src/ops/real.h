/* real.h - the number type of the op that is being compiled (see kernels/real.h). */
#ifndef FJ_OPS_REAL_H
#define FJ_OPS_REAL_H

#include "kernels/real.h"

#endif
