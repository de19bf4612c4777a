/* cost.h - what one run of a node costs, for profiles. */
#ifndef FJ_OPS_COST_H
#define FJ_OPS_COST_H

#include "graph/graph.h"

typedef struct fj_cost {
    double flops; /* of products, as of the mathematics: a multiply and an add are two; else 0 */
    double bytes; /* what it reads and writes once: of weights all, of tables the rows that count */
    const fj_tensor *w; /* the weight that its rows meet; NULL: none */
} fj_cost;
/* Of a bound graph that has its inputs: ragged batches say how long sequences are.  CPU only. */
void fj_cost_of(const fj_node *n, fj_cost *c);

#endif
