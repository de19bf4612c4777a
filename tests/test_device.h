/* test_device.h - the device that models of a test are on: FORJA_TEST_DEVICE ("cuda", "cuda:1"), the CPU
 * where it is not set.  A device that was asked for and is not there fails the test.
 *
 *     fj_dev *d = fj_test_dev(2, true);                  2 threads, f32
 *     if (fj_test_cpu_only("packs panels")) skip();      the reason is printed */
#ifndef FORJA_TEST_DEVICE_H
#define FORJA_TEST_DEVICE_H

#include "test_util.h"

#include "device/device.h"

static FJ_UNUSED const char *fj_test_device(void) {
    const char *name = getenv("FORJA_TEST_DEVICE");
    return name && *name ? name : "cpu";
}

static FJ_UNUSED fj_dev *fj_test_dev(int threads, bool f32) {
    static bool said;
    fj_err e = { 0 };
    fj_dev *d = fj_dev_open(
        &(fj_dev_opts){ .threads = threads, .f32 = f32, .device = fj_test_device() }, &e);
    if (!d) fail_msg("%s", e.msg);
    if (!said && !d->kern) printf("on %s\n", fj_dev_about(d));
    said = true;
    return d;
}

static FJ_UNUSED bool fj_test_cpu_only(const char *why) {
    if (!strcmp(fj_test_device(), "cpu")) return false;
    printf("SKIP: on the CPU alone: %s\n", why);
    fflush(stdout);
    return true;
}

#endif
