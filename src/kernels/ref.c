/* The reference kernels: filled in by the kernel layer. */
typedef int fj_ref_unit;
