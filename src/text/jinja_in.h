/* jinja_in.h - the inside of the Jinja interpreter; only jinja_*.c see it.
 *
 * Values are 16 bytes and never change once made, but for namespaces, cyclers and iterators.  All memory is
 * the render's arena (the template's, while compiling), so that an error may leave from any depth by
 * longjmp: nothing else is held. */
#ifndef FJ_TEXT_JINJA_IN_H
#define FJ_TEXT_JINJA_IN_H

#include "text/jinja.h"

#include <setjmp.h>

/* ---- arena with a limit -------------------------------------------------------------------------- */
typedef struct jmem_chunk {
    struct jmem_chunk *next;
} jmem_chunk;
typedef struct jmem {
    char *at, *end;
    jmem_chunk *chunks;
    size_t total, limit, next;
    struct jr *r; /* who is told when there is no more */
} jmem;

/* ---- values -------------------------------------------------------------------------------------- */
typedef enum jkind {
    J_MISSING, /* no value: an absent argument, a name without one */
    J_UNDEF,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_STR,
    J_LIST,
    J_TUPLE,
    J_DICT,
    J_VIEW, /* dict.keys(), .values(), .items() */
    J_RANGE,
    J_ITER,  /* what Python calls a generator or an iterator: read once, no length */
    J_NS,    /* namespace() */
    J_MACRO, /* also caller */
    J_FUNC,  /* a global */
    J_METHOD,
    J_LOOP,
    J_CYCLER,
    J_JOINER,
} jkind;

typedef struct jstr {
    const char *p;
    const uint8_t *from; /* NULL: no flags; J_INPUT: all bytes FJ_FROM_INPUT; else n flags */
    uint32_t n;
    uint8_t ascii;  /* 1 yes, 0 no, 2 not looked */
    uint8_t markup; /* made by escape or safe */
} jstr;
extern const uint8_t fjj_input[1];
#define J_INPUT fjj_input

typedef struct jv {
    uint8_t k;  /* jkind */
    uint8_t x;  /* TUPLE: 1 for a group of groupby; VIEW: 0 keys, 1 values, 2 items */
    uint16_t y; /* FUNC: which */
    union {
        bool b;
        int64_t i;
        double d;
        const jstr *s;
        struct jlist *l;
        struct jdict *m;
        struct jundef *u;
        struct jrange *g;
        struct jiter *it;
        struct jmacro *mac;
        struct jmethod *me;
        struct jloop *lo;
        struct jcycler *cy;
    };
} jv;

typedef struct jlist {
    jv *v;
    uint32_t n, cap;
} jlist;
typedef struct jentry {
    jv key, val;
    uint64_t hash;
} jentry;
typedef struct jdict {
    jentry *v;
    uint32_t n, cap;
    uint32_t *index; /* places + 1, n_index a power of two; NULL while small */
    uint32_t n_index;
} jdict;
typedef struct jundef {
    const char *hint; /* NULL: from obj and name */
    jv obj, name;     /* obj J_MISSING: a plain name */
    bool forbidden;   /* the sandbox says no */
} jundef;
typedef struct jrange {
    int64_t start, stop, step, n;
} jrange;
typedef struct jiter {
    jlist l;
    uint32_t at;
    const char *what; /* "generator" */
} jiter;
typedef struct jmethod {
    jv self;
    const char *name;
    uint32_t n;
} jmethod;
typedef struct jcycler {
    jlist l;
    uint32_t at;
    const jstr *sep; /* joiner */
    bool used;
} jcycler;

struct jnode;
typedef struct jbind {
    uint32_t name;
    jv val;
} jbind;
typedef struct jscope {
    struct jscope *up; /* NULL: the next is the table of the root */
    jbind *v;
    uint32_t n, cap;
    bool captured; /* a macro looks into it: not to be used again */
} jscope;
typedef struct jmacro {
    const struct jnode *node;
    jscope *up;
    struct jloop *loop;
    const char *name;
} jmacro;

/* Going over something, item by item. */
typedef struct jwalk {
    jv of;
    int64_t at, n; /* n < 0: not known before the end */
    const char *p; /* of a string */
} jwalk;
typedef struct jloop {
    const struct jnode *node;
    jscope *up;
    jwalk walk;
    jlist ahead; /* items taken early for length */
    uint32_t ahead_at;
    jv current, before, after, changed;
    int64_t index0, length, depth0;
} jloop;

/* ---- nodes --------------------------------------------------------------------------------------- */
typedef enum jop {
    /* expressions */
    N_CONST,
    N_NAME,
    N_TUPLE,
    N_LIST,
    N_DICT,
    N_ATTR,
    N_ITEM,
    N_SLICE,
    N_CALL,
    N_FILTER,
    N_TEST,
    N_COND,
    N_AND,
    N_OR,
    N_NOT,
    N_NEG,
    N_POS,
    N_CMP,
    N_ADD,
    N_SUB,
    N_MUL,
    N_DIV,
    N_FLOORDIV,
    N_MOD,
    N_POW,
    N_CONCAT,
    N_NSREF,
    /* statements */
    N_TEXT,
    N_PRINT,
    N_BODY,
    N_IF,
    N_FOR,
    N_SET,
    N_SETBLOCK,
    N_MACRO,
    N_CALLBLOCK,
    N_FILTERBLOCK,
    N_WITH,
    N_BREAK,
    N_CONTINUE,
    N_GENERATION,
    N_LOAD,
    N_BLOCK
} jop;
typedef enum jcmp { C_EQ, C_NE, C_LT, C_LE, C_GT, C_GE, C_IN, C_NOTIN } jcmp;

typedef struct jnode {
    uint8_t op, flag; /* flag: see the parser */
    uint16_t fn;      /* FILTER, TEST: index of its table + 1, 0: unknown */
    uint32_t line, col;
    uint32_t n, name, n_kw; /* name: NAME, NSREF, MACRO, ... */
    struct jnode *a, *b, *c;
    struct jnode **list;
    struct jnode **kw; /* values of keyword arguments */
    const jstr **kw_name;
    jv val;
} jnode;
enum { M_VARARGS = 1, M_KWARGS = 2, M_CALLER = 4, M_OWN_CALLER = 8 };
enum { F_RECURSIVE = 1, F_CLOSURES = 2 };

struct fj_jinja {
    jmem mem;
    const char *name;
    jnode *root;
    const jstr **names;
    uint32_t n_names, cap_names;
    jv *globals; /* n_names */
    bool marks;
};

/* ---- a render (and a compilation) ---------------------------------------------------------------- */
typedef struct jb { /* a string being made */
    struct jr *r;
    char *p;
    uint8_t *from; /* NULL while no byte has a flag */
    size_t n, cap;
} jb;

typedef struct jr {
    jmp_buf jump;
    fj_err *e;
    const char *name;
    const fj_jinja *t;
    jmem mem;
    jv *root; /* values of the names */
    jb *out;
    jb top;
    uint64_t steps, max_steps;
    int depth, max_depth;
    size_t max_output;
    double now;
    const jnode *at;    /* for messages */
    uint32_t line, col; /* while compiling */
    jloop *loop;
    bool raised;
} jr;

typedef struct jargs {
    jv *pos;
    uint32_t n;
    const jstr **kw;
    jv *kwv;
    uint32_t n_kw;
} jargs;

_Noreturn void fjj_fail(jr *r, const char *fmt, ...) FJ_PRINTF(2, 3);
_Noreturn void fjj_fail_undef(jr *r, jv u);
void *fjj_alloc(jr *r, size_t n); /* not zeroed */
void *fjj_zalloc(jr *r, size_t n);
char *fjj_printf(jr *r, const char *fmt, ...) FJ_PRINTF(2, 3);
void fjm_free(jmem *m);
void *fjm_take(jmem *m, size_t n); /* NULL: over the limit */
static inline void fjj_step(jr *r, uint64_t n) {
    r->steps += n;
    if (r->steps > r->max_steps)
        fjj_fail(r, "the template runs too long: over %llu steps",
                 (unsigned long long)r->max_steps);
}

/* ---- jinja_value.c, jinja_dict.c, jinja_repr.c ------------------------------------------------------------------------------- */
static inline jv fjj_none(void) { return (jv){ .k = J_NONE }; }
static inline jv fjj_missing(void) { return (jv){ .k = J_MISSING }; }
static inline jv fjj_bool(bool b) { return (jv){ .k = J_BOOL, .b = b }; }
static inline jv fjj_int(int64_t i) { return (jv){ .k = J_INT, .i = i }; }
static inline jv fjj_float(double d) { return (jv){ .k = J_FLOAT, .d = d }; }
static inline jv fjj_of(const jstr *s) { return (jv){ .k = J_STR, .s = s }; }
jv fjj_strn(jr *r, const char *s, size_t n, const uint8_t *from); /* bytes are kept, not copied */
jv fjj_strz(jr *r, const char *s);
jv fjj_sub(jr *r, const jstr *s, size_t off, size_t n); /* bytes of s */
jv fjj_undef(jr *r, const char *hint);
jv fjj_undef_name(jr *r, const jstr *name);
jv fjj_undef_attr(jr *r, jv obj, jv name);
jv fjj_list(jr *r, jkind k, uint32_t cap); /* LIST, TUPLE or ITER, empty */
void fjj_push(jr *r, jlist *l, jv v);
static inline jlist *fjj_items(jv v) { return v.k == J_ITER ? &v.it->l : v.l; }
jv fjj_pair(jr *r, jv a, jv b);
jv fjj_dict(jr *r, uint32_t cap);
void fjj_put(jr *r, jdict *m, jv key, jv val); /* a key that cannot be hashed is an error */
const jv *fjj_get(jr *r, const jdict *m, jv key);
const jv *fjj_gets(jr *r, const jdict *m, const char *key);
bool fjj_hashable(jv v);
bool fjj_truth(jr *r, jv v);
bool fjj_equal(jr *r, jv a, jv b);
bool fjj_is_num(jv v); /* bool, int, float */
double fjj_double(jv v);
bool fjj_as_int(jv v, int64_t *i); /* int or bool */
bool fjj_less(jr *r, jv a, jv b, jcmp op);
bool fjj_in(jr *r, jv item, jv box);
const char *fjj_type(jv v); /* as Python names it */
int64_t fjj_len(jr *r, jv v);
bool fjj_has_len(jv v);
bool fjj_iterable(jv v);
jwalk fjj_walk(jr *r, jv v);
bool fjj_next(jr *r, jwalk *w, jv *item);
jlist *fjj_all(jr *r, jv v); /* the items, as list(v) */
void fjj_repr(jb *b, jv v);
void fjj_str_into(jb *b, jv v); /* str(v) */
const jstr *fjj_str(jr *r, jv v);
jv fjj_from_json(jr *r, const json_t *j, bool trusted, bool roles);
void fjj_float_repr(double d, char out[40]);
size_t fjj_chars(const jstr *s);              /* characters */
size_t fjj_char_at(const jstr *s, int64_t i); /* byte offset of character i <= chars */
bool fjj_ascii(const jstr *s);
bool fjj_same(const jstr *s, const char *z);

void fjb_add(jb *b, const char *s, size_t n, const uint8_t *from); /* from as in jstr */
void fjb_z(jb *b, const char *s);
void fjb_c(jb *b, char c);
void fjb_sub(jb *b, const jstr *s, size_t off, size_t n);
void fjb_like(jb *b, const char *bytes, size_t n, const jstr *s, size_t off, size_t src_n);
jv fjb_take(jb *b);
const uint8_t *fjj_from_at(const jstr *s, size_t off);

/* ---- jinja_char.c: characters as Python's str sees them ------------------------------------------ */
uint32_t fjj_get_char(const char *s, size_t left,
                      size_t *len); /* bytes that are not UTF-8: one by one */
size_t fjj_put_char(uint32_t c, char out[4]);
bool fjj_space(uint32_t c);
bool fjj_line_end(uint32_t c);
enum jcase { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_SWAP, CASE_CAPITAL };
jv fjj_case(jr *r, const jstr *s, enum jcase how);
bool fjj_is(const jstr *s,
            const char *what); /* "alpha", "digit", "upper", ... of isalpha() and kin */

/* ---- jinja_num.c --------------------------------------------------------------------------------- */
jv fjj_arith(jr *r, jop op, jv a, jv b);
jv fjj_negate(jr *r, jv a, bool minus);
jv fjj_round(jr *r, jv v, int64_t digits);
bool fjj_parse_int(const jstr *s, int base, int64_t *out, bool *big);
bool fjj_parse_float(const jstr *s, double *out);

/* ---- jinja_json.c -------------------------------------------------------------------------------- */
jv fjj_tojson(jr *r, jv v, bool ascii, jv indent, jv seps, bool sort);

/* ---- jinja_format.c ------------------------------------------------------------------------------ */
jv fjj_percent(jr *r, const jstr *s, jv args);
jv fjj_format(jr *r, const jstr *s, const jargs *a);

/* ---- jinja_str.c, jinja_attr.c ------------------------------------------------------------------- */
bool fjj_str_has(const char *name, size_t n);
jv fjj_str_call(jr *r, const jstr *s, const char *name, size_t n, const jargs *a);
jv fjj_strip(jr *r, const jstr *s, jv chars, int sides); /* 1 left, 2 right */
jv fjj_replace(jr *r, const jstr *s, const jstr *old, const jstr *new_, int64_t count);
jlist *fjj_splitlines(jr *r, const jstr *s, bool keep);
const char *fjj_find(const jstr *s, size_t from, const jstr *what); /* NULL: none */
jv fjj_escape(jr *r, jv v);
jv fjj_getattr(jr *r, jv obj, const jstr *name);
jv fjj_getitem(jr *r, jv obj, jv key);
jv fjj_slice(jr *r, jv obj, jv start, jv stop, jv step);
jv fjj_method(jr *r, jv self, const char *name, size_t n, const jargs *a);

/* ---- jinja_eval.c, jinja_run.c ------------------------------------------------------------------- */
jv fjj_eval(jr *r, jscope *s, const jnode *n);
jv fjj_eval_chain(jr *r, jscope *s, const jnode *n, jv base); /* filters over base */
enum { RUN_ON, RUN_BREAK, RUN_CONTINUE };
int fjj_run(jr *r, jscope *s, const jnode *n);
jv fjj_call(jr *r, jv f, jargs *a);
jv fjj_call_macro(jr *r, jmacro *m, jargs *a);
jv fjj_call_loop(jr *r, jloop *l, jv items);
jv fjj_loop_attr(jr *r, jloop *l, const char *name, bool *found);
bool fjj_loop_last(jr *r, jloop *l);
void fjj_assign(jr *r, jscope *s, const jnode *target, jv v);
void fjj_define(jr *r, jscope *s, uint32_t name, jv v);
void fjj_eval_args(jr *r, jscope *s, const jnode *n, jargs *a, const jv *first);

/* ---- jinja_filters.c, jinja_seq.c, jinja_tests.c, jinja_globals.c ------------------------------- */
typedef jv (*jfilter_fn)(jr *r, jv v, jv *a, const jargs *args);
typedef struct jfilter {
    const char *name;
    const char *params; /* "width first blank"; NULL: takes what comes in args */
    int least;          /* of params that must be there */
    jfilter_fn fn;
} jfilter;
extern const jfilter fjj_filters[];
uint16_t fjj_filter_find(const char *name, size_t n); /* index + 1, 0: none */
jv fjj_filter(jr *r, uint16_t fn, const jstr *name, jv v, jargs *a);
uint16_t fjj_test_find(const char *name, size_t n);
bool fjj_test(jr *r, uint16_t fn, const jstr *name, jv v, jargs *a);
jv fjj_global_find(const char *name, size_t n); /* J_MISSING: none */
jv fjj_global_call(jr *r, uint16_t fn, jargs *a);
/* Arguments by position and name into out, J_MISSING where absent; `who` is for messages. */
void fjj_bind(jr *r, const char *who, const char *params, int least, const jargs *a, jv *out);
jv fjj_ignore_case(jr *r, jv v);
int64_t fjj_need_int(jr *r, jv v, const char *who);
const jstr *fjj_need_str(jr *r, jv v, const char *who);
jlist *fjj_sorted(jr *r, jlist *l, jv *keys, bool reverse);

/* ---- jinja_lex.c, jinja_parse.c, jinja_stmt.c --------------------------------------------------- */
typedef enum jtok {
    T_EOF,
    T_DATA,
    T_VAR_BEGIN,
    T_VAR_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_STR,
    T_INT,
    T_FLOAT,
    T_ADD,
    T_SUB,
    T_MUL,
    T_DIV,
    T_FLOORDIV,
    T_MOD,
    T_POW,
    T_TILDE,
    T_LPAREN,
    T_RPAREN,
    T_LBRACKET,
    T_RBRACKET,
    T_LBRACE,
    T_RBRACE,
    T_EQ,
    T_NE,
    T_LT,
    T_LE,
    T_GT,
    T_GE,
    T_ASSIGN,
    T_DOT,
    T_COLON,
    T_PIPE,
    T_COMMA,
    T_SEMICOLON
} jtok;
typedef struct jtoken {
    uint8_t t;
    uint32_t line, col;
    const char *p; /* NAME, DATA: source bytes */
    uint32_t n;
    jv val; /* STR, INT, FLOAT, DATA */
} jtoken;
/* All tokens of a source, ended by T_EOF. */
jtoken *fjj_lex(jr *r, const char *s, size_t n, size_t *count);
const char *fjj_tok_name(jtok t);

typedef struct jp {
    jr *r;
    fj_jinja *t;
    const jtoken *k;       /* the current one */
    int depth, soft;       /* soft: inside an if, where an unknown filter is not yet an error */
    int guess;             /* reading what may stand in front of an inline if */
    const jtoken *unknown; /* the first filter or test read there that nobody knows */
    const char *unknown_kind;
    uint8_t special; /* M_ flags of the macro that is being read */
    bool closures;
    const char *open[64]; /* tags that wait for their end */
    int n_open;
} jp;
uint32_t fjp_name(jp *p, const char *s, size_t n);
jnode *fjp_node(jp *p, jop op, const jtoken *at);
bool fjp_is(const jp *p, const char *name); /* the current token is this word */
bool fjp_skip_name(jp *p, const char *name);
bool fjp_skip(jp *p, jtok t);
const jtoken *fjp_expect(jp *p, jtok t);
_Noreturn void fjp_fail(jp *p, const jtoken *at, const char *fmt, ...) FJ_PRINTF(3, 4);
jnode *fjp_expr(jp *p, bool cond);
jnode *fjp_tuple(jp *p, bool cond, bool parens, const char *end_word);
jnode *fjp_primary(jp *p, bool namespaces);
jnode *fjp_filters(jp *p, jnode *node, bool inline_);
jnode *fjp_target(jp *p, const char *end_word, bool namespaces, bool name_only);
void fjp_deeper(jp *p);
jnode *fjp_template(jp *p);

#endif
