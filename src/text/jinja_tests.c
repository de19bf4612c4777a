/* jinja_tests.c - what stands behind `is`. */
#include "text/jinja_in.h"

#include <math.h>

enum {
    T_ODD,
    T_EVEN,
    T_DIVISIBLE,
    T_DEFINED,
    T_UNDEFINED,
    T_IS_FILTER,
    T_IS_TEST,
    T_NONE,
    T_BOOLEAN,
    T_FALSE,
    T_TRUE,
    T_INTEGER,
    T_IS_FLOAT,
    T_LOWER,
    T_UPPER,
    T_STRING,
    T_MAPPING,
    T_NUMBER,
    T_SEQUENCE,
    T_ITERABLE,
    T_CALLABLE,
    T_SAMEAS,
    T_ESCAPED,
    T_CMP
};

static const struct {
    const char *name;
    uint8_t what, cmp;
} tests[] = {
    { "odd", T_ODD, 0 },
    { "even", T_EVEN, 0 },
    { "divisibleby", T_DIVISIBLE, 0 },
    { "defined", T_DEFINED, 0 },
    { "undefined", T_UNDEFINED, 0 },
    { "filter", T_IS_FILTER, 0 },
    { "test", T_IS_TEST, 0 },
    { "none", T_NONE, 0 },
    { "boolean", T_BOOLEAN, 0 },
    { "false", T_FALSE, 0 },
    { "true", T_TRUE, 0 },
    { "integer", T_INTEGER, 0 },
    { "float", T_IS_FLOAT, 0 },
    { "lower", T_LOWER, 0 },
    { "upper", T_UPPER, 0 },
    { "string", T_STRING, 0 },
    { "mapping", T_MAPPING, 0 },
    { "number", T_NUMBER, 0 },
    { "sequence", T_SEQUENCE, 0 },
    { "iterable", T_ITERABLE, 0 },
    { "callable", T_CALLABLE, 0 },
    { "sameas", T_SAMEAS, 0 },
    { "escaped", T_ESCAPED, 0 },
    { "in", T_CMP, C_IN },
    { "==", T_CMP, C_EQ },
    { "eq", T_CMP, C_EQ },
    { "equalto", T_CMP, C_EQ },
    { "!=", T_CMP, C_NE },
    { "ne", T_CMP, C_NE },
    { ">", T_CMP, C_GT },
    { "gt", T_CMP, C_GT },
    { "greaterthan", T_CMP, C_GT },
    { ">=", T_CMP, C_GE },
    { "ge", T_CMP, C_GE },
    { "<", T_CMP, C_LT },
    { "lt", T_CMP, C_LT },
    { "lessthan", T_CMP, C_LT },
    { "<=", T_CMP, C_LE },
    { "le", T_CMP, C_LE },
};

uint16_t fjj_test_find(const char *name, size_t n) {
    for (size_t i = 0; i < FJ_LEN(tests); i++)
        if (strlen(tests[i].name) == n && !memcmp(tests[i].name, name, n)) return (uint16_t)(i + 1);
    return 0;
}

static bool divides(jr *r, jv v, jv by, double rest) {
    if (v.k == J_STR) return fjj_equal(r, fjj_percent(r, v.s, by), fjj_float(rest));
    return fjj_double(fjj_arith(r, N_MOD, v, by)) == rest;
}

static bool same(jv a, jv b) {
    if (a.k != b.k) return false;
    switch (a.k) {
    case J_NONE:
    case J_UNDEF: return true;
    case J_BOOL: return a.b == b.b;
    case J_INT: return a.i == b.i;
    case J_FLOAT: return a.d == b.d;
    case J_STR: return a.s == b.s || (a.s->n == b.s->n && !memcmp(a.s->p, b.s->p, a.s->n));
    default: return a.l == b.l;
    }
}

bool fjj_test(jr *r, uint16_t fn, const jstr *name, jv v, jargs *a) {
    jv p[1];
    if (!fn) fjj_fail(r, "No test named '%.*s' found.", (int)FJ_MIN(name->n, 80u), name->p);
    uint8_t what = tests[fn - 1].what;
    bool one = what == T_DIVISIBLE || what == T_SAMEAS || what == T_CMP;
    fjj_bind(r, tests[fn - 1].name,
             one ? what == T_DIVISIBLE ? "num"
                   : what == T_SAMEAS  ? "other"
                                       : "value"
                 : "",
             one, a, p);
    switch (what) {
    case T_ODD: return divides(r, v, fjj_int(2), 1);
    case T_EVEN: return divides(r, v, fjj_int(2), 0);
    case T_DIVISIBLE: return divides(r, v, p[0], 0);
    case T_DEFINED: return v.k != J_UNDEF;
    case T_UNDEFINED: return v.k == J_UNDEF;
    case T_IS_FILTER: return v.k == J_STR && fjj_filter_find(v.s->p, v.s->n);
    case T_IS_TEST: return v.k == J_STR && fjj_test_find(v.s->p, v.s->n);
    case T_NONE: return v.k == J_NONE;
    case T_BOOLEAN: return v.k == J_BOOL;
    case T_FALSE: return v.k == J_BOOL && !v.b;
    case T_TRUE: return v.k == J_BOOL && v.b;
    case T_INTEGER: return v.k == J_INT;
    case T_IS_FLOAT: return v.k == J_FLOAT;
    case T_LOWER: return fjj_is(fjj_str(r, v), "lower");
    case T_UPPER: return fjj_is(fjj_str(r, v), "upper");
    case T_STRING: return v.k == J_STR;
    case T_MAPPING: return v.k == J_DICT;
    case T_NUMBER: return fjj_is_num(v);
    case T_SEQUENCE:
        return v.k == J_STR || v.k == J_LIST || v.k == J_TUPLE || v.k == J_DICT || v.k == J_RANGE ||
               v.k == J_UNDEF;
    case T_ITERABLE: return fjj_iterable(v) || v.k == J_LOOP;
    case T_CALLABLE:
        return v.k == J_MACRO || v.k == J_FUNC || v.k == J_METHOD || v.k == J_LOOP ||
               v.k == J_JOINER || v.k == J_UNDEF;
    case T_SAMEAS: return same(v, p[0]);
    case T_ESCAPED: return v.k == J_STR && v.s->markup;
    default: break;
    }
    jcmp op = (jcmp)tests[fn - 1].cmp;
    return op == C_EQ   ? fjj_equal(r, v, p[0])
           : op == C_NE ? !fjj_equal(r, v, p[0])
           : op == C_IN ? fjj_in(r, v, p[0])
                        : fjj_less(r, v, p[0], op);
}
