/* jinja_num.c - arithmetic with Python's meaning. */
#include "text/jinja_in.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

static const char *sign_of(jop op) {
    switch (op) {
    case N_ADD: return "+";
    case N_SUB: return "-";
    case N_MUL: return "*";
    case N_DIV: return "/";
    case N_FLOORDIV: return "//";
    case N_MOD: return "%";
    default: return "** or pow()";
    }
}

static _Noreturn void wide(jr *r) { fjj_fail(r, "an integer leaves the 64 bits that are kept"); }

static int64_t int_pow(jr *r, int64_t a, int64_t b) {
    int64_t x = 1;
    while (b > 0) {
        if ((b & 1) && __builtin_mul_overflow(x, a, &x)) wide(r);
        b >>= 1;
        if (b && __builtin_mul_overflow(a, a, &a)) wide(r);
    }
    return x;
}

static jv ints(jr *r, jop op, int64_t a, int64_t b) {
    int64_t x;
    switch (op) {
    case N_ADD:
        if (__builtin_add_overflow(a, b, &x)) wide(r);
        return fjj_int(x);
    case N_SUB:
        if (__builtin_sub_overflow(a, b, &x)) wide(r);
        return fjj_int(x);
    case N_MUL:
        if (__builtin_mul_overflow(a, b, &x)) wide(r);
        return fjj_int(x);
    case N_DIV:
        if (!b) fjj_fail(r, "division by zero");
        return fjj_float((double)a / (double)b);
    case N_FLOORDIV:
    case N_MOD: {
        if (!b)
            fjj_fail(r,
                     op == N_MOD ? "integer modulo by zero" : "integer division or modulo by zero");
        if (b == -1) { /* INT64_MIN / -1 has no answer in 64 bits */
            if (op == N_MOD) return fjj_int(0);
            if (__builtin_sub_overflow((int64_t)0, a, &x)) wide(r);
            return fjj_int(x);
        }
        int64_t q = a / b, m = a % b;
        if (m && (m < 0) != (b < 0)) m += b, q--;
        return fjj_int(op == N_MOD ? m : q);
    }
    default:
        if (b >= 0) return fjj_int(int_pow(r, a, b));
        if (!a) fjj_fail(r, "0.0 cannot be raised to a negative power");
        return fjj_float(pow((double)a, (double)b));
    }
}

static double float_mod(double a, double b) {
    double m = fmod(a, b);
    if (m != 0) return (m < 0) != (b < 0) ? m + b : m;
    return copysign(0.0, b);
}

static jv floats(jr *r, jop op, double a, double b) {
    switch (op) {
    case N_ADD: return fjj_float(a + b);
    case N_SUB: return fjj_float(a - b);
    case N_MUL: return fjj_float(a * b);
    case N_DIV:
        if (b == 0) fjj_fail(r, "float division by zero");
        return fjj_float(a / b);
    case N_MOD:
        if (b == 0) fjj_fail(r, "float modulo");
        return fjj_float(float_mod(a, b));
    case N_FLOORDIV: {
        if (b == 0) fjj_fail(r, "float floor division by zero");
        double m = float_mod(a, b), q = (a - m) / b;
        if (q == 0) return fjj_float(copysign(0.0, a / b));
        double f = floor(q);
        return fjj_float(q - f > 0.5 ? f + 1 : f);
    }
    default:
        if (a == 0 && b < 0) fjj_fail(r, "0.0 cannot be raised to a negative power");
        if (a < 0 && b != floor(b) && isfinite(b))
            fjj_fail(
                r,
                "a negative number cannot be raised to a fractional power: the result is complex");
        return fjj_float(pow(a, b));
    }
}

static jv repeat(jr *r, jv a, int64_t n) {
    if (a.k == J_STR) {
        jb b = { .r = r };
        if (n > 0 && a.s->n && (uint64_t)n > r->max_output / a.s->n)
            fjj_fail(r, "the text grows too long: over %zu bytes", r->max_output);
        for (int64_t i = 0; i < n && a.s->n; i++) {
            fjj_step(r, 1);
            fjb_sub(&b, a.s, 0, a.s->n);
        }
        return fjb_take(&b);
    }
    jv v = fjj_list(r, (jkind)a.k, 0);
    for (int64_t i = 0; i < n && a.l->n; i++)
        for (uint32_t k = 0; k < a.l->n; k++) fjj_push(r, v.l, a.l->v[k]);
    return v;
}

static bool is_seq(jv v) { return v.k == J_STR || v.k == J_LIST || v.k == J_TUPLE; }

static jv join(jr *r, jv a, jv b) {
    if (a.k == J_STR) {
        bool markup = a.s->markup || b.s->markup;
        if (markup && !a.s->markup) a = fjj_escape(r, a);
        if (markup && !b.s->markup) b = fjj_escape(r, b);
        jb s = { .r = r };
        fjb_sub(&s, a.s, 0, a.s->n);
        fjb_sub(&s, b.s, 0, b.s->n);
        jv v = fjb_take(&s);
        ((jstr *)v.s)->markup = markup;
        return v;
    }
    jv v = fjj_list(r, (jkind)a.k, a.l->n + b.l->n);
    for (uint32_t i = 0; i < a.l->n; i++) fjj_push(r, v.l, a.l->v[i]);
    for (uint32_t i = 0; i < b.l->n; i++) fjj_push(r, v.l, b.l->v[i]);
    return v;
}

jv fjj_arith(jr *r, jop op, jv a, jv b) {
    int64_t x, y;
    if (a.k == J_STR && op == N_MOD) return fjj_percent(r, a.s, b);
    if (a.k == J_UNDEF) fjj_fail_undef(r, a);
    if (b.k == J_UNDEF) fjj_fail_undef(r, b);
    if (fjj_as_int(a, &x) && fjj_as_int(b, &y)) return ints(r, op, x, y);
    if (fjj_is_num(a) && fjj_is_num(b)) return floats(r, op, fjj_double(a), fjj_double(b));
    if (op == N_MUL && is_seq(a) && fjj_as_int(b, &y)) return repeat(r, a, y);
    if (op == N_MUL && is_seq(b) && fjj_as_int(a, &x)) return repeat(r, b, x);
    if (op == N_ADD && a.k == b.k && is_seq(a)) return join(r, a, b);
    if (op == N_ADD && is_seq(a))
        fjj_fail(r, "can only concatenate %s (not \"%s\") to %s", fjj_type(a), fjj_type(b),
                 fjj_type(a));
    if (op == N_MUL && (is_seq(a) || is_seq(b)))
        fjj_fail(r, "can't multiply sequence by non-int of type '%s'", fjj_type(is_seq(a) ? b : a));
    fjj_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", sign_of(op), fjj_type(a),
             fjj_type(b));
}

jv fjj_negate(jr *r, jv a, bool minus) {
    int64_t x;
    if (a.k == J_UNDEF) fjj_fail_undef(r, a);
    if (a.k == J_FLOAT) return fjj_float(minus ? -a.d : a.d);
    if (!fjj_as_int(a, &x))
        fjj_fail(r, "bad operand type for unary %c: '%s'", minus ? '-' : '+', fjj_type(a));
    if (minus && __builtin_sub_overflow((int64_t)0, x, &x)) wide(r);
    return fjj_int(x);
}

/* round(): halves of the exact value go to the even digit, as printf has it. */
jv fjj_round(jr *r, jv v, int64_t digits) {
    int64_t x;
    if (fjj_as_int(v, &x)) {
        if (digits >= 0) return fjj_int(x);
        if (digits < -18) return fjj_int(0);
        int64_t p = int_pow(r, 10, -digits), m = x % p, half = p / 2;
        if (m < 0) m += p;
        int64_t down = 0;
        if (__builtin_sub_overflow(x, m, &down)) wide(r);
        bool up = m > half || (m == half && (down / p) % 2);
        if (up && __builtin_add_overflow(down, p, &down)) wide(r);
        return fjj_int(down);
    }
    if (v.k != J_FLOAT) fjj_fail(r, "type %s doesn't define __round__ method", fjj_type(v));
    if (!isfinite(v.d) || digits > 330) return v;
    if (digits < -308) return fjj_float(copysign(0.0, v.d));
    char buf[700];
    if (digits >= 0) {
        snprintf(buf, sizeof buf, "%.*f", (int)digits, v.d);
        return fjj_float(strtod(buf, NULL));
    }
    double p = pow(10, (double)-digits), q = v.d / p, z = nearbyint(q); /* to even */
    return fjj_float(z * p);
}

static size_t digits_of(const char *s, size_t n, int base, char *out, size_t cap) {
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '_' && i && i + 1 < n && s[i - 1] != '_') continue;
        int c = (unsigned char)s[i] | 32, d = s[i] >= '0' && s[i] <= '9' ? s[i] - '0'
                                              : c >= 'a' && c <= 'z'     ? c - 'a' + 10
                                                                         : 99;
        if (d >= base || k + 1 >= cap) return 0;
        out[k++] = s[i];
    }
    out[k] = 0;
    return k;
}

static void trimmed(const jstr *s, const char **p, size_t *n) {
    size_t a = 0, z = s->n, len;
    while (a < z && fjj_space(fjj_get_char(s->p + a, z - a, &len))) a += len;
    while (z > a && (unsigned char)s->p[z - 1] < 128 && fjj_space((unsigned char)s->p[z - 1])) z--;
    *p = s->p + a;
    *n = z - a;
}

/* int(s, base) */
bool fjj_parse_int(const jstr *s, int base, int64_t *out, bool *big) {
    const char *p;
    size_t n;
    trimmed(s, &p, &n);
    *big = false;
    bool minus = n && *p == '-';
    if (n && (*p == '-' || *p == '+')) p++, n--;
    int named = n > 2 && *p == '0' ? ((p[1] | 32) == 'x'   ? 16
                                      : (p[1] | 32) == 'o' ? 8
                                      : (p[1] | 32) == 'b' ? 2
                                                           : 0)
                                   : 0;
    if (named && (base == named || base == 0)) {
        p += 2, n -= 2, base = named;
        if (n > 1 && *p == '_') p++, n--;
    } else if (base == 0) {
        base = 10;
    }
    char d[80];
    if (base < 2 || base > 36) return false;
    size_t k = digits_of(p, n, base, d, sizeof d);
    if (!k) {
        *big = n >= sizeof d - 1 && digits_of(p, sizeof d - 2, base, d, sizeof d);
        return false;
    }
    errno = 0;
    char full[84];
    snprintf(full, sizeof full, "%s%s", minus ? "-" : "", d);
    *out = strtoll(full, NULL, base);
    *big = errno == ERANGE;
    return !*big;
}

/* float(s) */
bool fjj_parse_float(const jstr *s, double *out) {
    const char *p;
    size_t n, k = 0;
    char buf[400];
    trimmed(s, &p, &n);
    if (!n || n >= sizeof buf) return false;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c == '_' && i && i + 1 < n && p[i - 1] >= '0' && p[i - 1] <= '9' && p[i + 1] >= '0' &&
            p[i + 1] <= '9')
            continue;
        if (c == 'x' || c == 'X' || c == '(' || c <= ' ' || c > 126)
            return false; /* strtod takes hex */
        buf[k++] = p[i];
    }
    buf[k] = 0;
    char *end;
    *out = strtod(buf, &end);
    return end == buf + k;
}
