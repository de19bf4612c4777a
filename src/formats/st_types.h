/* st_types.h - what reader and writer of safetensors share. */
#ifndef FJ_FORMATS_ST_TYPES_H
#define FJ_FORMATS_ST_TYPES_H

/* Bytes of one value of a safetensors dtype such as "BF16"; 0: unknown. */
int fj_st_type_size(const char *type);

#endif
