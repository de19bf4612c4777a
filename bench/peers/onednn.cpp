// peer-onednn REPEAT bf16|int8|f32 MxNxK... : C[M,N] = A[M,K] W[N,K]^T in oneDNN, W packed as it likes best beforehand; each a
// line "TYPE MxNxK SECONDS..." with the seconds of a product in each repeat (of 4 GFLOP at least, as in `forja bench`) after two
// that are not counted.  int8: u8 times s8, sums in s32.
// OMP_NUM_THREADS says how many threads; ONEDNN_MAX_CPU_ISA which instructions.
#include <oneapi/dnnl/dnnl.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

using namespace dnnl;
using dt = memory::data_type;
using tag = memory::format_tag;

static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static void fill(memory &m, dt t) {
    size_t bytes = m.get_desc().get_size();
    auto *p = static_cast<unsigned char *>(m.get_data_handle());
    for (size_t i = 0; i < bytes; i++) p[i] = (unsigned char)(i * 2654435761u >> 13);
    // Numbers of an ordinary size: the exponent's byte of every value is 0x3f or 0xbf.
    size_t wide = t == dt::bf16 ? 2 : t == dt::f32 ? 4 : 0;
    for (size_t i = wide; wide && i <= bytes; i += wide) p[i - 1] = (p[i - 1] & 0x80) | 0x3e;
}

static void measure(engine &eng, stream &s, const char *name, memory::dim m, memory::dim n, memory::dim k, int repeat) {
    bool int8 = !strcmp(name, "int8");
    dt a = int8 ? dt::u8 : !strcmp(name, "f32") ? dt::f32 : dt::bf16, w = int8 ? dt::s8 : a, c = int8 ? dt::s32 : dt::f32;
    memory::desc ad({ m, k }, a, tag::ab), wd({ k, n }, w, tag::any), cd({ m, n }, c, tag::ab);
    matmul::primitive_desc pd(matmul::desc(ad, wd, cd), eng);
    matmul p(pd);
    memory am(pd.src_desc(), eng), wm(pd.weights_desc(), eng), cm(pd.dst_desc(), eng);
    fill(am, a);
    fill(wm, w);
    std::unordered_map<int, memory> args{ { DNNL_ARG_SRC, am }, { DNNL_ARG_WEIGHTS, wm }, { DNNL_ARG_DST, cm } };
    printf("%s %ldx%ldx%ld", name, (long)m, (long)n, (long)k);
    double flops = 2.0 * (double)m * (double)n * (double)k;
    int times = flops < 4e9 ? (int)(4e9 / flops) : 1;
    for (int i = -2; i < repeat; i++) {
        double t0 = now();
        for (int j = 0; j < times; j++) {
            p.execute(s, args);
            s.wait();
        }
        if (i >= 0) printf(" %.9f", (now() - t0) / times);
    }
    printf(" # %s\n", pd.impl_info_str());
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: peer-onednn REPEAT bf16|int8|f32 MxNxK...\n");
        return 2;
    }
    engine eng(engine::kind::cpu, 0);
    stream s(eng);
    for (int i = 3; i < argc; i++) {
        long m, n, k;
        if (sscanf(argv[i], "%ldx%ldx%ld", &m, &n, &k) != 3) return 2;
        measure(eng, s, argv[2], m, n, k, atoi(argv[1]));
    }
    return 0;
}
