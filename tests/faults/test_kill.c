/* test_kill.c - kill -9 at random moments, and resumed until done: the numbers of an uninterrupted run,
 * and at no moment half a file under its final name. */
#include "rig_child.h"

#include <signal.h>

enum { KILLS = 20 };

static const char *const run_of[] = { "lora_dropout=0.1",
                                      "gradient_accumulation_steps=2",
                                      "per_device_train_batch_size=1",
                                      "packing=false",
                                      "max_steps=20",
                                      "save_steps=2",
                                      "eval_steps=5",
                                      "logging_steps=3" };

static void pause_us(int64_t us) {
    struct timespec t = { us / 1000000, us % 1000000 * 1000 };
    nanosleep(&t, NULL);
}

static void killed(const char *name, const char *const *more, int n) {
    fj_rng rng = fj_test_rng();
    char straight[64], broken[64];
    snprintf(straight, sizeof straight, "%s-straight", name);
    snprintf(broken, sizeof broken, "%s-killed", name);
    double t0 = fj_clock();
    assert_int_equal(rig_wait(rig_child(straight, false, more, n, NULL, NULL)), 0);
    int64_t us =
        (int64_t)(fmin(fj_clock() - t0, 1) * 1e6); /* a busy machine: it is resumed anyway */
    int kills = 0, left = 0, ended = 0;
    while (kills < KILLS && ended < 3 * KILLS) {
        bool there = rig_has(broken, "recipe.yaml");
        if (!there)
            fj_remove_tree(rig_path(broken, ""), NULL); /* nothing but its lock: begin again */
        pid_t pid = rig_child(broken, there, more, n, NULL, NULL);
        pause_us((int64_t)fj_rng_below(&rng, (uint64_t)us));
        kill(pid, SIGKILL);
        int status = rig_wait(pid);
        if (WIFSIGNALED(status)) kills++;
        else if (WEXITSTATUS(status)) fail_msg("kill %d: the run failed", kills);
        else { /* it was done before the signal came: from the beginning */
            rig_same(straight, broken);
            fj_remove_tree(rig_path(broken, ""), NULL);
            ended++;
        }
        left += rig_whole_tree(rig_path(broken, ""));
    }
    assert_int_equal(kills, KILLS);
    bool there = rig_has(broken, "recipe.yaml");
    if (!there) fj_remove_tree(rig_path(broken, ""), NULL);
    assert_int_equal(rig_wait(rig_child(broken, there, more, n, NULL, NULL)), 0);
    printf(
        "%s: killed %d times (a run of %lld ms), %d temporary files met, done %d times between\n",
        name, kills, (long long)(us / 1000), left, ended);
    rig_same(straight, broken);
    int rest = rig_whole_tree(rig_path(broken, ""));
    if (rest) fail_msg("%d temporary files are left after the run's end", rest);
}

static void test_lora(void **state) {
    (void)state;
    killed("lora", run_of, FJ_LEN(run_of));
}

static void test_full(void **state) {
    (void)state;
    const char *more[FJ_LEN(run_of) + 2];
    memcpy(more, run_of, sizeof run_of);
    more[FJ_LEN(run_of)] = "method=full";
    more[FJ_LEN(run_of) + 1] = "learning_rate=0.001";
    killed("full", more, FJ_LEN(more));
}

/* What a killed process was writing goes when the run is resumed, and nothing else does. */
static void test_swept(void **state) {
    (void)state;
    (void)rig_train(&(rig){ .folder = "swept" }, "max_steps=1", NULL);
    static const char *const gone[] = { "swept/recipe.yaml.tmp-123", "swept/eval/base.json.tmp-9",
                                        "swept/adapter/adapter_model.safetensors.tmp-77" };
    static const char *const kept[] = { "swept/notes.tmp-", "swept/notes.tmp-1a", "swept/.tmp-12",
                                        "swept/notes.tmp" };
    for (size_t i = 0; i < FJ_LEN(gone); i++) rig_write(gone[i], "half");
    for (size_t i = 0; i < FJ_LEN(kept); i++) rig_write(kept[i], "mine");
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_mkdirs(fj_test_path("swept/checkpoints/checkpoint-1.tmp"), &e), e);
    (void)rig_train(&(rig){ .folder = "swept", .resume = true }, "max_steps=1", NULL);
    assert_false(rig_has("swept", "checkpoints/checkpoint-1.tmp"));
    for (size_t i = 0; i < FJ_LEN(gone); i++)
        if (fj_exists(fj_test_path(gone[i]))) fail_msg("%s is still there", gone[i]);
    for (size_t i = 0; i < FJ_LEN(kept); i++)
        if (!fj_exists(fj_test_path(kept[i]))) fail_msg("%s is gone", kept[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lora),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_swept),
    };
    return cmocka_run_group_tests(tests, rig_init, NULL);
}
