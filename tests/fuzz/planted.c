/* planted.c - a target with a bug that the corpus file as it is does not meet and a mutation does: the
 * replay has to find it and to name it (test fuzz.planted). */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n >= 4 && data[0] == 'G' && data[1] == 'G' && data[2] != 'U') abort();
    return 0;
}
