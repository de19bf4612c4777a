/* sha256: the digests that FIPS 180-4's examples have, and libsodium's on any text in any pieces. */
#include "base/rng.h"
#include "base/sha256.h"
#include "test_util.h"

static void digest_is(const char *text, size_t n, bool instructions, const char *want) {
    fj_sha256_state s;
    uint8_t d[32];
    char hex[65];
    fj_sha256_init(&s, instructions);
    fj_sha256_add(&s, text, n);
    fj_sha256_end(&s, d);
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", d[i]);
    assert_string_equal(hex, want);
}

static void test_examples(void **state) {
    (void)state;
    for (int fast = 0; fast < 2; fast++) {
        digest_is("", 0, fast, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        digest_is("abc", 3, fast,
                  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        digest_is("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, fast,
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    }
}

static void test_pieces(void **state) {
    (void)state;
    enum { MOST = 700 };
    uint8_t text[MOST], want[32], got[32];
    fj_rng r;
    fj_rng_seed(&r, 11);
    for (int i = 0; i < MOST; i++) text[i] = (uint8_t)fj_rng_u64(&r);
    for (size_t n = 0; n <= MOST; n++) {
        crypto_hash_sha256(want, text, n);
        fj_sha256_state s;
        fj_sha256_init(&s, true);
        for (size_t at = 0, part; at < n; at += part) {
            part = (size_t)fj_rng_below(&r, 150);
            part = FJ_MIN(n - at, part);
            fj_sha256_add(&s, text + at, part);
        }
        fj_sha256_end(&s, got);
        if (memcmp(got, want, 32) != 0) fail_msg("%zu bytes: another digest than libsodium's", n);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_examples),
                                        cmocka_unit_test(test_pieces) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
