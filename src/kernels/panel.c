/* panel.c - see panel.h. */
#include "kernels/panel.h"

#include "base/blocks.h"

#include <stddef.h>

#define AT(type, field) offsetof(type, field), sizeof(((type *)0)->field)

static const fj_field q8_0[] = { { AT(fj_q8_0, d), 2, false }, { AT(fj_q8_0, q), 4, true }, { 0 } };
static const fj_field q4_0[] = { { AT(fj_q4_0, d), 2, false },
                                 { AT(fj_q4_0, q), 4, false },
                                 { 0 } };
static const fj_field mxfp4[] = { { AT(fj_mxfp4, e), 1, false },
                                  { AT(fj_mxfp4, q), 4, false },
                                  { 0 } };
static const fj_field q4_1[] = { { AT(fj_q4_1, d), 2, false },
                                 { AT(fj_q4_1, m), 2, false },
                                 { AT(fj_q4_1, q), 4, false },
                                 { 0 } };
static const fj_field q5_0[] = { { AT(fj_q5_0, d), 2, false },
                                 { AT(fj_q5_0, high), 4, false },
                                 { AT(fj_q5_0, q), 4, false },
                                 { 0 } };
static const fj_field q5_1[] = { { AT(fj_q5_1, d), 2, false },
                                 { AT(fj_q5_1, m), 2, false },
                                 { AT(fj_q5_1, high), 4, false },
                                 { AT(fj_q5_1, q), 4, false },
                                 { 0 } };
static const fj_field q4_k[] = { { AT(fj_q4_k, d), 2, false },
                                 { AT(fj_q4_k, dmin), 2, false },
                                 { AT(fj_q4_k, s), 4, false },
                                 { AT(fj_q4_k, q), 4, false },
                                 { 0 } };
static const fj_field q5_k[] = { { AT(fj_q5_k, d), 2, false }, { AT(fj_q5_k, dmin), 2, false },
                                 { AT(fj_q5_k, s), 4, false }, { AT(fj_q5_k, high), 4, false },
                                 { AT(fj_q5_k, q), 4, false }, { 0 } };
static const fj_field q6_k[] = { { AT(fj_q6_k, d), 2, false },
                                 { AT(fj_q6_k, scale), 4, false },
                                 { AT(fj_q6_k, low), 4, false },
                                 { AT(fj_q6_k, high), 4, false },
                                 { 0 } };
static const fj_field q3_k[] = { { AT(fj_q3_k, d), 2, false },
                                 { AT(fj_q3_k, scale), 4, false },
                                 { AT(fj_q3_k, high), 4, false },
                                 { AT(fj_q3_k, q), 4, false },
                                 { 0 } };
static const fj_field q2_k[] = { { AT(fj_q2_k, d), 2, false },
                                 { AT(fj_q2_k, dmin), 2, false },
                                 { AT(fj_q2_k, scale), 4, false },
                                 { AT(fj_q2_k, q), 4, false },
                                 { 0 } };
static const fj_field iq4_xs[] = { { AT(fj_iq4_xs, d), 2, false },
                                   { AT(fj_iq4_xs, high), 2, false },
                                   { AT(fj_iq4_xs, low), 4, false },
                                   { AT(fj_iq4_xs, q), 4, false },
                                   { 0 } };

const fj_field *fj_panel_fields(fj_dtype t) {
    switch (t) {
    case FJ_Q8_0: return q8_0;
    case FJ_Q4_0:
    case FJ_IQ4_NL: return q4_0;
    case FJ_MXFP4: return mxfp4;
    case FJ_Q4_1: return q4_1;
    case FJ_Q5_0: return q5_0;
    case FJ_Q5_1: return q5_1;
    case FJ_Q4_K: return q4_k;
    case FJ_Q5_K: return q5_k;
    case FJ_Q6_K: return q6_k;
    case FJ_Q3_K: return q3_k;
    case FJ_Q2_K: return q2_k;
    case FJ_IQ4_XS: return iq4_xs;
    default: return NULL;
    }
}

const uint8_t fj_w8_e2m1[16] = { 128, 129, 130, 131, 132, 134, 136, 140,
                                 128, 127, 126, 125, 124, 122, 120, 116 };
const uint8_t fj_w8_iq4[16] = { 1,   24,  45,  63,  79,  93,  106, 118,
                                129, 141, 153, 166, 181, 197, 217, 241 };

#define SAME(panel, block) static_assert(sizeof(panel) == 32 * sizeof(block), #panel)
SAME(fj_panel_q8_0, fj_q8_0);
SAME(fj_panel_q4_0, fj_q4_0);
SAME(fj_panel_q4_0, fj_iq4_nl);
SAME(fj_panel_mxfp4, fj_mxfp4);
SAME(fj_panel_q4_1, fj_q4_1);
SAME(fj_panel_q5_0, fj_q5_0);
SAME(fj_panel_q5_1, fj_q5_1);
SAME(fj_panel_q4_k, fj_q4_k);
SAME(fj_panel_q5_k, fj_q5_k);
SAME(fj_panel_q6_k, fj_q6_k);
SAME(fj_panel_q3_k, fj_q3_k);
SAME(fj_panel_q2_k, fj_q2_k);
SAME(fj_panel_iq4_xs, fj_iq4_xs);
