/* The parts of forja pull that need no server: names, addresses, lists, heads, what is chosen; and SHA-1. */
#include "test_util.h"

#include "base/sha1.h"
#include "lifecycle/hub_in.h"

static void sha1_is(const char *text, size_t times, const char *want) {
    for (size_t step = 1; step < 200; step += 37) { /* however it is cut */
        fj_sha1 s;
        char hex[FJ_SHA1_HEX];
        fj_str all = { 0 };
        for (size_t i = 0; i < times; i++) fj_str_add(&all, text);
        fj_sha1_init(&s);
        for (size_t i = 0; i < all.n; i += step)
            fj_sha1_add(&s, all.s + i, FJ_MIN(step, all.n - i));
        fj_sha1_end(&s, hex);
        assert_string_equal(hex, want);
        fj_str_free(&all);
    }
}

/* FIPS 180's own examples, and git's name of the empty file. */
static void test_sha1(void **state) {
    (void)state;
    sha1_is("abc", 1, "a9993e364706816aba3e25717850c26c9cd0d89d");
    sha1_is("", 1, "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    sha1_is("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    sha1_is("a", 1000000, "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    fj_sha1 s;
    char hex[FJ_SHA1_HEX];
    fj_sha1_init(&s);
    fj_sha1_add(&s, "blob 0", 7);
    fj_sha1_end(&s, hex);
    assert_string_equal(hex, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
}

static void test_ids(void **state) {
    (void)state;
    fj_hub_id id;
    fj_err e;
    FJ_OK_OR_FAIL(fj_hub_parse("Qwen/Qwen2.5-0.5B_x", &id, &e), e);
    assert_string_equal(id.repo, "Qwen/Qwen2.5-0.5B_x");
    assert_null(id.file);
    FJ_OK_OR_FAIL(fj_hub_parse("a/b:sub/x.gguf", &id, &e), e);
    assert_string_equal(id.repo, "a/b");
    assert_string_equal(id.file, "sub/x.gguf");
    free(id.file);
    static const char *const bad[] = {
        "",       "a",        "a/",         "/b",       "a/b/c",
        "../b",   "a/..",     "a/b..c",     ".a/b",     "a/-b",
        "a b/c",  "a/b\n",    "a/b?x",      "a:b/c",    "a/b:",
        "a/b:/x", "a/b:../x", "a/b:x/../y", "a/b:x\\y", "https://example.org/a/b"
    };
    for (size_t i = 0; i < FJ_LEN(bad); i++) FJ_FAILS_WITH(fj_hub_parse(bad[i], &id, &e), e, "\"");
    char big[300];
    memset(big, 'a', sizeof big);
    big[97] = '/';
    big[120] = 0;
    FJ_FAILS_WITH(fj_hub_parse(big, &id, &e), e, "is no model of the Hub");
    assert_true(fj_hub_revision_ok("refs/pr/1", &e) && fj_hub_revision_ok("v1.0+x", &e));
    static const char *const revs[] = { "", "..", "a/../b", "-x", "/x", "a b", "a\nb", "a?b" };
    for (size_t i = 0; i < FJ_LEN(revs); i++)
        FJ_FAILS_WITH(fj_hub_revision_ok(revs[i], &e), e, "is no revision");
}

static void test_names(void **state) {
    (void)state;
    static const char *const good[] = { "a",   "a/b.json", ".gitattributes", "..a",     "a..",
                                        "a b", "\xc3\xa9", "a/.b",           "x/.forja" };
    static const char *const bad[] = { "",     "/a",   "a/",     "a//b",       ".",
                                       "..",   "a/..", "../a",   "a/./b",      "a\\b",
                                       "a\nb", "\x7f", ".forja", ".forja/lock" };
    for (size_t i = 0; i < FJ_LEN(good); i++)
        assert_null(fj_hub_name_bad(good[i], strlen(good[i])));
    for (size_t i = 0; i < FJ_LEN(bad); i++)
        assert_non_null(fj_hub_name_bad(bad[i], strlen(bad[i])));
    assert_non_null(fj_hub_name_bad("a\0b", 3));
    char big[600];
    memset(big, 'a', sizeof big);
    assert_null(fj_hub_name_bad(big, 255));
    assert_non_null(fj_hub_name_bad(big, 256));
    for (int i = 0; i < 600; i += 100) big[i + 99] = '/';
    assert_null(fj_hub_name_bad(big, 512));
    assert_non_null(fj_hub_name_bad(big, 513));
}

static void goes(const fj_hub_end *p, const char *from, const char *location, const char *want,
                 bool want_ours) {
    fj_err e = { 0 };
    bool ours;
    char *to = fj_hub_follow(p, from, location, &ours, &e);
    if (!want) {
        if (to) fail_msg("%s from %s is followed to %s", location, from, to);
        assert_true(e.msg[0] && !ours);
        return;
    }
    if (!to) fail_msg("%s from %s: %s", location, from, e.msg);
    assert_string_equal(to, want);
    assert_int_equal(ours, want_ours);
    free(to);
}

/* Where redirections may lead, and which of them see the token. */
static void test_redirections(void **state) {
    (void)state;
    fj_hub_end p;
    fj_err e;
    FJ_OK_OR_FAIL(fj_hub_end_open(&p, "https://Hub.example/", &e), e);
    const char *from = "https://hub.example/a/b/resolve/x/c.json";
    assert_string_equal(p.scheme, "https");
    goes(&p, from, "/api/resolve-cache/x", "https://hub.example/api/resolve-cache/x", true);
    goes(&p, from, "https://hub.example:443/y", "https://hub.example:443/y", true);
    goes(&p, from, "https://hub.example:444/y", "https://hub.example:444/y", false);
    goes(&p, from, "https://cdn.example/y?a=b%20c", "https://cdn.example/y?a=b%20c", false);
    static const char signature[] = /* it is of these very bytes */
        "https://cdn.example/xet-bridge/65c0/ee92?X-Amz-Credential=cas%2F2025%2fs3&response-content-disposition="
        "inline%3B+filename*%3DUTF-8%27%27m.gguf%3B+filename%3D%22m.gguf%22%3B&Policy=eyJ0~a-_&x-id=GetObject";
    goes(&p, from, signature, signature, false);
    goes(&p, from, "//cdn.example/y", "https://cdn.example/y", false);
    goes(&p, from, "https://hub.example.evil.example/", "https://hub.example.evil.example/", false);
    goes(&p, from, "http://hub.example/y", NULL, false); /* never down to http */
    goes(&p, from, "http://cdn.example/y", NULL, false);
    goes(&p, from, "file:///etc/passwd", NULL, false);
    goes(&p, from, "ftp://hub.example/x", NULL, false);
    goes(&p, from, "gopher://hub.example/x", NULL, false);
    goes(&p, from, "javascript:alert(1)", NULL, false);
    goes(&p, from, "https://u:p@hub.example/x", NULL, false);
    goes(&p, from, "https://:p@hub.example/x", NULL, false);
    goes(&p, from, "https://@hub.example/x", NULL, false);
    fj_hub_end_close(&p);
    FJ_OK_OR_FAIL(fj_hub_end_open(&p, "http://127.0.0.1:8080/mirror", &e), e);
    assert_string_equal(p.base, "http://127.0.0.1:8080/mirror");
    goes(&p, "http://127.0.0.1:8080/x", "http://127.0.0.1:8081/y", "http://127.0.0.1:8081/y",
         false);
    goes(&p, "http://127.0.0.1:8080/x", "https://127.0.0.1:8080/y", "https://127.0.0.1:8080/y",
         false);
    goes(&p, "http://127.0.0.1:8080/x", "http://localhost:8080/y", NULL, false);
    goes(&p, "https://cdn.example/x", "http://127.0.0.1:8080/y", "http://127.0.0.1:8080/y", true);
    fj_hub_end_close(&p);
    static const char *const bad[] = { "",
                                       "huggingface.co:x",
                                       "file:///x",
                                       "ftp://x",
                                       "https://u:p@x",
                                       "https://x?y=z",
                                       "https://x#y",
                                       "https://" };
    for (size_t i = 0; i < FJ_LEN(bad); i++)
        FJ_FAILS_WITH(fj_hub_end_open(&p, bad[i], &e), e, "HF_ENDPOINT");
}

static void head_of(fj_hub_head *h, const char *const *lines) {
    *h = (fj_hub_head){ 0 };
    fj_hub_head_clear(h);
    for (; *lines; lines++) fj_hub_head_line(h, *lines, strlen(*lines));
}

static void test_heads(void **state) {
    (void)state;
    fj_hub_head h;
    head_of(&h, (const char *const[]){ "HTTP/1.1 100 Continue\r\n", "ETag: \"old\"\r\n",
                                       "HTTP/1.1 206 Partial\r\n", "etag:   W/\"abc\"  \r\n",
                                       "X-Linked-ETag: \"def\"\r\n", "X-LINKED-SIZE: 12\r\n",
                                       "Content-Range: bytes 5-9/10\r\n", "Content-Length: 5\r\n",
                                       "Retry-After: 7\r\n", "X-Error-Code: GatedRepo\r\n",
                                       "Location: https://x/y\r\n", NULL });
    assert_int_equal(h.status, 206);
    assert_string_equal(h.etag, "abc");
    assert_string_equal(h.linked_etag, "def");
    assert_string_equal(h.error, "GatedRepo");
    assert_string_equal(h.location, "https://x/y");
    assert_true(h.linked_size == 12 && h.from == 5 && h.total == 10 && h.length == 5 &&
                h.retry_s == 7 && !h.bad);
    fj_hub_head_clear(&h);
    head_of(&h, (const char *const[]){ "HTTP/2 200\r\n", "Content-Length: -5\r\n",
                                       "X-Linked-Size: 99999999999999999999\r\n",
                                       "Content-Range: bytes */12\r\n",
                                       "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n",
                                       "ETag:\r\n", ": x\r\n", "\r\n", NULL });
    assert_true(h.status == 200 && h.length == -1 && h.linked_size == -1 && h.from == -1 &&
                h.total == 12 && h.retry_s == -1);
    fj_hub_head_clear(&h);
    head_of(&h, (const char *const[]){ "HTTP/2 429\r\n", "RateLimit: \"api\";r=0;t=55\r\n",
                                       "RateLimit-Policy: \"fixed window\";\"api\";q=500;w=300\r\n",
                                       NULL });
    assert_true(h.status == 429 && h.limit_s == 55 && h.retry_s == -1);
    fj_hub_head_clear(&h);
    head_of(&h, (const char *const[]){ "HTTP/2 429\r\n", "RateLimit: ;t=", NULL });
    assert_int_equal(h.limit_s, -1);
    fj_hub_head_clear(&h);
    char big[9000];
    memset(big, 'x', sizeof big);
    memcpy(big, "Location: ", 10);
    fj_hub_head_line(&h, big, sizeof big);
    assert_non_null(h.bad);
    assert_null(h.location);
    fj_hub_head_clear(&h);
    memcpy(big, "ETag: \"  ", 9);
    fj_hub_head_line(&h, big, sizeof big);
    assert_true(!h.bad && !h.etag[0]); /* half of a hash would be another one */
    for (int i = 0; i < 8; i++) fj_hub_head_line(&h, big, sizeof big);
    assert_non_null(h.bad);
    fj_hub_head_clear(&h);
}

#define SHA "0123456789abcdef0123456789abcdef01234567"
static bool parse(fj_hub_list *l, const char *text, fj_err *e) {
    return fj_hub_list_parse(l, text, strlen(text), "list", e);
}

static void test_lists(void **state) {
    (void)state;
    fj_hub_list l;
    fj_err e;
    FJ_OK_OR_FAIL(parse(&l,
                        "{\"sha\":\"" SHA
                        "\",\"gated\":\"auto\",\"siblings\":[{\"rfilename\":\"z\"},"
                        "{\"rfilename\":\"a/b\",\"size\":5,\"blobId\":\"" SHA "\",\"lfs\":null},"
                        "{\"rfilename\":\"m\",\"size\":7,\"blobId\":\"" SHA
                        "\",\"lfs\":{\"sha256\":\"" SHA "012345670123456701234567\",\"size\":9}}]}",
                        &e),
                  e);
    assert_int_equal(l.n, 3);
    assert_string_equal(l.f[0].name, "a/b");
    assert_true(l.f[0].size == 5 && !strcmp(l.f[0].blob, SHA) && !*l.f[0].sha256);
    assert_true(l.f[1].size == 9 && !*l.f[1].blob && strlen(l.f[1].sha256) == 64);
    assert_true(l.f[2].size == -1 && !*l.f[2].blob);
    const char *path = fj_test_path("list.json");
    FJ_OK_OR_FAIL(fj_hub_list_save(&l, path, &e), e);
    size_t n;
    char *text = fj_read_file(path, 1 << 16, &n, &e);
    fj_hub_list again;
    FJ_OK_OR_FAIL(text && fj_hub_list_parse(&again, text, n, "list", &e), e);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(l.f[i].name, again.f[i].name);
        assert_string_equal(l.f[i].sha256, again.f[i].sha256);
        assert_string_equal(l.f[i].blob, again.f[i].blob);
        assert_int_equal(l.f[i].size, again.f[i].size);
    }
    free(text);
    fj_hub_list_free(&l);
    fj_hub_list_free(&again);
    /* zeros in what others write, and behind a hash */
    FJ_OK_OR_FAIL(
        parse(&l, "{\"sha\":\"" SHA "\",\"config\":{\"pad\":\"\\u0000\"},\"siblings\":[]}", &e), e);
    fj_hub_list_free(&l);
    FJ_OK_OR_FAIL(parse(&l, "{\"sha\":\"" SHA "\\u0000" SHA SHA SHA "\",\"siblings\":[]}", &e), e);
    assert_string_equal(l.commit, SHA);
    fj_hub_list_free(&l);
#define ONE(x) "{\"sha\":\"" SHA "\",\"siblings\":[" x "]}"
    static const char *const bad[][2] = {
        { "[]", "\"sha\"" },
        { "{\"sha\":\"main\",\"siblings\":[]}", "\"sha\"" },
        { "{\"sha\":\"" SHA "\"}", "siblings" },
        { ONE("3"), "rfilename" },
        { ONE("{\"rfilename\":\"../x\"}"), "\"..\"" },
        { ONE("{\"rfilename\":\"/etc/passwd\"}"), "begins with" },
        { ONE("{\"rfilename\":\"a\\\\b\"}"), "backslash" },
        { ONE("{\"rfilename\":\"a\\u0000b\"}"), "control" },
        { ONE("{\"rfilename\":\"a\\u000ab\"}"), "control" },
        { ONE("{\"rfilename\":\".forja/lock\"}"), ".forja" },
        { ONE("{\"rfilename\":\"a\",\"size\":-1}"), "size" },
        { ONE("{\"rfilename\":\"a\",\"size\":9000000000000000000}"), "size" },
        { ONE("{\"rfilename\":\"a\",\"size\":99999999999999999999}"), "JSON" },
        { ONE("{\"rfilename\":\"a\",\"size\":\"5\"}"), "size" },
        { ONE("{\"rfilename\":\"a\",\"blobId\":\"../../x\"}"), "hash" },
        { ONE("{\"rfilename\":\"a\",\"lfs\":{\"sha256\":\"x\"}}"), "hash" },
        { ONE("{\"rfilename\":\"a\"},{\"rfilename\":\"a\"}"), "twice" },
    };
    for (size_t i = 0; i < FJ_LEN(bad); i++) FJ_FAILS_WITH(parse(&l, bad[i][0], &e), e, bad[i][1]);
}

/* ---- choosing -------------------------------------------------------------------------------------- */
/* names: words; gives the chosen ones as words, or the error. */
static char *pick(const char *names, const char *file, fj_hub_opts o, bool *single) {
    fj_hub_list l = { 0 };
    fj_str s = { 0 }, json = { 0 };
    fj_err e = { 0 };
    fj_str_add(&json, "{\"sha\":\"" SHA "\",\"siblings\":[");
    for (const char *w = names; *w;) {
        size_t n = strcspn(w, " ");
        fj_str_addf(&json, "%s{\"rfilename\":\"%.*s\",\"size\":1000000000}", w == names ? "" : ",",
                    (int)n, w);
        w += n + strspn(w + n, " ");
    }
    fj_str_add(&json, "]}");
    FJ_OK_OR_FAIL(parse(&l, json.s, &e), e);
    fj_hub_id id = { .repo = "o/n", .file = (char *)(uintptr_t)file };
    size_t *at, n;
    if (fj_hub_pick(&l, &id, &o, &at, &n, single, &e)) {
        for (size_t i = 0; i < n; i++) fj_str_addf(&s, "%s%s", i ? " " : "", l.f[at[i]].name);
        free(at);
    } else fj_str_addf(&s, "ERROR %s", e.msg);
    fj_str_free(&json);
    fj_hub_list_free(&l);
    return fj_str_take(&s);
}

static void picks(const char *names, const char *file, const char *want) {
    bool single;
    char *got = pick(names, file, (fj_hub_opts){ 0 }, &single);
    bool error = !strncmp(want, "ERROR", 5);
    if (error ? !strstr(got, want + 6) || strncmp(got, "ERROR", 5) : strcmp(got, want))
        fail_msg("of %s: \"%s\", expected \"%s\"", names, got, want);
    free(got);
}

static void test_folders(void **state) {
    (void)state;
    picks(
        "README.md config.json generation_config.json model.safetensors pytorch_model.bin tokenizer.json tokenizer_config.json "
        "onnx/model.onnx .gitattributes flax_model.msgpack special_tokens_map.json vocab.json merges.txt chat_template.jinja "
        "additional_chat_templates/tool.jinja training_args.bin",
        NULL,
        "additional_chat_templates/tool.jinja chat_template.jinja config.json generation_config.json merges.txt model.safetensors "
        "special_tokens_map.json tokenizer.json tokenizer_config.json vocab.json");
    picks(
        "config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json "
        "consolidated.safetensors original/x.safetensors tokenizer.model params.json tekken.json",
        NULL,
        "config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json tekken.json "
        "tokenizer.model");
    picks(
        "config.json model.safetensors model.fp16.safetensors model-00001-of-00002.safetensors model.safetensors.index.json",
        NULL, "config.json model.safetensors");
    picks("adapter_config.json adapter_model.safetensors adapter_model.bin README.md", NULL,
          "adapter_config.json adapter_model.safetensors");
    picks("config.json model.safetensors x-Q4_K_M.gguf x-Q8_0.gguf", NULL,
          "config.json model.safetensors");
    picks("config.json pytorch_model.bin", NULL, "ERROR neither safetensors nor GGUF");
    picks("README.md", NULL, "ERROR neither");
}

#define GGUFS                                                                                                                            \
    "README.md config.json m-Q2_K.gguf m-Q4_K_M.gguf m-Q4_K_S.gguf mmproj-F16.gguf m-F16-00001-of-00003.gguf m-F16-00002-of-00003.gguf " \
    "m-F16-00003-of-00003.gguf Q8_0/m-Q8_0-00001-of-00002.gguf Q8_0/m-Q8_0-00002-of-00002.gguf m-UD-Q2_K_XL.gguf"

static void test_ggufs(void **state) {
    (void)state;
    picks(GGUFS, "Q4_K_M", "m-Q4_K_M.gguf");
    picks(GGUFS, "q4_k_m", "m-Q4_K_M.gguf");
    picks(GGUFS, "Q4_K", "ERROR no GGUF of that name; GGUF there: ");
    picks(GGUFS, "Q2_K", "m-Q2_K.gguf");
    picks(GGUFS, "F16",
          "m-F16-00001-of-00003.gguf m-F16-00002-of-00003.gguf m-F16-00003-of-00003.gguf");
    picks(GGUFS, "Q8_0", "Q8_0/m-Q8_0-00001-of-00002.gguf Q8_0/m-Q8_0-00002-of-00002.gguf");
    picks(GGUFS, "mmproj-F16.gguf", "mmproj-F16.gguf");
    picks(GGUFS, "config.json", "config.json");
    picks(GGUFS, "m-Q5.gguf", "ERROR Q4_K_M (1.0 GB)");
    picks(
        GGUFS, NULL,
        "ERROR has 6 GGUF models: say which, as in o/n:NAME; there are Q8_0 (2.0 GB), F16 (3.0 GB), Q2_K (1.0 GB)");
    picks("a.gguf README.md mmproj.gguf", NULL, "a.gguf");
    picks("a-00001-of-00002.gguf a-00002-of-00002.gguf", NULL,
          "a-00001-of-00002.gguf a-00002-of-00002.gguf");
    picks("a-Q4_0.gguf b-Q4_0.gguf", "Q4_0", "ERROR in the names of 2");
    picks("a-Q4_0.gguf a-Q4_0-00001-of-00001.gguf", "a-Q4_0.gguf", "a-Q4_0.gguf");
    picks(".gguf", NULL, ".gguf");
    picks("-00001-of-00002.gguf", NULL, "-00001-of-00002.gguf");
    fj_str many = { 0 };
    for (int i = 0; i < 400; i++) fj_str_addf(&many, "%sm-Q%d_K.gguf", i ? " " : "", i);
    picks(many.s, NULL, "ERROR more");
    fj_str_free(&many);
}

static void test_globs(void **state) {
    (void)state;
    bool single;
    const char *inc[] = { "*.json", "sub/*" }, *exc[] = { "config*" };
    char *got = pick("config.json a.json sub/x.bin b.bin sub/c.json", NULL,
                     (fj_hub_opts){ .include = inc, .n_include = 2 }, &single);
    assert_string_equal(got, "a.json config.json sub/c.json sub/x.bin");
    assert_false(single);
    free(got);
    got = pick("config.json a.json model.safetensors", NULL,
               (fj_hub_opts){ .exclude = exc, .n_exclude = 1 }, &single);
    assert_string_equal(got, "model.safetensors");
    free(got);
    got = pick("config.json", NULL,
               (fj_hub_opts){ .include = exc, .n_include = 1, .exclude = exc, .n_exclude = 1 },
               &single);
    assert_non_null(strstr(got, "leave none"));
    free(got);
    got = pick("config.json", "config.json", (fj_hub_opts){ .include = exc, .n_include = 1 },
               &single);
    assert_non_null(strstr(got, "names a file already"));
    free(got);
}

static void test_token(void **state) {
    (void)state;
    char from[300];
    fj_err e;
    const char *path = fj_test_path("token");
    unsetenv("HF_TOKEN");
    setenv("HF_HOME", fj_test_path("nothing"), 1);
    unsetenv("HF_TOKEN_PATH");
    assert_null(fj_hub_token(NULL, from, &e));
    assert_int_equal(e.code, FJ_OK);
    fj_write_file(path, " hf_abc\n", 8, &e);
    setenv("HF_TOKEN_PATH", path, 1);
    char *t = fj_hub_token(NULL, from, &e);
    assert_string_equal(t, "hf_abc");
    assert_string_equal(from, path);
    free(t);
    setenv("HF_TOKEN", "hf_env", 1);
    t = fj_hub_token(NULL, from, &e);
    assert_string_equal(t, "hf_env");
    free(t);
    setenv("HF_TOKEN", "secret\r\nX: y", 1); /* a second line of the head */
    assert_null(fj_hub_token(NULL, from, &e));
    assert_true(e.code == FJ_EINVAL && !strstr(e.msg, "secret"));
    unsetenv("HF_TOKEN");
    setenv("HF_TOKEN_PATH", fj_test_path("gone"), 1);
    assert_null(fj_hub_token(NULL, from, &e));
    assert_true(strstr(e.msg, "cannot open"));
    unsetenv("HF_TOKEN_PATH");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha1),    cmocka_unit_test(test_ids),
        cmocka_unit_test(test_names),   cmocka_unit_test(test_redirections),
        cmocka_unit_test(test_heads),   cmocka_unit_test(test_lists),
        cmocka_unit_test(test_folders), cmocka_unit_test(test_ggufs),
        cmocka_unit_test(test_globs),   cmocka_unit_test(test_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
