/* ollama_text.c - text that a Modelfile and a Go template can hold. */
#include "lifecycle/ollama_in.h"
#include "text/tok.h"

#include <utf8proc.h>

bool fj_go_prints(uint32_t c) {
    if (c < 0x80) return c >= 0x20 && c < 0x7f;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    default: return true;
    }
}

bool fj_go_plain(const char *s, size_t n, bool lines) {
    for (size_t i = 0, k; i < n; i += k) {
        k = fj_utf8_len(s + i, n - i);
        if (!k || !(fj_go_prints(fj_utf8_get(s + i, k)) || (lines && s[i] == '\n'))) return false;
    }
    return true;
}

void fj_go_text(fj_str *out, const char *s, size_t n) {
    bool open = false; /* inside {{ "..." }} */
    for (size_t i = 0, k; i < n; i += k) {
        k = FJ_MAX(fj_utf8_len(s + i, n - i), 1u);
        uint32_t c = fj_utf8_get(s + i, k);
        bool raw = c == '\n' || (fj_go_prints(c) && c != '"' && c != '{');
        if (raw == open) fj_str_add(out, open ? "\" }}" : "{{ \"");
        open = !raw;
        if (raw) fj_str_addn(out, s + i, k);
        else if (c == '{') fj_str_addc(out, '{');
        else fj_str_addf(out, c < 0x80 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
    }
    if (open) fj_str_add(out, "\" }}");
}
