/* Modelfiles: templates of every shape as Go templates with the same texts, those that have none, and what
 * Ollama's parser reads out of the file. */
#include "lifecycle/ollama.h"

#include "test_util.h"

#include "text/chat.h"

#include <dirent.h>

/* Bytes and a few control tokens. */
static fj_tokenizer *tokenizer(bool add_bos) {
    static const char *const special[] = { "<s>", "</s>", "<|im_start|>", "<|im_end|>" };
    fj_err e = { 0 };
    fj_tokenizer *t = fj_bpe_train(
        NULL, 0,
        &(fj_bpe_opts){
            .vocab = 256 + 4, .n_special = 4, .special = special, .bos = "<s>", .eos = "</s>" },
        &e);
    FJ_OK_OR_FAIL(t, e);
    fj_tok_parts p = FJ_TOK_PARTS_INIT;
    FJ_OK_OR_FAIL(fj_tokenizer_parts(t, &p, &e), e);
    p.add_bos = add_bos;
    fj_tokenizer *own = fj_tokenizer_from_parts(&p, &e);
    FJ_OK_OR_FAIL(own, e);
    fj_tokenizer_parts_free(&p);
    fj_tokenizer_free(t);
    assert_true(fj_tokenizer_adds_bos(own) == add_bos);
    return own;
}

static fj_templates templates(const char *source) {
    fj_templates t = { 0 };
    if (source) fj_templates_add(&t, "default", source);
    return t;
}

/* ---- templates ------------------------------------------------------------------------------- */
#define EACH "{% for m in messages %}"
#define DONE "{% endfor %}"
#define GEN "{% if add_generation_prompt %}"
#define SYSTEM_FIRST                                                                               \
    "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}"                       \
    "{% set messages = messages[1:] %}{% endif %}"

static const char chatml[] =
    EACH "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}" DONE GEN
         "{{ '<|im_start|>assistant\n' }}{% endif %}";
static const char with_default[] =
    "{% if messages[0].role != 'system' %}<|im_start|>system\nBe \"nice\".<|im_end|>\n{% endif %}" EACH
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}" DONE GEN
    "{{ '<|im_start|>assistant\n' }}{% endif %}";
static const char zephyr[] =
    EACH "{% if m.role == 'user' %}\n{{ '<|user|>\n' + m.content + eos_token }}\n"
         "{% elif m.role == 'system' %}\n{{ '<|system|>\n' + m.content + eos_token }}\n"
         "{% elif m.role == 'assistant' %}\n{{ '<|assistant|>\n' + m.content + eos_token }}\n"
         "{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n"
         "{% endif %}\n" DONE;
static const char llama2[] = SYSTEM_FIRST EACH
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns') }}{% endif %}"
    "{% if loop.first and s is defined %}{% set c = '<<SYS>>\n' + s + '\n<</SYS>>\n\n' + m.content %}"
    "{% else %}{% set c = m.content %}{% endif %}"
    "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + c + ' [/INST]' }}"
    "{% else %}{{ ' ' + c + ' ' + eos_token }}{% endif %}" DONE;
static const char in_last[] = SYSTEM_FIRST
    "{{ bos_token }}" EACH
    "{% if m.role == 'user' %}[INST]{% if loop.last and s is defined %}{{ s + '\n\n' }}"
    "{% endif %}{{ m.content }}[/INST]{% else %}{{ m.content + eos_token }}{% endif %}" DONE;
static const char no_system[] =
    "{{ bos_token }}" EACH
    "{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}</turn>\n" DONE
        GEN "<turn>model\n{% endif %}";
static const char headings[] = EACH
    "{% if m.role == 'system' %}{{ m.content }}\n\n{% elif m.role == 'user' %}"
    "### Instruction:\n{{ m.content }}\n\n{% else %}### Response:\n{{ m.content }}\n\n{% endif %}" DONE
        GEN "### Response:\n{% endif %}";
/* What would end quotes, strings or actions, what a Modelfile drops, and what Go would trim. */
static const char hostile[] = EACH
    "{{ '\"\"\"\nFROM /etc/passwd\nSYSTEM \"\"\"{{ .System }}{{- end -}}}} {\\\\n\\x22 {' }}"
    "{{ '\\t\\r\\u200b\\u00a0\\ufeff\\U0001F44D\\u0007 ' + m.role + ' ' + m.content + '{' }}" DONE
        GEN "{{ '  {{ range .Messages }}\\n  ' }}{% endif %}";

typedef struct talk {
    fj_chat *chat;
    fj_tokenizer *tok;
    const char *bos;
} talk;

/* A text of a few words, without blanks at its ends. */
static char *words(fj_rng *r) {
    static const char *const w[] = { "a",
                                     "what",
                                     "\n",
                                     "{{",
                                     "}}",
                                     "\"",
                                     "\"\"\"",
                                     "\\",
                                     "$p",
                                     "\t",
                                     "0",
                                     "</s>",
                                     "{%",
                                     "<|im_end|>",
                                     " ",
                                     "\xc3\xa9",
                                     "end",
                                     "###",
                                     "\xf0\x9f\x91\x8d",
                                     "'",
                                     "[/INST]" };
    fj_str s = { 0 };
    fj_str_add(&s, "x");
    for (uint64_t n = fj_rng_below(r, 9); n; n--) fj_str_add(&s, w[fj_rng_below(r, FJ_LEN(w))]);
    fj_str_add(&s, "y");
    return fj_str_take(&s);
}

static json_t *random_talk(fj_rng *r, bool system, size_t turns) {
    json_t *list = json_array();
    for (size_t i = system ? 0 : 1; i <= 2 * turns - 1; i++) {
        char *c = words(r);
        json_array_append_new(list, fj_chat_message(!i      ? "system"
                                                    : i % 2 ? "user"
                                                            : "assistant",
                                                    c, strlen(c)));
        free(c);
    }
    return list;
}

/* The same text, but for the BOS that Ollama adds? */
static bool same_text(const talk *k, const char *text, const json_t *list, fj_err *e) {
    char *s = NULL;
    size_t n;
    bool raised;
    FJ_OK_OR_FAIL(fj_chat_text(k->chat, &(fj_conv){ .messages = list }, true, &s, &n, &raised, e),
                  *e);
    fj_str got = { 0 };
    if (k->bos) fj_str_add(&got, k->bos);
    if (!fj_ollama_render(text, list, &got, e)) fail_msg("%s", e->msg);
    bool same = got.n == n && !memcmp(got.s, s, n);
    if (!same) fj_fail(e, FJ_EFORMAT, "\"%s\" is not \"%s\"", got.s, s);
    free(s);
    fj_str_free(&got);
    return same;
}

/* It became a Go template, and that holds on other conversations than those of the proof. */
static void holds(const char *source, bool add_bos, bool system, const char *has, int line) {
    fj_rng r = fj_test_rng();
    fj_err e = { 0 };
    fj_tokenizer *tok = tokenizer(add_bos);
    fj_templates t = templates(source);
    fj_ollama_template o;
    fj_ollama_template_of(&t, tok, &o);
    if (!o.text) fail_msg("line %d: %s", line, o.why);
    if (has && !strstr(o.text, has)) fail_msg("line %d: no \"%s\" in %s", line, has, o.text);
    assert_true(o.proofs > 50 && !o.why && !o.system);
    bool puts = strstr(source, "bos_token") != NULL;
    assert_true(o.lacks_bos == (add_bos && !puts));
    talk k = { fj_chat_open(tok, &(fj_chat_opts){ .model = &t }, &e), tok,
               add_bos && puts ? "<s>" : NULL };
    FJ_OK_OR_FAIL(k.chat, e);
    for (int i = 0; i < 60; i++) {
        json_t *list = random_talk(&r, system && i % 2, 1 + (size_t)i % 4);
        if (!same_text(&k, o.text, list, &e)) fail_msg("line %d: %s", line, e.msg);
        json_decref(list);
    }
    /* The comparison sees another text. */
    char *spoilt = fj_strdup(o.text);
    for (char *at; (at = strstr(spoilt, "{{ .Content }}"));) memcpy(at, "{{ .Role }}   ", 14);
    json_t *list = random_talk(&r, false, 1);
    assert_false(same_text(&k, spoilt, list, &e));
    json_decref(list);
    free(spoilt);
    fj_chat_close(k.chat);
    fj_ollama_template_free(&o);
    fj_templates_free(&t);
    fj_tokenizer_free(tok);
}

static void test_templates(void **state) {
    (void)state;
    for (int bos = 0; bos < 2; bos++) {
        holds(chatml, bos, true, "<|im_start|>user\n{{ .Content }}<|im_end|>\n", __LINE__);
        holds(with_default, bos, true, "Be {{ \"\\x22\" }}nice{{ \"\\x22\" }}.", __LINE__);
        holds(zephyr, bos, true, "<|user|>\n", __LINE__);
        holds(llama2, bos, true, "<<SYS>>\n{{ .Content }}\n<</SYS>>\n\n", __LINE__);
        holds(in_last, bos, true, "{{ if $.System }}{{ $.System }}\n\n{{ end }}", __LINE__);
        holds(no_system, bos, false, "<turn>model\n", __LINE__);
        holds(headings, bos, true, "### Response:\n", __LINE__);
        holds(hostile, bos, true, NULL, __LINE__);
    }
}

static fj_ollama_template of(const char *source, bool add_bos) {
    fj_tokenizer *tok = tokenizer(add_bos);
    fj_templates t = templates(source);
    fj_ollama_template o;
    fj_ollama_template_of(&t, tok, &o);
    fj_templates_free(&t);
    fj_tokenizer_free(tok);
    return o;
}

static void test_what_is_known(void **state) {
    (void)state;
    /* BOS: Ollama's runner adds it, or the template has it. */
    fj_ollama_template o = of(llama2, true);
    assert_true(strstr(o.text, "{{ if eq $p \"\" }}[INST] ") && strstr(o.text, "<s>[INST] "));
    fj_ollama_template_free(&o);
    o = of(llama2, false);
    assert_true(strstr(o.text, "<s>[INST] ") && !strstr(o.text, "{{ if eq $p \"\" }}[INST] "));
    fj_ollama_template_free(&o);
    o = of(no_system, true);
    assert_true(o.folds && o.trims && !o.tools && !strstr(o.text, "<s>"));
    /* a system message in front of the first of the user */
    fj_err e = { 0 };
    fj_str s = { 0 };
    json_t *m = json_loads("[{\"role\": \"system\", \"content\": \"S\"},"
                           " {\"role\": \"user\", \"content\": \"U\"}]",
                           0, NULL);
    FJ_OK_OR_FAIL(fj_ollama_render(o.text, m, &s, &e), e);
    assert_string_equal(s.s, "<turn>user\nS\n\nU</turn>\n<turn>model\n");
    json_decref(m);
    fj_ollama_template_free(&o);
    /* an answer that comes last is left open; neighbours of one role are joined */
    o = of(chatml, false);
    m = json_loads(
        "[{\"role\": \"user\", \"content\": \"U\"}, {\"role\": \"user\", \"content\": \"V\"},"
        " {\"role\": \"assistant\", \"content\": \"A\"}]",
        0, NULL);
    fj_str_clear(&s);
    FJ_OK_OR_FAIL(fj_ollama_render(o.text, m, &s, &e), e);
    assert_string_equal(s.s, "<|im_start|>user\nU\n\nV<|im_end|>\n<|im_start|>assistant\nA");
    assert_true(!o.folds && !o.trims && o.later);
    /* without a template the vocabulary says whether it is ChatML, as everywhere in forja */
    fj_ollama_template by_tokens = of(NULL, false);
    assert_string_equal(by_tokens.text, o.text);
    fj_ollama_template_free(&by_tokens);
    json_decref(m);
    fj_str_free(&s);
    fj_ollama_template_free(&o);
}

static void test_no_template(void **state) {
    (void)state;
    static const struct {
        const char *source, *why;
    } c[] = {
        { EACH "{{ m.role }}{{ strftime_now('%d %b %Y') }}{{ m.content }}" DONE "x",
          "the day of today" },
        { EACH "{{ m.role + ':' + (m.content.split('</think>') | last) }}" DONE "x",
          "<think> ... </think>" },
        { EACH "{{ m.role + ':' + (m.content | replace('/no_think', '')) }}" DONE "x",
          "it reads /no_think" },
        { EACH "{{ m.role + ':' + (m.content | upper) }}" DONE "x", "not there once" },
        { EACH "{{ m.role + m.content + m.content }}" DONE "x", "not there once" },
        { EACH "{{ loop.index ~ m.role + m.content }}" DONE "x", "differs from byte" },
        { EACH "{{ m.role + m.content[:40] }}" DONE "x", "differs from byte" },
        { EACH "{{ m.role + (m.content | trim('H')) }}" DONE "x", "differs from byte" },
        { "{{ messages | length }}" EACH "{{ m.role + m.content }}" DONE, "differs from byte" },
        { "{% for m in messages | reverse %}{{ m.role + m.content }}" DONE "x",
          "do not keep their order" },
        { "{{ raise_exception('only tools') }}", "only tools" },
        { EACH "{{ m.role }}" DONE, "not there once" },
        { EACH "{{ tools[0].name.x }}" DONE, "template" },
        { "{% for", "template" },
        { "{# nothing #}", "its text is empty" },
        { EACH "{{ m.role + m.content }}\xff" DONE, "UTF-8" },
    };
    for (size_t i = 0; i < FJ_LEN(c); i++) {
        fj_ollama_template o = of(c[i].source, i % 2);
        if (o.text || !o.why || !strstr(o.why, c[i].why))
            fail_msg("case %zu: %s", i, o.text ? o.text : o.why);
        fj_ollama_template_free(&o);
    }
    /* its own system prompt is kept */
    fj_ollama_template o =
        of("{% if messages[0].role != 'system' %}[s]Be kind.[/s]{% endif %}" EACH
           "[{{ m.role[0] }}]{{ m.content.split('</think>')[-1] }}[/{{ m.role[0] }}]" DONE,
           false);
    assert_null(o.text);
    assert_string_equal(o.system, "Be kind.");
    fj_ollama_template_free(&o);
    fj_tokenizer *tok = tokenizer(false);
    fj_templates t = templates(NULL);
    fj_templates_add(&t, "rag", chatml);
    fj_ollama_template_of(&t, tok, &o);
    assert_string_equal(o.why, "the model has no chat template");
    fj_ollama_template_free(&o);
    fj_templates_free(&t);
    fj_tokenizer_free(tok);
}

/* What the templates of the shared data become; those that people fine-tune most have to hold. */
static void test_shared(void **state) {
    (void)state;
    const char *dir = fj_test_shared("models/templates");
    if (!dir) skip();
    static const char *const must[] = {
        "Qwen-Qwen2.5-7B-Instruct",        "google-gemma-2-2b-it",
        "ibm-granite-granite-4.0",         "meta-llama-Llama-3.1-8B-Instruct",
        "microsoft-Phi-3.5-mini-instruct", "mistralai-Mistral-Nemo-Instruct-2407"
    };
    size_t n = 0, proven = 0, found = 0;
    fj_rng r = fj_test_rng();
    char root[1024];
    snprintf(root, sizeof root, "%s", dir);
    DIR *d = opendir(root);
    assert_non_null(d);
    fj_tokenizer *tok = tokenizer(true);
    for (struct dirent *f; (f = readdir(d));) {
        fj_err e = { 0 };
        if (!strstr(f->d_name, ".jinja")) continue;
        char *path = fj_path_join(root, f->d_name), *s = fj_read_file(path, 1 << 22, NULL, &e);
        FJ_OK_OR_FAIL(s, e);
        fj_templates t = templates(s);
        fj_ollama_template o;
        fj_ollama_template_of(&t, tok, &o);
        assert_true(!o.text == (o.why && *o.why));
        n++;
        proven += o.text != NULL;
        for (size_t i = 0; i < FJ_LEN(must); i++) {
            bool it = !strncmp(f->d_name, must[i], strlen(must[i]));
            if (it && !o.text) fail_msg("%s: %s", f->d_name, o.why);
            found += it;
        }
        talk k = { fj_chat_open(tok, &(fj_chat_opts){ .model = &t }, &e), tok,
                   o.lacks_bos ? NULL : "<s>" };
        for (int i = 0; o.text && i < 20; i++) {
            json_t *list = random_talk(&r, !o.folds && i % 2, 1 + (size_t)i % 4);
            if (!same_text(&k, o.text, list, &e)) fail_msg("%s: %s", f->d_name, e.msg);
            json_decref(list);
        }
        fj_chat_close(k.chat);
        fj_ollama_template_free(&o);
        fj_templates_free(&t);
        free(path);
        free(s);
    }
    closedir(d);
    fj_tokenizer_free(tok);
    printf("%zu of %zu templates became Go templates\n", proven, n);
    assert_int_equal(found, FJ_LEN(must));
}

/* ---- the evaluator --------------------------------------------------------------------------- */
static void test_evaluator(void **state) {
    (void)state;
    static const struct {
        const char *text, *out; /* NULL: an error that says `says` */
        const char *says;
    } c[] = {
        { "a {{ .System }} b", "a S b", 0 },
        { "{{ \"\\x41\\u00e9\\U0001f44d\\\\\\\"\\n\" }}", "A\xc3\xa9\xf0\x9f\x91\x8d\\\"\n", 0 },
        { "{{ range $i, $_ := .Messages }}{{ .Role }}:{{ .Content }};{{ end }}",
          "system:S;user:U;assistant:A;", 0 },
        { "{{ range $i, $_ := .Messages }}{{ if eq (len (slice $.Messages $i)) 1 }}{{ .Role }}{{ end }}{{ end }}",
          "assistant", 0 },
        { "{{ if .System }}y{{ else }}n{{ end }}{{ if eq \"a\" \"b\" }}1{{ else if ne \"a\" \"b\" }}2{{ else }}3{{ end }}",
          "y2", 0 },
        { "{{ $p := \"\" }}{{ range $i, $_ := .Messages }}{{ $p = .Role }}{{ end }}{{ $p }}",
          "assistant", 0 },
        { "{{ if eq \"a\" \"b\" }}{{ range $i, $_ := .Messages }}x{{ end }}{{ if .System }}y{{ end }}{{ end }}z",
          "z", 0 },
        { "{{ .Content }}", NULL, "byte 14: a name that is not known here" },
        { "{{- .System }}", NULL, "trimmed blanks" },
        { "{{ printf \"x\" }}", NULL, "a name that is not known" },
        { "{{ .System", NULL, "an action without its end" },
        { "{{ }}", NULL, "without words" },
        { "{{ \"x }}", NULL, "a string without its end" },
        { "{{ \"\\q\" }}", NULL, "escape" },
        { "{{ \"\\ud800\" }}", NULL, "no character" },
        { "{{ if .System }}x", NULL, "a block without its end" },
        { "{{ range $i, $_ := .Messages }}x", NULL, "a range without its end" },
        { "{{ range .Messages }}x{{ end }}", NULL, "a range that is not known" },
        { "{{ end }}", NULL, "an end or else of nothing" },
        { "{{ else }}", NULL, "an end or else of nothing" },
        { "{{ $q = \"x\" }}", NULL, "declared twice or not at all" },
        { "{{ $q := \"x\" }}{{ $q := \"y\" }}", NULL, "declared twice" },
        { "{{ len .Messages }}", NULL, "only text" },
        { "{{ slice .Messages 9 }}", NULL, "cannot be sliced" },
        { "{{ eq .Messages .Messages }}", NULL, "cannot be compared" },
        { "{{ .System .System }}", NULL, "a word too many" },
        { "{{ (.System }}", NULL, "not closed" },
        { "{{ eq \"a\" }}", NULL, "a value is missing" },
    };
    json_t *m = json_loads(
        "[{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": \"U\"},"
        " {\"role\": \"assistant\", \"content\": \"A\"}]",
        0, NULL);
    for (size_t i = 0; i < FJ_LEN(c); i++) {
        fj_err e = { 0 };
        fj_str s = { 0 };
        bool ok = fj_ollama_render(c[i].text, m, &s, &e);
        if (ok != !c[i].says || (ok ? strcmp(s.s, c[i].out) != 0 : !strstr(e.msg, c[i].says)))
            fail_msg("%s: %s", c[i].text, ok ? s.s : e.msg);
        fj_str_free(&s);
    }
    json_decref(m);
    fj_err e = { 0 };
    fj_str s = { 0 };
    m = json_loads("[{\"role\": \"user\"}]", 0, NULL);
    FJ_FAILS_WITH(fj_ollama_render("x", m, &s, &e), e,
                  "messages[0]: expected a role and a content");
    json_decref(m);
    fj_str_free(&s);
}

/* ---- the Modelfile --------------------------------------------------------------------------- */
typedef struct command {
    char name[32];
    char *value;
} command;

/* s without blanks around it and without its quotes; NULL: the quotes are open.  As unquote of parser/parser.go. */
static char *unquoted(const fj_str *b) {
    const char *s = b->n ? b->s : "";
    size_t n = b->n;
    while (n && strchr(" \t\r\n", s[0])) s++, n--;
    while (n && strchr(" \t\r\n", s[n - 1])) n--;
    size_t q = n >= 3 && !memcmp(s, "\"\"\"", 3) ? 3 : n && *s == '"' ? 1 : 0;
    if (q && (n < 2 * q || memcmp(s + n - q, "\"\"\"", q) != 0)) return NULL;
    return fj_strndup(s + q, n - 2 * q);
}

/* The states of ParseFile: a value ends with a line at whose end its quotes are closed; what does not print is
 * dropped, but for blanks and line ends inside values. */
static int parse(const char *s, command *c, int room) {
    enum { NOTHING, NAME, VALUE, PARAMETER, COMMENT } st = NOTHING;
    fj_str b = { 0 };
    int n = 0;
    fj_str file = { 0 };
    fj_str_add(&file, s);
    if (!file.n || file.s[file.n - 1] != '\n') fj_str_addc(&file, '\n');
    for (const char *p = file.s; *p; p++) {
        bool space = *p == ' ' || *p == '\t', line = *p == '\n' || *p == '\r';
        bool dropped = (unsigned char)*p < 0x20 || *p == 0x7f || !strncmp(p, "\xe2\x80\x8b", 3) ||
                       !strncmp(p, "\xc2\xa0", 2) || !strncmp(p, "\xef\xbb\xbf", 3);
        if (dropped && !space && !line) fail_msg("a Modelfile with what does not print");
        assert_true(n < room);
        if (st == NOTHING) {
            if (*p == '#') st = COMMENT;
            else if (!space && !line) {
                st = NAME;
                fj_str_clear(&b);
                fj_str_addc(&b, *p);
            }
        } else if (st == COMMENT) {
            if (line) st = NOTHING;
        } else if (st == NAME || st == PARAMETER) {
            if (line) fail_msg("a command without a value: %s", b.s);
            if (!space) fj_str_addc(&b, *p);
            else {
                bool par = st == NAME && !strcmp(b.s, "PARAMETER");
                st = par ? PARAMETER : VALUE;
                if (!par) snprintf(c[n].name, sizeof c[n].name, "%s", b.s);
                fj_str_clear(&b);
            }
        } else {
            char *v = line ? unquoted(&b) : NULL;
            if (v) {
                c[n++].value = v;
                st = NOTHING;
            } else fj_str_addc(&b, *p);
        }
    }
    assert_true(st == NOTHING || st == COMMENT);
    fj_str_free(&b);
    fj_str_free(&file);
    return n;
}

static const char *get(const command *c, int n, const char *name, int nth) {
    for (int i = 0; i < n; i++)
        if (!strcmp(c[i].name, name) && !nth--) return c[i].value;
    return NULL;
}

typedef struct written {
    char *file, *warning;
    command c[40];
    int n;
} written;

static const char *folder(void) {
    fj_err e = { 0 };
    const char *dir = fj_test_path("ollama");
    FJ_OK_OR_FAIL(fj_mkdirs(dir, &e), e);
    static const char *const names[] = { "m.gguf", "a b.gguf", "adapter.gguf" };
    for (size_t i = 0; i < FJ_LEN(names); i++) {
        char *p = fj_path_join(dir, names[i]);
        FJ_OK_OR_FAIL(fj_write_file(p, "GGUF", 4, &e), e);
        free(p);
    }
    return dir;
}

static written write_it(const fj_model *m, const char *gguf, const char *adapter) {
    fj_err e = { 0 };
    written w = { 0 };
    const char *dir = folder();
    FJ_OK_OR_FAIL(fj_ollama_write(m, dir, gguf, adapter, &w.warning, &e), e);
    char *p = fj_path_join(dir, "Modelfile");
    w.file = fj_read_file(p, 1 << 22, NULL, &e);
    FJ_OK_OR_FAIL(w.file, e);
    w.n = parse(w.file, w.c, (int)FJ_LEN(w.c));
    free(p);
    return w;
}

static void drop(written *w) {
    for (int i = 0; i < w->n; i++) free(w->c[i].value);
    free(w->file);
    free(w->warning);
    *w = (written){ 0 };
}

static void test_modelfile(void **state) {
    (void)state;
    fj_model m = { .path = "model", .tok = tokenizer(false), .templates = templates(chatml) };
    m.hp.context = 4096;
    m.gen_config =
        "{\"temperature\": 0.6, \"top_p\": 0.95, \"top_k\": 20, \"repetition_penalty\": 1.05,"
        " \"do_sample\": true, \"min_p\": \"x\", \"max_length\": 9}";
    written w = write_it(&m, "m.gguf", NULL);
    assert_null(w.warning);
    assert_string_equal(get(w.c, w.n, "FROM", 0), "./m.gguf");
    assert_null(get(w.c, w.n, "ADAPTER", 0));
    assert_null(get(w.c, w.n, "SYSTEM", 0));
    fj_ollama_template o;
    fj_ollama_template_of(&m.templates, m.tok, &o);
    assert_string_equal(get(w.c, w.n, "TEMPLATE", 0), o.text);
    fj_ollama_template_free(&o);
    assert_string_equal(get(w.c, w.n, "stop", 0), "<|im_start|>");
    assert_string_equal(get(w.c, w.n, "stop", 1), "<|im_end|>");
    assert_string_equal(get(w.c, w.n, "stop", 2), "</s>");
    assert_null(get(w.c, w.n, "stop", 3));
    assert_string_equal(get(w.c, w.n, "num_ctx", 0), "4096");
    assert_string_equal(get(w.c, w.n, "temperature", 0), "0.6");
    assert_string_equal(get(w.c, w.n, "top_p", 0), "0.95");
    assert_string_equal(get(w.c, w.n, "top_k", 0), "20");
    assert_string_equal(get(w.c, w.n, "repeat_penalty", 0), "1.05");
    assert_null(get(w.c, w.n, "min_p", 0));
    drop(&w);

    m.hp.context = 131072;
    m.gen_config = "{\"do_sample\": false, \"temperature\": 0.6, \"top_p\": 7}";
    w = write_it(&m, "a b.gguf", "adapter.gguf");
    assert_string_equal(get(w.c, w.n, "FROM", 0), "./a b.gguf");
    assert_string_equal(get(w.c, w.n, "ADAPTER", 0), "./adapter.gguf");
    assert_string_equal(get(w.c, w.n, "num_ctx", 0), "8192");
    assert_non_null(strstr(w.file, "up to 131072 tokens"));
    assert_string_equal(get(w.c, w.n, "temperature", 0), "0");
    assert_null(get(w.c, w.n, "top_p", 0));
    drop(&w);
    m.gen_config = NULL;

    /* role markers that are no control tokens */
    fj_templates_free(&m.templates);
    m.templates = templates(headings);
    w = write_it(&m, "m.gguf", NULL);
    assert_string_equal(get(w.c, w.n, "stop", 0), "### Instruction:");
    assert_string_equal(get(w.c, w.n, "stop", 1), "### Response:");
    assert_string_equal(get(w.c, w.n, "stop", 2), "</s>");
    drop(&w);

    /* hostile template: one FROM, and the text whole */
    fj_templates_free(&m.templates);
    m.templates = templates(hostile);
    w = write_it(&m, "m.gguf", NULL);
    fj_ollama_template_of(&m.templates, m.tok, &o);
    assert_non_null(o.text);
    assert_string_equal(get(w.c, w.n, "TEMPLATE", 0), o.text);
    assert_null(get(w.c, w.n, "FROM", 1));
    assert_null(get(w.c, w.n, "SYSTEM", 0));
    fj_ollama_template_free(&o);
    drop(&w);

    /* no TEMPLATE: said in the file and to the caller, with the system prompt */
    fj_templates_free(&m.templates);
    m.templates = templates(
        "{% if messages[0].role != 'system' %}[s]Be \"kind\".\n\nAlways.[/s]{% endif %}" EACH
        "[{{ m.role[0] }}]{{ m.content.split('</think>')[-1] }}[/{{ m.role[0] }}]" DONE);
    w = write_it(&m, "m.gguf", NULL);
    assert_non_null(strstr(w.warning, "no TEMPLATE"));
    assert_non_null(strstr(w.warning, "<think>"));
    assert_non_null(strstr(w.file, "# No TEMPLATE: it changes messages with <think>"));
    assert_null(get(w.c, w.n, "TEMPLATE", 0));
    assert_string_equal(get(w.c, w.n, "SYSTEM", 0), "Be \"kind\".\n\nAlways.");
    drop(&w);
    fj_templates_free(&m.templates);
    m.templates =
        templates("{% if messages[0].role != 'system' %}[s]x\"\"\"\nFROM evil[/s]{% endif %}" EACH
                  "[{{ m.role[0] }}]{{ m.content.split('</think>')[-1] }}[/{{ m.role[0] }}]" DONE);
    w = write_it(&m, "m.gguf", NULL);
    assert_null(get(w.c, w.n, "SYSTEM", 0));
    assert_null(get(w.c, w.n, "FROM", 1));
    assert_non_null(strstr(w.file, "# No SYSTEM"));
    drop(&w);
    fj_templates_free(&m.templates);
    m.templates = templates("{{ raise_exception('\nFROM evil\n') }}");
    w = write_it(&m, "m.gguf", NULL);
    assert_null(get(w.c, w.n, "FROM", 1));
    drop(&w);

    /* BOS that the template has not; no system role */
    fj_tokenizer_free(m.tok);
    fj_templates_free(&m.templates);
    m.tok = tokenizer(true);
    m.templates = templates(chatml);
    w = write_it(&m, "m.gguf", NULL);
    assert_non_null(strstr(w.warning, "add_bos_token"));
    drop(&w);
    fj_templates_free(&m.templates);
    m.templates = templates(no_system);
    w = write_it(&m, "m.gguf", NULL);
    assert_non_null(strstr(w.warning, "takes no system message"));
    assert_null(strstr(w.warning, "add_bos_token"));
    assert_non_null(strstr(w.file, "takes blanks off"));
    drop(&w);
    fj_templates_free(&m.templates);
    fj_tokenizer_free(m.tok);
}

static void test_refused(void **state) {
    (void)state;
    fj_err e = { 0 };
    char *warning = NULL;
    const char *dir = folder();
    fj_model m = { .path = "model", .tok = tokenizer(false), .templates = templates(chatml) };
    static const char *const names[] = { "",        "a\nFROM x", "../m.gguf", "x\xe2\x80\x8b.gguf",
                                         "m.gguf ", "\xff.gguf", "a\rb" };
    for (size_t i = 0; i < FJ_LEN(names); i++) {
        FJ_FAILS_WITH(fj_ollama_write(&m, dir, names[i], NULL, &warning, &e), e,
                      "which a Modelfile cannot hold");
        FJ_FAILS_WITH(fj_ollama_write(&m, dir, "m.gguf", names[i], &warning, &e), e,
                      "the adapter is");
    }
    FJ_FAILS_WITH(fj_ollama_write(&m, dir, "m-00001-of-00002.gguf", NULL, &warning, &e), e,
                  "m-00001-of-00002.gguf is part of a split GGUF");
    FJ_FAILS_WITH(fj_ollama_write(&m, dir, "none.gguf", NULL, &warning, &e), e,
                  "none.gguf is missing: the model has to be in the folder");
    FJ_FAILS_WITH(fj_ollama_write(&m, "/nowhere", "m.gguf", NULL, &warning, &e), e,
                  "is not a folder");
    m.gen_config = "{";
    FJ_FAILS_WITH(fj_ollama_write(&m, dir, "m.gguf", NULL, &warning, &e), e,
                  "generation_config.json");
    assert_null(warning);
    fj_tokenizer_free(m.tok);
    m.tok = NULL;
    FJ_FAILS_WITH(fj_ollama_write(&m, dir, "m.gguf", NULL, &warning, &e), e, "has no tokenizer");
    fj_templates_free(&m.templates);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_templates),   cmocka_unit_test(test_what_is_known),
        cmocka_unit_test(test_no_template), cmocka_unit_test(test_shared),
        cmocka_unit_test(test_evaluator),   cmocka_unit_test(test_modelfile),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
