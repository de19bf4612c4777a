#include "test_util.h"

#include "train/recipe.h"
#include "train/recipe_keys.h"

#define BASE "base: m.gguf\ndata: d.jsonl\n"

static bool parse(fj_recipe *r, const char *text, fj_err *e) {
    return fj_recipe_parse(r, text, strlen(text), "r.yaml", "/recipes", NULL, 0, e);
}

static void test_defaults(void **state) {
    (void)state;
    fj_recipe r;
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(parse(&r, BASE, &e), e);
    assert_string_equal(r.base, "/recipes/m.gguf");
    assert_int_equal(r.data.n, 1);
    assert_string_equal(r.data.s[0], "/recipes/d.jsonl");
    assert_int_equal(r.method, FJ_METHOD_LORA);
    assert_int_equal(r.lora_r, 8);
    assert_true(r.lora_alpha == 16 && r.learning_rate == 2e-4 && r.adam_epsilon == 1e-8);
    assert_true(r.packing && !r.f32 && !r.no_eval);
    assert_string_equal(r.device, "auto");
    assert_int_equal(r.max_steps, -1);
    assert_int_equal(r.seed, 42);
    assert_string_equal(r.target_modules.s[0], "all-linear");
    assert_string_equal(r.run_name, "r");
    assert_null(r.output_dir);
    fj_recipe_free(&r);
    FJ_OK_OR_FAIL(parse(&r, BASE "method: full\n", &e), e);
    assert_true(r.learning_rate == 2e-5);
    fj_recipe_free(&r);
    FJ_OK_OR_FAIL(
        fj_recipe_parse(&r, BASE, strlen(BASE), "/x/demo/recipe.yaml", "/x/demo", NULL, 0, &e), e);
    assert_string_equal(r.run_name, "demo");
    fj_recipe_free(&r);
}

static void test_values(void **state) {
    (void)state;
    fj_recipe r;
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(parse(&r,
                        "base: /m/hf\ndata: [a.jsonl, ./b.json]\nlora_r: 16\nlearning_rate: 1e-3\n"
                        "target_modules: [q_proj, v_proj]\nmax_memory: 1.5GiB\npacking: off\n"
                        "lr_scheduler_type: cosine\nsystem_prompt: \"be: kind\"\n"
                        "export: {gguf: out.gguf, type: q8_0}\neval_split: 0.1\n",
                        &e),
                  e);
    assert_string_equal(r.base, "/m/hf");
    assert_string_equal(r.data.s[1], "/recipes/b.json");
    assert_int_equal(r.target_modules.n, 2);
    assert_int_equal(r.max_memory, 3LL << 29);
    assert_false(r.packing);
    assert_int_equal(r.lr_scheduler_type, FJ_SCHED_COSINE);
    assert_string_equal(r.system_prompt, "be: kind");
    assert_string_equal(r.export_gguf, "/recipes/out.gguf");
    assert_int_equal(r.export_type, FJ_RECIPE_Q8_0);
    assert_int_equal(r.layers_to_transform.n, 0);
    fj_recipe_free(&r);
    FJ_OK_OR_FAIL(parse(&r,
                        BASE "layers_to_transform: 3\nrank_pattern: {q_proj: 4, \"a|b\": 6}\n"
                             "loraplus_lr_ratio: 16\ninit_lora_weights: gaussian\n",
                        &e),
                  e);
    assert_int_equal(r.layers_to_transform.n, 1);
    assert_int_equal(r.layers_to_transform.v[0], 3);
    assert_int_equal(r.rank_pattern.n, 2);
    assert_string_equal(r.rank_pattern.p[1].module, "a|b");
    assert_true(r.rank_pattern.p[1].value == 6 && r.loraplus_lr_ratio == 16);
    assert_int_equal(r.init_lora_weights, FJ_INIT_GAUSSIAN);
    fj_recipe_free(&r);
}

static void test_overrides(void **state) {
    (void)state;
    fj_recipe r;
    fj_err e = { 0 };
    const char *o[] = {
        "lora_r=4",   "data=[x.jsonl, y.jsonl]", "system_prompt=a: b # c", "no_eval=true",
        "eval_data=", "learning_rate=1e-5"
    };
    const char *text = BASE "eval_data: e.jsonl\nlora_r: 16\n";
    FJ_OK_OR_FAIL(
        fj_recipe_parse(&r, text, strlen(text), "r.yaml", "/recipes", o, (int)FJ_LEN(o), &e), e);
    assert_int_equal(r.lora_r, 4);
    assert_int_equal(r.data.n, 2);
    char cwd[1024], want[1100];
    assert_non_null(getcwd(cwd, sizeof cwd));
    snprintf(want, sizeof want, "%s/x.jsonl", cwd); /* the shell's folder, not the recipe's */
    assert_string_equal(r.data.s[0], want);
    assert_string_equal(r.system_prompt, "a: b # c");
    assert_int_equal(r.eval_data.n, 0);
    assert_true(r.learning_rate == 1e-5);
    FJ_OK_OR_FAIL(fj_recipe_set(&r, "seed", "7", &e), e);
    assert_int_equal(r.seed, 7);
    FJ_FAILS_WITH(fj_recipe_set(&r, "sed", "7", &e), e, "did you mean seed?");
    fj_recipe_free(&r);
}

static void test_errors(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        { "", "r.yaml: base is missing" },
        { "base: m\n", "r.yaml: data is missing" },
        { BASE "learning_rte: 1\n",
          "r.yaml:3: unknown key \"learning_rte\": did you mean learning_rate?" },
        { BASE "lr: 1\n", "unknown key \"lr\": did you mean learning_rate?" },
        { BASE "batch_size: 1\n", "did you mean per_device_train_batch_size?" },
        { BASE "zzzzzzzz: 1\n", "unknown key \"zzzzzzzz\": `forja train --keys` lists them all" },
        { BASE "lora_r: 0\n", "r.yaml:3: lora_r wants a whole number from 1 to 4096, not \"0\"" },
        { BASE "lora_r: 2.5\n", "lora_r wants a whole number" },
        { BASE "lora_r: 0x10\n", "lora_r wants a whole number" },
        { BASE "lora_r: [1]\n", "lora_r wants a whole number from 1 to 4096, not \"a list\"" },
        { BASE "lora_r:\n", "lora_r wants a whole number from 1 to 4096, not \"nothing\"" },
        { BASE "learning_rate: nan\n", "learning_rate wants a number from 0 to 100, not \"nan\"" },
        { BASE "packing: maybe\n", "packing wants true or false, not \"maybe\"" },
        { BASE "method: qlora\n", "method wants lora or full, not \"qlora\"" },
        { BASE "lr_scheduler_type: x\n", "wants linear, constant or cosine, not \"x\"" },
        { BASE "max_memory: 4 apples\n", "max_memory wants a size such as 4GiB" },
        { BASE "eval_split: 1\n", "eval_split wants a number from 0 to 0.9" },
        { BASE "data: x\n", "r.yaml:3:1: key \"data\" is there twice" },
        { BASE "data2: [", "r.yaml:" },
        { "- a\n", "expected `key: value` lines, found a list" },
        { "base: m\ndata: []\n", "data: expected one or more names" },
        { "base: m\ndata: [a, null]\n", "data: an entry is empty" },
        { "base: {a: b}\ndata: x\n", "base wants a path, not \"a table\"" },
        { "base: \"\"\ndata: x\n", "base: expected a path, found nothing" },
        { BASE "---\nbase: b\n", "document" },
        { BASE "export_gguf: a\nexport: {gguf: x}\n", "r.yaml:4: export_gguf is said twice" },
        { BASE "export: {ggu: x}\n", "export: unknown key \"ggu\"" },
        { BASE "eval_data: e\neval_split: 0.1\n", "eval_data and eval_split are both set" },
        { BASE "warmup_steps: 3\nwarmup_ratio: 0.1\n", "warmup_steps and warmup_ratio" },
        { BASE "max_steps: 0\n", "max_steps is 0" },
        { BASE "max_steps: 3\nwarmup_steps: 4\n", "warmup_steps (4) is over max_steps (3)" },
        { BASE "method: full\ninit_adapter: a\n", "init_adapter goes with method: lora" },
        { BASE "export_type: q8_0\n", "export_gguf names no file" },
        { BASE "run_name: a/b\n", "run_name \"a/b\"" },
        { BASE "device: tpu\n", "r.yaml: device \"tpu\" is not known: cpu, cuda, cuda:N" },
        { BASE "device:\n", "device wants auto, cpu, cuda or cuda:N, not \"nothing\"" },
        { BASE "use_cpu: true\n", "did you mean device?" },
        { BASE "target_modules: [all-linear, q_proj]\n", "all-linear stands alone" },
        { BASE "target_modules: [\"q_(proj\"]\n",
          "target_modules: \"q_(proj\" is no expression: missing closing parenthesis" },
        { BASE "exclude_modules: all-linear\n", "exclude_modules: all-linear would leave nothing" },
        { BASE "layers_to_transform: [0, -1]\n",
          "r.yaml:3: layers_to_transform wants a whole number or a list of them, from 0 to 1048576, "
          "not \"-1\"" },
        { BASE "layers_to_transform: {a: 1}\n", "not \"a table\"" },
        { BASE "layers_to_transform: [[1]]\n", "not \"a list in a list\"" },
        { BASE "rank_pattern: 8\n", "rank_pattern wants a table of names and numbers, not \"8\"" },
        { BASE "rank_pattern: {q_proj: 2.5}\n",
          "r.yaml:3: rank_pattern: \"q_proj\" wants a whole number from 1 to 4096, not \"2.5\"" },
        { BASE "alpha_pattern: {\"a[\": 2.5}\n", "alpha_pattern: \"a[\" is no expression" },
        { BASE "init_lora_weights: pissa\n", "wants true or gaussian, not \"pissa\"" },
        { BASE "init_adapter: a\nrank_pattern: {q_proj: 2}\n",
          "rank_pattern is for a new adapter, and init_adapter names one" },
        { BASE "method: full\nloraplus_lr_ratio: 16\n",
          "loraplus_lr_ratio goes with method: lora" },
        { BASE "loraplus: 16\n", "did you mean loraplus_lr_ratio?" },
        { BASE "? [a]\n: b\n", "r.yaml:3:" },
        { BASE "system_prompt: \"a\\0b\"\n", "r.yaml:3:" },
    };
    for (size_t i = 0; i < FJ_LEN(cases); i++) {
        fj_recipe r;
        fj_err e;
        FJ_FAILS_WITH(parse(&r, cases[i].text, &e), e, cases[i].says);
        assert_null(r.arena.head);
    }
    fj_recipe r;
    fj_err e;
    const char *o = "lora_r";
    FJ_FAILS_WITH(fj_recipe_parse(&r, BASE, strlen(BASE), "r.yaml", "/", &o, 1, &e), e,
                  "override: expected key=value, found \"lora_r\"");
    o = "lora_r=x";
    FJ_FAILS_WITH(fj_recipe_parse(&r, BASE, strlen(BASE), "r.yaml", "/", &o, 1, &e), e,
                  "override: lora_r wants a whole number");
    FJ_FAILS_WITH(fj_recipe_load(&r, "/nowhere.yaml", NULL, 0, &e), e, "cannot open /nowhere.yaml");
}

/* Printed and read again, every key is as it was: with defaults, and with nothing left at its default. */
static void test_print(void **state) {
    (void)state;
    static const char *const texts[] = {
        BASE,
        "base: \"/m \\\"x\\\"\"\ndata: [a, b, \"c\\nd\"]\neval_split: 0.1234567890123\nmethod: full\n"
        "learning_rate: 3.3333333333e-5\nsystem_prompt: \"null\"\nrun_name: \"true\"\nmax_memory: 5GiB\n"
        "gradient_checkpointing: true\nexport_gguf: z\nexport_type: q4_0\nseed: 9007199254740991\n"
        "target_modules: [q_proj]\nno_eval: true\n",
        BASE
        "eval_split: 0.5\ntarget_modules: \".*\\\\.q_proj\"\nexclude_modules: [k_proj, \"layers.1\"]\n"
        "layers_to_transform: [0, 3]\nrank_pattern: {down_proj: 4, \"a\\\\.[01]\": 12}\n"
        "alpha_pattern: {\"x\": 0.125}\ninit_lora_weights: gaussian\nloraplus_lr_ratio: 16\n"
        "use_rslora: true\n",
    };
    for (size_t i = 0; i < FJ_LEN(texts); i++) {
        fj_recipe a, b;
        fj_err e = { 0 };
        FJ_OK_OR_FAIL(parse(&a, texts[i], &e), e);
        char *once = fj_recipe_print(&a);
        FJ_OK_OR_FAIL(
            fj_recipe_parse(&b, once, strlen(once), "other.yaml", "/elsewhere", NULL, 0, &e), e);
        char *twice = fj_recipe_print(&b);
        assert_string_equal(once, twice);
        assert_null(fj_recipe_differs(&a, &b));
        for (int k = 0; k < fj_recipe_n_keys; k++) {
            char line[64];
            snprintf(line, sizeof line, "%s: ", fj_recipe_keys[k].name);
            assert_non_null(strstr(once, line));
        }
        FJ_OK_OR_FAIL(fj_recipe_set(&b, "threads", "3", &e), e);
        FJ_OK_OR_FAIL(fj_recipe_set(&b, "device", "cuda:1", &e), e);
        assert_null(fj_recipe_differs(&a, &b));
        FJ_OK_OR_FAIL(fj_recipe_set(&b, "max_length", "77", &e), e);
        assert_string_equal(fj_recipe_differs(&a, &b), "max_length");
        free(once);
        free(twice);
        fj_recipe_free(&a);
        fj_recipe_free(&b);
    }
}

static void test_gate(void **state) {
    (void)state;
    static const char *const open[] = { BASE "eval_data: e\n", BASE "eval_split: 0.1\n",
                                        BASE "no_eval: true\n" };
    fj_recipe r;
    fj_err e = { 0 };
    for (size_t i = 0; i < FJ_LEN(open); i++) {
        FJ_OK_OR_FAIL(parse(&r, open[i], &e), e);
        FJ_OK_OR_FAIL(fj_recipe_gate(&r, &e), e);
        fj_recipe_free(&r);
    }
    FJ_OK_OR_FAIL(parse(&r, BASE, &e), e);
    FJ_FAILS_WITH(fj_recipe_gate(&r, &e), e,
                  "nothing to measure: name an evaluation set (eval_data");
    assert_int_equal(e.code, FJ_EGATE);
    assert_non_null(strstr(e.msg, "eval_split"));
    assert_non_null(strstr(e.msg, "no_eval"));
    fj_recipe_free(&r);
}

/* The table itself: names differ, defaults are in range (parsing them asserts that), help is there. */
static void test_table(void **state) {
    (void)state;
    char *help = fj_recipe_help();
    for (int i = 0; i < fj_recipe_n_keys; i++) {
        const fj_key *k = &fj_recipe_keys[i];
        assert_non_null(strstr(help, k->name));
        assert_true(strlen(k->help) > 10);
        assert_string_equal(fj_key_near(k->name), k->name);
        for (int j = 0; j < i; j++) assert_string_not_equal(k->name, fj_recipe_keys[j].name);
    }
    free(help);
    fj_recipe r;
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(parse(&r, BASE, &e), e);
    fj_plan_opts o = fj_recipe_plan(&r);
    assert_true(o.packing && o.batch == 4 && o.max_length == 1024 && o.accum == 1 && o.seed == 42);
    fj_recipe_free(&r);
}

static void test_templates(void **state) {
    (void)state;
    static const char *const said[] = { "auto", "raw", "tool_use", "my.jinja", "./t/x", "/abs" };
    static const char *const kept[] = { "auto",         "raw", "tool_use", "/recipes/my.jinja",
                                        "/recipes/t/x", "/abs" };
    fj_err e = { 0 };
    fj_recipe r;
    for (size_t i = 0; i < FJ_LEN(said); i++) {
        fj_str s = { 0 };
        fj_str_addf(&s, BASE "chat_template: %s\n", said[i]);
        FJ_OK_OR_FAIL(parse(&r, s.s, &e), e);
        assert_string_equal(r.chat_template, kept[i]);
        fj_recipe_free(&r);
        fj_str_free(&s);
    }
    FJ_OK_OR_FAIL(
        parse(
            &r,
            BASE
            "chat_template_kwargs: {enable_thinking: false, n: 2, s: \"2\", l: [1.5, null, a b], m: {x: \"q\\\"\"}}\nchat_template_date: 2026-01-31\n",
            &e),
        e);
    static const char json[] =
        "{\"enable_thinking\": false, \"n\": 2, \"s\": \"2\", \"l\": [1.5, null, \"a b\"], \"m\": {\"x\": \"q\\\"\"}}";
    assert_string_equal(r.chat_template_kwargs, json);
    assert_string_equal(r.chat_template_date, "2026-01-31");
    char *text = fj_recipe_print(&r);
    fj_recipe again;
    FJ_OK_OR_FAIL(parse(&again, text, &e), e);
    assert_string_equal(again.chat_template_kwargs, json);
    assert_null(fj_recipe_differs(&r, &again));
    FJ_OK_OR_FAIL(fj_recipe_set(&again, "chat_template_kwargs", "{\"enable_thinking\": true}", &e),
                  e);
    assert_string_equal(fj_recipe_differs(&r, &again), "chat_template_kwargs");
    fj_recipe_free(&again);
    fj_recipe_free(&r);
    free(text);
    FJ_FAILS_WITH(parse(&r, BASE "chat_template_kwargs: [1]\n", &e), e, "chat_template_kwargs");
    FJ_FAILS_WITH(parse(&r, BASE "chat_template_kwargs: \"{\"\n", &e), e,
                  "expected a table such as {enable_thinking: false}");
    FJ_FAILS_WITH(parse(&r, BASE "chat_template_date: 2026-13-01\n", &e), e,
                  "chat_template_date wants a day");
    FJ_FAILS_WITH(parse(&r, BASE "chat_template_date: 2026-01-01x\n", &e), e,
                  "chat_template_date wants a day");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),  cmocka_unit_test(test_values),
        cmocka_unit_test(test_overrides), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_print),     cmocka_unit_test(test_gate),
        cmocka_unit_test(test_table),     cmocka_unit_test(test_templates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
