#include "data/rows.h"

#include "formats/json.h"

#include <ctype.h>
#include <stdio.h>

const char *const fj_data_format_names[FJ_DATA_FORMATS] = { "auto",     "alpaca", "sharegpt",
                                                            "messages", "prompt", "text" };

#define EVAL_KEYS "answer", "contains", "regex"
#define CHAT_KEYS "tools", "documents", "chat_template_kwargs"

const char *const *fj_row_keys(fj_data_format f) {
    static const char *const keys[FJ_DATA_FORMATS][16] = {
        [FJ_DATA_ALPACA] = { "instruction", "input", "output", "response", "system", "history",
                             EVAL_KEYS, CHAT_KEYS, NULL },
        [FJ_DATA_SHAREGPT] = { "conversations", "system", EVAL_KEYS, CHAT_KEYS, NULL },
        [FJ_DATA_MESSAGES] = { "messages", EVAL_KEYS, CHAT_KEYS, NULL },
        [FJ_DATA_PROMPT] = { "prompt", "completion", "system", EVAL_KEYS, CHAT_KEYS, NULL },
        [FJ_DATA_TEXT] = { "text", EVAL_KEYS, NULL },
    };
    return keys[f];
}

bool fj_row_detect(const json_t *o, fj_data_format *f, fj_err *e) {
    static const struct {
        const char *key;
        fj_data_format f;
    } by[] = { { "messages", FJ_DATA_MESSAGES },
               { "conversations", FJ_DATA_SHAREGPT },
               { "instruction", FJ_DATA_ALPACA },
               { "prompt", FJ_DATA_PROMPT },
               { "text", FJ_DATA_TEXT } };
    if (!json_is_object(o))
        return fj_fail(e, FJ_EFORMAT, "expected an object for each row, found %s", fj_json_kind(o));
    if (json_object_get(o, "chosen") && json_object_get(o, "rejected"))
        return fj_fail(e, FJ_EUNSUP,
                       "has chosen and rejected: preference data, which supervised "
                       "training does not read");
    for (size_t i = 0; i < FJ_LEN(by); i++)
        if (json_object_get(o, by[i].key)) {
            *f = by[i].f;
            return true;
        }
    fj_str found = { 0 };
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)o, key, v) {
        if (found.n > 120) {
            fj_str_add(&found, ", ...");
            break;
        }
        fj_str_addf(&found, "%s%.40s", found.n ? ", " : "", key);
    }
    fj_fail(e, FJ_EFORMAT,
            "keys {%s} are no known format: expected instruction+output, conversations, "
            "messages, prompt+completion or text",
            found.n ? found.s : "");
    fj_str_free(&found);
    return false;
}

/* ---- pieces ----------------------------------------------------------------------------------- */
static bool blank(const char *s) {
    while (isspace((unsigned char)*s)) s++;
    return !*s;
}

/* A string, or "" when the key is absent or null. */
static bool opt_str(const json_t *o, const char *key, const char **s, fj_err *e) {
    const json_t *v = json_object_get(o, key);
    *s = "";
    if (!v || json_is_null(v)) return true;
    if (!json_is_string(v))
        return fj_fail(e, FJ_EFORMAT, "\"%s\": expected a string, found %s", key, fj_json_kind(v));
    *s = json_string_value(v);
    return true;
}

typedef struct fj_turns {
    fj_arena *a;
    fj_message *m;
    size_t n, cap;
    json_t *list; /* the same messages, with all that they have */
    bool more;    /* that is more than role and text */
} fj_turns;

static void add(fj_turns *t, const char *role, const char *content) {
    FJ_GROW(t->m, t->n + 1, t->cap);
    t->m[t->n++] = (fj_message){ fj_arena_strdup(t->a, role), fj_arena_strdup(t->a, content) };
}

static void add_text(fj_turns *t, const char *role, const char *content) {
    add(t, role, content);
    json_array_append_new(t->list, fj_chat_message(role, content, strlen(content)));
}

/* A message as a chat template reads it: role and content by these names, and everything else. */
static void add_whole(fj_turns *t, const json_t *m, const char *role, const char *ck,
                      const char *text) {
    json_t *o = json_object(), *v;
    const char *key;
    bool more = false;
    add(t, role, text);
    if (!strcmp(ck, "content") &&
        !strcmp(json_string_value(json_object_get(m, "role")), "developer")) {
        role = "developer";
        more = true;
    }
    json_object_set_new(o, "role", json_string(role));
    json_object_foreach((json_t *)(uintptr_t)m, key, v) {
        if (!strcmp(key, ck)) {
            json_object_set(o, "content", v);
            more = more || !json_is_string(v);
        } else if (strcmp(key, "role") && strcmp(key, "from") && strcmp(key, "weight") &&
                   strcmp(key, "value")) {
            json_object_set(o, key, v);
            more = more || !json_is_null(v);
        }
    }
    json_array_append_new(t->list, o);
    t->more = t->more || more;
}

static bool role_of(const char *said, const char **role) {
    static const char *const names[][2] = {
        { "user", "user" },
        { "human", "user" },
        { "assistant", "assistant" },
        { "gpt", "assistant" },
        { "chatgpt", "assistant" },
        { "model", "assistant" },
        { "function_call", "assistant" },
        { "system", "system" },
        { "developer", "system" },
        { "tool", "tool" },
        { "observation", "tool" },
        { "function", "tool" },
    };
    for (size_t i = 0; i < FJ_LEN(names); i++)
        if (!strcmp(said, names[i][0])) {
            *role = names[i][1];
            return true;
        }
    return false;
}

/* A content: a string, or a list of {type: text, text}. */
static bool content_of(const json_t *v, const char *key, fj_str *out, fj_err *e) {
    fj_str_clear(out);
    fj_str_add(out, "");
    if (json_is_string(v)) {
        fj_str_add(out, json_string_value(v));
        return true;
    }
    if (!json_is_array(v))
        return fj_fail(e, FJ_EFORMAT, "\"%s\": expected a string, found %s", key, fj_json_kind(v));
    size_t i;
    json_t *part;
    json_array_foreach(v, i, part) {
        const char *type = json_string_value(json_object_get(part, "type"));
        const char *text = json_string_value(json_object_get(part, "text"));
        if (!type || strcmp(type, "text") || !text)
            return fj_fail(e, FJ_EUNSUP,
                           "\"%s\" part %zu: expected {type: text, text: ...}, found %s", key,
                           i + 1, type ? type : fj_json_kind(part));
        fj_str_add(out, text);
    }
    return true;
}

static bool calls(const json_t *m) {
    const json_t *c = json_object_get(m, "tool_calls");
    return json_array_size(c) || json_object_size(c);
}

/* A list of messages under `list`; both {role, content} and {from, value} are read everywhere, since
 * files in the wild mix the names. */
static bool add_list(fj_turns *t, const json_t *list, const char *name, fj_err *e) {
    if (!json_is_array(list))
        return fj_fail(e, FJ_EFORMAT, "\"%s\": expected a list of messages, found %s", name,
                       fj_json_kind(list));
    fj_str text = { 0 };
    bool ok = true;
    for (size_t i = 0; ok && i < json_array_size(list); i++) {
        const json_t *m = json_array_get(list, i);
        bool from = json_object_get(m, "from") != NULL;
        const char *rk = from ? "from" : "role", *ck = from ? "value" : "content";
        const char *said = json_string_value(json_object_get(m, rk)), *role = NULL;
        const json_t *weight = json_object_get(m, "weight");
        if (!json_is_object(m))
            ok = fj_fail(e, FJ_EFORMAT, "expected an object, found %s", fj_json_kind(m));
        else if (!said) ok = fj_fail(e, FJ_EFORMAT, "\"%s\" is missing or not a string", rk);
        else if (!role_of(said, &role))
            ok = fj_fail(
                e, FJ_EFORMAT,
                "\"%s\" is \"%.40s\": expected system, user (human), assistant (gpt) or tool", rk,
                said);
        else if (weight && json_number_value(weight) != 1.0)
            ok = fj_fail(e, FJ_EUNSUP, "\"weight\" other than 1 is not supported");
        else if (calls(m) && !json_string_length(json_object_get(m, ck)) &&
                 !json_is_array(json_object_get(m, ck))) {
            fj_str_clear(&text); /* a call needs no text beside it */
            fj_str_add(&text, "");
        } else if (!json_object_get(m, ck)) ok = fj_fail(e, FJ_EFORMAT, "\"%s\" is missing", ck);
        else ok = content_of(json_object_get(m, ck), ck, &text, e);
        if (ok) add_whole(t, m, role, ck, text.s);
        else fj_wrap(e, "%s[%zu]", name, i);
    }
    fj_str_free(&text);
    return ok;
}

/* ---- the five shapes -------------------------------------------------------------------------- */
static bool alpaca(const json_t *o, fj_turns *t, fj_err *e) {
    const char *system, *instruction, *input, *output, *response;
    if (!opt_str(o, "system", &system, e) || !opt_str(o, "instruction", &instruction, e) ||
        !opt_str(o, "input", &input, e) || !opt_str(o, "output", &output, e) ||
        !opt_str(o, "response", &response, e))
        return false;
    if (blank(instruction) && blank(input))
        return fj_fail(e, FJ_EFORMAT, "\"instruction\" is empty: expected the question");
    if (*output && *response)
        return fj_fail(e, FJ_EFORMAT, "has both \"output\" and \"response\": expected one of them");
    if (*system) add_text(t, "system", system);
    const json_t *history = json_object_get(o, "history");
    if (history && !json_is_null(history)) {
        if (!json_is_array(history))
            return fj_fail(e, FJ_EFORMAT,
                           "\"history\": expected a list of [question, answer], found %s",
                           fj_json_kind(history));
        for (size_t i = 0; i < json_array_size(history); i++) {
            const json_t *pair = json_array_get(history, i);
            const char *q = json_string_value(json_array_get(pair, 0));
            const char *a = json_string_value(json_array_get(pair, 1));
            if (!q || !a || json_array_size(pair) != 2)
                return fj_fail(e, FJ_EFORMAT, "history[%zu]: expected [question, answer]", i);
            add_text(t, "user", q);
            add_text(t, "assistant", a);
        }
    }
    fj_str user = { 0 };
    fj_str_addf(&user, "%s%s%s", instruction, *instruction && *input ? "\n" : "", input);
    add_text(t, "user", user.s);
    fj_str_free(&user);
    if (*output || *response) add_text(t, "assistant", *output ? output : response);
    return true;
}

static bool sharegpt(const json_t *o, fj_turns *t, fj_err *e) {
    const char *system;
    if (!opt_str(o, "system", &system, e)) return false;
    const json_t *list = json_object_get(o, "conversations");
    if (!list) return fj_fail(e, FJ_EFORMAT, "\"conversations\" is missing");
    if (*system) add_text(t, "system", system);
    return add_list(t, list, "conversations", e);
}

static bool messages(const json_t *o, fj_turns *t, fj_err *e) {
    const json_t *list = json_object_get(o, "messages");
    if (!list) return fj_fail(e, FJ_EFORMAT, "\"messages\" is missing");
    return add_list(t, list, "messages", e);
}

static bool prompt(const json_t *o, fj_turns *t, fj_err *e) {
    const json_t *p = json_object_get(o, "prompt"), *c = json_object_get(o, "completion");
    const char *system;
    if (!opt_str(o, "system", &system, e)) return false;
    if (!p) return fj_fail(e, FJ_EFORMAT, "\"prompt\" is missing");
    if (*system) add_text(t, "system", system);
    if (json_is_string(p)) add_text(t, "user", json_string_value(p));
    else if (!add_list(t, p, "prompt", e)) return false;
    if (!c || json_is_null(c)) return true;
    if (json_is_array(c)) return add_list(t, c, "completion", e);
    if (!json_is_string(c))
        return fj_fail(e, FJ_EFORMAT, "\"completion\": expected a string, found %s",
                       fj_json_kind(c));
    if (*json_string_value(c)) add_text(t, "assistant", json_string_value(c));
    return true;
}

static bool eval_keys(const json_t *o, fj_arena *a, fj_data_row *r, fj_err *e) {
    const json_t *v = json_object_get(o, "answer");
    if (json_is_string(v)) r->answer = fj_arena_strdup(a, json_string_value(v));
    else if (json_is_integer(v)) r->answer = fj_arena_printf(a, "%lld", json_integer_value(v));
    else if (json_is_real(v)) r->answer = fj_arena_printf(a, "%.17g", json_real_value(v));
    else if (v && !json_is_null(v))
        return fj_fail(e, FJ_EFORMAT, "\"answer\": expected a string or a number, found %s",
                       fj_json_kind(v));
    v = json_object_get(o, "regex");
    if (json_is_string(v)) r->regex = fj_arena_strdup(a, json_string_value(v));
    else if (v && !json_is_null(v))
        return fj_fail(e, FJ_EFORMAT, "\"regex\": expected a string, found %s", fj_json_kind(v));
    v = json_object_get(o, "contains");
    if (!v || json_is_null(v)) return true;
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    if (n == 0 || n > 1000)
        return fj_fail(e, FJ_EFORMAT, "\"contains\": expected 1 to 1000 strings");
    r->contains = fj_arena_alloc(a, n * sizeof *r->contains);
    for (size_t i = 0; i < n; i++) {
        const json_t *s = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_string(s))
            return fj_fail(e, FJ_EFORMAT,
                           "\"contains\": expected a string or a list of strings, found %s",
                           fj_json_kind(s));
        r->contains[i] = fj_arena_strdup(a, json_string_value(s));
    }
    r->n_contains = (int)n;
    return true;
}

static bool answered(const fj_turns *t, bool open_ok, fj_err *e) {
    size_t replies = 0, asked = 0;
    for (size_t i = 0; i < t->n; i++) {
        asked += !strcmp(t->m[i].role, "user");
        if (strcmp(t->m[i].role, "assistant")) continue;
        if (blank(t->m[i].content) && !calls(json_array_get(t->list, i)))
            return fj_fail(e, FJ_EFORMAT, "has no answer: assistant message %zu is empty", i + 1);
        replies++;
    }
    if (replies) return true;
    if (open_ok && asked) return true;
    return fj_fail(e, FJ_EFORMAT,
                   "has no answer: expected an assistant message (output, completion)");
}

/* tools, documents and variables beside the messages; some write them as a string of JSON. */
static bool beside(const json_t *o, const char *key, bool object, json_t *into, bool *any,
                   fj_err *e) {
    json_t *v = json_object_get(o, key);
    if (!v || json_is_null(v)) return true;
    json_error_t je;
    v = json_is_string(v) ? json_loads(json_string_value(v), JSON_REJECT_DUPLICATES, &je)
                          : json_incref(v);
    if (!(object ? json_is_object(v) : json_is_array(v))) {
        fj_fail(e, FJ_EFORMAT, "\"%s\": expected %s, found %s", key,
                object ? "an object" : "a list", v ? fj_json_kind(v) : "text that is no JSON");
        json_decref(v);
        return false;
    }
    *any = *any || json_object_size(v) > 0 || json_array_size(v) > 0;
    json_object_set_new(into, key, v);
    return true;
}

static bool whole(const json_t *o, fj_turns *t, fj_data_row *r, fj_err *e) {
    json_t *c = json_object();
    bool any = t->more;
    json_object_set(c, "messages", t->list);
    bool ok = beside(o, "tools", false, c, &any, e) && beside(o, "documents", false, c, &any, e) &&
              beside(o, "chat_template_kwargs", true, c, &any, e);
    if (ok && any) {
        /* Tools that came as a string may lie one deeper than JSON may: looked at now, not while training. */
        char *text = json_dumps(c, JSON_COMPACT);
        json_t *again = text ? json_loads(text, 0, NULL) : NULL;
        ok = again || fj_fail(e, FJ_EFORMAT,
                              "the conversation cannot be kept: a value is no JSON, or too deep");
        if (again) r->json = fj_arena_strdup(t->a, text);
        json_decref(again);
        free(text);
    }
    json_decref(c);
    return ok;
}

static json_t *from_text(const fj_data_row *r) {
    json_t *list = json_array();
    for (int i = 0; i < r->n_messages; i++)
        json_array_append_new(list, fj_chat_message(r->messages[i].role, r->messages[i].content,
                                                    strlen(r->messages[i].content)));
    json_t *c = json_object();
    json_object_set_new(c, "messages", list);
    return c;
}

json_t *fj_row_conversation(const fj_data_row *r, const char *system, bool open,
                            const char *answer) {
    json_t *c = r->json ? json_loads(r->json, 0, NULL) : from_text(r),
           *list = json_object_get(c, "messages");
    int n = r->n_messages;
    if (open && n && !strcmp(r->messages[n - 1].role, "assistant"))
        json_array_remove(list, (size_t)n - 1);
    if (system && *system && !(n && !strcmp(r->messages[0].role, "system")))
        json_array_insert_new(list, 0, fj_chat_message("system", system, strlen(system)));
    if (answer) json_array_append_new(list, fj_chat_message("assistant", answer, strlen(answer)));
    return c;
}

fj_conv fj_row_conv(const json_t *c) {
    return (fj_conv){ .messages = json_object_get(c, "messages"),
                      .tools = json_object_get(c, "tools"),
                      .documents = json_object_get(c, "documents"),
                      .kwargs = json_object_get(c, "chat_template_kwargs") };
}

bool fj_row_read(const json_t *o, fj_data_format f, bool open_rows, fj_arena *a, fj_data_row *r,
                 fj_err *e) {
    if (!json_is_object(o))
        return fj_fail(e, FJ_EFORMAT, "expected an object for each row, found %s", fj_json_kind(o));
    if (!eval_keys(o, a, r, e)) return false;
    if (f == FJ_DATA_TEXT) {
        const json_t *v = json_object_get(o, "text");
        if (!v || !json_is_string(v))
            return fj_fail(e, FJ_EFORMAT, "\"text\": expected a string, found %s", fj_json_kind(v));
        if (blank(json_string_value(v))) return fj_fail(e, FJ_EFORMAT, "\"text\" is empty");
        r->text_n = json_string_length(v);
        r->text = fj_arena_strndup(a, json_string_value(v), r->text_n);
        return true;
    }
    fj_turns t = { .a = a, .list = json_array() };
    bool ok;
    switch (f) {
    case FJ_DATA_ALPACA: ok = alpaca(o, &t, e); break;
    case FJ_DATA_SHAREGPT: ok = sharegpt(o, &t, e); break;
    case FJ_DATA_MESSAGES: ok = messages(o, &t, e); break;
    default: ok = prompt(o, &t, e); break;
    }
    bool compared = r->answer || r->regex || r->n_contains;
    ok = ok && answered(&t, open_rows && compared, e);
    if (ok) {
        r->messages = fj_arena_alloc(a, t.n * sizeof *t.m);
        if (t.n) memcpy(r->messages, t.m, t.n * sizeof *t.m);
        r->n_messages = (int)t.n;
        ok = whole(o, &t, r, e);
    }
    free(t.m);
    json_decref(t.list);
    return ok;
}

/* Fields are told apart by their length in front, so that no two different rows read the same. */
static void field(fj_str *s, const char *name, const char *text, size_t n) {
    fj_str_addf(s, "%s %zu\n", name, n);
    fj_str_addn(s, text, n);
    fj_str_addc(s, '\n');
}

void fj_row_hash(fj_data_row *r) {
    fj_str s = { 0 };
    for (int i = 0; i < r->n_messages; i++)
        field(&s, r->messages[i].role, r->messages[i].content, strlen(r->messages[i].content));
    if (r->json) field(&s, "=json", r->json, strlen(r->json));
    if (r->text) field(&s, "text", r->text, r->text_n);
    if (r->answer) field(&s, "=answer", r->answer, strlen(r->answer));
    if (r->regex) field(&s, "=regex", r->regex, strlen(r->regex));
    for (int i = 0; i < r->n_contains; i++)
        field(&s, "=contains", r->contains[i], strlen(r->contains[i]));
    fj_sha256(s.s ? s.s : "", s.n, r->hash);
    fj_str_free(&s);
}
