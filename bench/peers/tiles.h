// Before version 13, gcc's _tile_loadconfig says that it reads 8 bytes of the 64, and the optimizer drops the others.
#include <immintrin.h>
#undef _tile_loadconfig
#define _tile_loadconfig(p) __asm__ volatile("ldtilecfg %0" : : "m"(*(const char(*)[64])(p)))
