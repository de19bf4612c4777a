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
    int64_t us = (int64_t)((fj_clock() - t0) * 1e6);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lora),
        cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, rig_init, NULL);
}
