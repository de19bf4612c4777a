/* pick.h - the columns of `how` of fj_choose: how the token of a row is chosen (sample.c). */
#ifndef FJ_OPS_PICK_H
#define FJ_OPS_PICK_H

enum {
    FJ_PICK_TEMPERATURE, /* 0: the largest logit, the lowest id on ties */
    FJ_PICK_TOP_K,       /* 0: off */
    FJ_PICK_TOP_P,       /* 1: off */
    FJ_PICK_MIN_P,       /* 0: off */
    FJ_PICK_PENALTY,     /* of the tokens in `seen`; 1: off */
    FJ_PICK_DRAW,        /* in [0, 1) */
    FJ_PICK_COLS
};

#endif
