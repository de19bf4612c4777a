/* verify_rows.c - what an export is verified on, and how a side spells it. */
#include "lifecycle/verify_in.h"

#include "data/rows.h"
#include "eval/run.h"

/* PART: bytes of a text, which may be a whole book, that are one row. */
enum { MOST_ROWS = 1000, PART = 1024 };

/* ---- rows ----------------------------------------------------------------------------------------- */
/* Forja's own: English, Portuguese, code, numbers, tables, emoji, scripts and blanks that tokenizers trip
 * over, with and without a system message, one and two turns.  Texts stand alone: text, or (system) ask,
 * answer, (more, then). */
static const struct own {
    const char *text, *system, *ask, *answer, *more, *then;
} own[] = {
    { .ask = "What is the capital of Portugal?",
      .answer = "The capital of Portugal is Lisbon, on the north bank of the Tagus." },
    { .ask = "Qual é a diferença entre \"mas\" e \"mais\"?",
      .answer =
          "\"Mas\" opõe duas ideias: quis sair, mas choveu. \"Mais\" soma ou compara: dois mais "
          "dois; ela é mais alta. Se couber \"porém\", escreva \"mas\"." },
    { .system = "You answer in one short sentence.",
      .ask = "Why is the sky blue?",
      .answer = "Air scatters blue light more than red, so blue reaches us from every direction." },
    { .ask = "Write a function in C that returns the larger of two integers.",
      .answer =
          "```c\nint larger(int a, int b) {\n    return a > b ? a : b;\n}\n```\nIt compares once "
          "and works for negative numbers, too." },
    { .ask = "List three fruits.",
      .answer = "1. Apple\n2. Mango\n3. Pear",
      .more = "And one vegetable, please.",
      .then = "4. Carrot" },
    { .ask = "Quanto é 17 x 23?",
      .answer = "17 x 23 = 391. Conta: 17 x 20 = 340, 17 x 3 = 51, e 340 + 51 = 391." },
    { .system = "Você é um atendente educado de uma loja de bicicletas.",
      .ask = "Minha encomenda 4471-B ainda não chegou. O que eu faço?",
      .answer =
          "Sinto muito pela demora! Pode me dizer a data da compra? Com o número 4471-B eu consulto "
          "a entrega e respondo ainda hoje.",
      .more = "Foi em 03/11/2025.",
      .then = "Obrigado. O prazo termina amanhã; se não chegar, enviamos outra sem custo." },
    { .ask = "Give me the user as JSON: Ana, 31, likes tea and chess.",
      .answer = "{\"name\": \"Ana\", \"age\": 31, \"likes\": [\"tea\", \"chess\"]}" },
    { .ask = "Translate to Portuguese: The meeting was moved to Thursday at 3:30 pm.",
      .answer = "A reunião foi transferida para quinta-feira, às 15h30." },
    { .ask = "How do I feel better after a bad day? 😞",
      .answer =
          "Take a walk, drink some water, and write down one thing that went well. 🌱 Tomorrow "
          "is a new page. 🙂" },
    { .ask =
          "Summarise: Rain fell all night. The river rose, the bridge was closed, and the market "
          "was held in the school.",
      .answer = "Heavy rain closed the bridge, so the market moved to the school." },
    { .ask = "def mean(xs): return sum(xs) / len(xs)\nWhat is wrong with it?",
      .answer =
          "An empty list divides by zero. Say what should happen:\n\n    def mean(xs):\n        if "
          "not xs:\n            raise ValueError(\"mean of nothing\")\n        return sum(xs) / "
          "len(xs)\n" },
    { .ask = "  two  spaces,\ttab, and a trailing blank ",
      .answer = "I read them all.\n\nEvery one." },
    { .ask = "Explique juros compostos com um exemplo.",
      .answer = "Os juros rendem juros. R$ 1.000,00 a 10% ao ano viram 1.100,00 no primeiro ano, "
                "1.210,00 no segundo e 1.331,00 no terceiro: 1000 x 1,1 x 1,1 x 1,1." },
    { .ask = "Say hello in five languages.", .answer = "Hello, olá, bonjour, 你好, привет." },
    { .text =
          "The old lighthouse keeper counted the ships each evening and wrote the number in a blue "
          "book. On the first of March there were twelve; on the second, none, because of the fog. "
          "He wrote a zero, and under it: \"Heard one bell, far away, about nine o'clock.\"" },
    { .text =
          "O trem das seis saiu atrasado. Na plataforma ficaram um guarda-chuva, dois jornais e um "
          "menino que não queria ir embora. \"Volta já\", disse o avô, e os dois esperaram a próxima "
          "composição comendo pão de queijo." },
    { .text =
          "for (size_t i = 0; i < n; i++) {\n\tif (p[i] != q[i])\n\t\treturn (int)p[i] - "
          "(int)q[i]; /* first difference */\n}\nSELECT name, COUNT(*) FROM orders WHERE total >= "
          "99.90 GROUP BY name ORDER BY 2 DESC LIMIT 10;" },
    { .text =
          "| year | rain (mm) | sun (h) |\n|------|-----------|---------|\n| 2021 | 1,204.5 | 2,310 "
          "|\n| 2022 | 987.0 | 2,466 |\n| 2023 | 1,530.25 | 2,108 |\n\nThe wettest year, 2023, had "
          "27% more rain than 2021 (1530.25 / 1204.5 = 1.27)." },
    { .text =
          "Naïve façade, São João, Ångström, Łódź; ½ + ¼ = ¾; 5 µm; \"smart\" quotes, an em dash — "
          "and an ellipsis… 日本語の文。 한국어 문장. Ελληνικά. العربية. 👩‍👩‍👧 🇧🇷 e\xcc\x81" },
    { .text = "https://example.org/a/b?x=1&y=%20#top user.name+tag@example.com v2.10.3-rc1 "
              "0xDEADBEEF 3.14159 -2e-10 1_000_000 C:\\temp\\new.txt $HOME/.config ~/notes.md" },
};

static void keep(fj_dataset *d, const fj_data_row *r) {
    FJ_GROW(d->rows, d->n + 1, d->cap);
    d->rows[d->n++] = *r;
}

static void add_own(fj_dataset *d) {
    fj_arena *a = &d->arena;
    d->files = fj_arena_alloc(a, sizeof *d->files);
    d->n_files = 1;
    d->files[0].path = "texts of forja's own";
    for (size_t i = 0; i < FJ_LEN(own); i++) {
        const struct own *x = &own[i];
        fj_data_row r = { .line = (int64_t)i + 1 };
        if (x->text) {
            r.text = x->text;
            r.text_n = strlen(x->text);
        } else {
            const struct {
                const char *role, *content;
            } turn[] = { { "system", x->system },
                         { "user", x->ask },
                         { "assistant", x->answer },
                         { "user", x->more },
                         { "assistant", x->then } };
            r.messages = fj_arena_alloc(a, FJ_LEN(turn) * sizeof *r.messages);
            for (size_t k = 0; k < FJ_LEN(turn); k++)
                if (turn[k].content)
                    r.messages[r.n_messages++] = (fj_message){ turn[k].role, turn[k].content };
        }
        fj_row_hash(&r);
        keep(d, &r);
    }
}

/* Where a part may begin: behind a blank near by, or at least not within a character. */
static size_t begin(const fj_data_row *r, size_t at) {
    size_t i = at, end = FJ_MIN(at + 64, r->text_n);
    while (i && i < end && r->text[i - 1] != ' ' && r->text[i - 1] != '\n') i++;
    if (i == end) i = at;
    while (i < r->text_n && ((unsigned char)r->text[i] & 0xc0) == 0x80) i++;
    return i;
}

/* A longer text is parts from all of it, at most `most`. */
static void keep_parts(fj_dataset *d, const fj_data_row *r, size_t most) {
    size_t n = r->text_n, parts = FJ_MIN((n + PART - 1) / PART, most), line = 0, counted = 0;
    for (size_t i = 0; i < parts; i++) {
        double share = (double)n / (double)parts;
        size_t from = begin(r, (size_t)(share * (double)i));
        size_t to = i + 1 == parts ? n : begin(r, (size_t)(share * (double)(i + 1)));
        to = FJ_MIN(to, begin(r, FJ_MIN(from + PART, n)));
        if (to <= from) continue;
        fj_data_row part = *r;
        part.text = r->text + from;
        part.text_n = to - from;
        for (; counted < from; counted++) line += r->text[counted] == '\n';
        part.line += (int64_t)line;
        fj_row_hash(&part);
        keep(d, &part);
    }
}

bool fj_verify_rows(fj_dataset *d, const fj_verify_opts *o, const fj_log *log, fj_err *e) {
    *d = (fj_dataset){ 0 };
    if (!o->n_data) add_own(d);
    else if (!fj_dataset_load(d, o->data, o->n_data, &(fj_dataset_opts){ .open_rows = true }, log,
                              e))
        return false;
    size_t most = (size_t)(o->max_rows ? o->max_rows : MOST_ROWS), all = d->n;
    fj_data_row *rows = d->rows;
    d->rows = NULL;
    d->n = d->cap = 0;
    for (size_t i = 0; i < all; i++)
        if (rows[i].text && rows[i].text_n > PART) keep_parts(d, &rows[i], most);
        else keep(d, &rows[i]);
    free(rows);
    /* From all of the files, not from their beginning: rows are often sorted. */
    for (size_t i = 0; d->n > most && i < most; i++) d->rows[i] = d->rows[i * d->n / most];
    d->n = FJ_MIN(d->n, most);
    fj_str hashes = { 0 };
    for (size_t i = 0; i < d->n; i++) fj_str_addn(&hashes, d->rows[i].hash, FJ_SHA256_HEX - 1);
    fj_sha256(hashes.s, hashes.n, d->hash);
    fj_str_free(&hashes);
    return true;
}

/* ---- spelling ------------------------------------------------------------------------------------- */
typedef struct spell {
    fj_spelling *s;
    const fj_tokenizer *t;
    const fj_chat *chat;
    fj_err no_chat; /* why there is none */
    const fj_verify_opts *o;
    fj_ids ids;
    fj_mask mask;
    fj_str text;
} spell;

static void take(spell *x, fj_spelled *r) {
    fj_arena *a = &x->s->arena;
    int32_t *ids = fj_arena_alloc(a, (x->ids.n + 1) * sizeof *ids);
    uint8_t *learn = fj_arena_alloc(a, r->whole + 1);
    if (x->ids.n) memcpy(ids, x->ids.p, x->ids.n * sizeof *ids);
    if (x->mask.n) memcpy(learn, x->mask.p, FJ_MIN(x->mask.n, r->whole));
    r->ids = ids;
    r->learn = learn;
    r->n = x->ids.n;
    if (x->text.n) {
        r->text = fj_arena_strndup(a, x->text.s, x->text.n);
        r->text_n = x->text.n;
    }
}

static bool add_text(spell *x, const fj_conv *v, bool prompt, fj_err *e) {
    if (fj_chat_kind_of(x->chat) == FJ_CHAT_RAW) return true;
    char *s;
    size_t n;
    if (!fj_chat_text(x->chat, v, prompt, &s, &n, NULL, e)) return false;
    fj_str_addn(&x->text, s, n);
    fj_str_addc(&x->text, '\n');
    free(s);
    return true;
}

static void conversation(spell *x, const fj_data_row *row, fj_spelled *r) {
    bool open_row = true;
    for (int i = 0; i < row->n_messages; i++)
        if (!strcmp(row->messages[i].role, "assistant")) open_row = false;
    json_t *own_json = fj_row_conversation(row, x->o->system, false, open_row ? row->answer : NULL);
    json_t *ask_json = fj_row_conversation(row, x->o->system, true, NULL);
    fj_conv whole = fj_row_conv(own_json), ask = fj_row_conv(ask_json);
    fj_err why = x->no_chat;
    bool ok = x->chat && add_text(x, &whole, false, &why);
    /* Where a template does not say what is an answer the rest is compared all the same. */
    if (ok && !fj_chat_render(x->chat, &whole, false, &x->ids, &x->mask, &why)) {
        fj_ids_clear(&x->ids);
        x->mask.n = 0;
        ok = fj_chat_render(x->chat, &whole, false, &x->ids, NULL, &why);
    }
    if (ok) {
        r->whole = x->ids.n;
        ok = add_text(x, &ask, true, &why) &&
             fj_chat_render(x->chat, &ask, true, &x->ids, NULL, &why);
    }
    if (!ok) r->refused = fj_arena_strdup(&x->s->arena, why.msg);
    json_decref(own_json);
    json_decref(ask_json);
}

static bool text_row(spell *x, const fj_data_row *row, fj_spelled *r, fj_err *e) {
    if (!fj_tokenize(x->t, row->text, row->text_n, FJ_TOK_BOS, &x->ids, e)) return false;
    /* A text ends in a zero byte, a part of one in what follows it. */
    if (!row->text[row->text_n] && fj_token_eos(x->t) >= 0)
        fj_ids_push(&x->ids, fj_token_eos(x->t));
    r->whole = x->ids.n;
    FJ_GROW(x->mask.p, r->whole + 1, x->mask.cap);
    memset(x->mask.p, 1, r->whole);
    x->mask.n = r->whole;
    return true;
}

static void vocabulary(fj_spelling *s, const fj_model *m) {
    s->vocab = fj_vocab_size(m->tok);
    s->token = fj_arena_alloc(&s->arena, ((size_t)s->vocab + 1) * sizeof *s->token);
    s->ends = fj_arena_alloc(&s->arena, (size_t)s->vocab + 1);
    for (int32_t i = 0; i < s->vocab; i++) {
        fj_bytes b = fj_token_bytes(m->tok, i);
        s->token[i] = (fj_bytes){ fj_arena_strndup(&s->arena, b.n ? b.p : "", b.n), b.n };
        s->ends[i] = fj_model_ends(m, i);
    }
}

bool fj_verify_spell(fj_spelling *s, const fj_model *m, const char *chat, const fj_dataset *d,
                     const fj_verify_opts *o, double now, fj_err *e) {
    *s = (fj_spelling){ .rows = d->n };
    spell x = { .s = s, .t = m->tok, .o = o };
    fj_eval_opts how = { .chat = chat, .chat_kwargs = o->chat_kwargs, .chat_now = now };
    fj_chat *c = fj_eval_chat(m, &how, &x.no_chat);
    x.chat = c;
    s->chat = fj_arena_strdup(&s->arena, c ? fj_chat_name(c) : x.no_chat.msg);
    s->no_chat = !c;
    s->kind = c ? fj_chat_kind_of(c) : FJ_CHAT_JINJA;
    s->row = fj_arena_alloc(&s->arena, (d->n + 1) * sizeof *s->row);
    bool ok = true;
    for (size_t i = 0; ok && i < d->n; i++) {
        fj_ids_clear(&x.ids);
        x.mask.n = 0;
        fj_str_clear(&x.text);
        char name[512];
        if (!d->rows[i].text) conversation(&x, &d->rows[i], &s->row[i]);
        else
            ok = text_row(&x, &d->rows[i], &s->row[i], e) ||
                 fj_wrap(e, "%s", fj_row_name(d, &d->rows[i], name, sizeof name));
        if (ok) take(&x, &s->row[i]);
    }
    if (ok) vocabulary(s, m);
    fj_ids_free(&x.ids);
    fj_mask_free(&x.mask);
    fj_str_free(&x.text);
    fj_chat_close(c);
    return ok;
}

void fj_spelling_free(fj_spelling *s) {
    fj_arena_free(&s->arena);
    *s = (fj_spelling){ 0 };
}
