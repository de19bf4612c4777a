/* attn_avx512.c - softmax of attention, 16 lanes; on processors that round to bf16 themselves. */
#include "kernels/kern.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define V __m512
enum { W = 16 };
static inline V set(float f) { return _mm512_set1_ps(f); }
static inline V ld(const float *p) { return _mm512_loadu_ps(p); }
static inline void st(float *p, V v) { _mm512_storeu_ps(p, v); }
static inline V add(V a, V b) { return _mm512_add_ps(a, b); }
static inline V sub(V a, V b) { return _mm512_sub_ps(a, b); }
static inline V mul(V a, V b) { return _mm512_mul_ps(a, b); }
#define fma fma_v /* not that of math.h */
static inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
static inline V max(V a, V b) { return _mm512_max_ps(a, b); }
static inline __mmask16 below(int n) {
    return n >= 16 ? (__mmask16)0xffff : n > 0 ? (__mmask16)((1u << n) - 1) : (__mmask16)0;
}
static inline V within(V v, int from, int to, V other) {
    return _mm512_mask_mov_ps(other, (__mmask16)(below(to) & ~below(from)), v);
}
static inline float largest(V v) { return _mm512_reduce_max_ps(v); }
static inline V part(V x) { return _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
static inline V whole(V x, V r) { return _mm512_scalef_ps(r, x); }
static inline void st16(uint16_t *p, V v) {
    _mm256_storeu_si256((__m256i *)(void *)p, (__m256i)_mm512_cvtneps_pbh(v));
}
static inline void st16x2(uint16_t *p, V v, V w) {
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(w, v));
}

#include "kernels/attn.inc"

void fj_kern_avx512_attn(fj_kern *k) {
    k->attn_soft = attn_soft;
    k->attn_soft_bwd = attn_soft_bwd;
}
