// peer-llama MODEL THREADS REPEAT WHAT... : what llama.cpp does of WHAT, each a line "WHAT SECONDS..." with the seconds of
// each repeat after one that is not counted; the file to its first token first ("load").
//
//   prefill:N      a prompt of N tokens, the head for the last one
//   decode:S:C:T   S sequences with C tokens behind them: T new tokens each, one after another
//
// Batches of 512 as in its own programs; flash attention and repacked weights as it chooses itself.
#include "llama.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static llama_context *open_context(llama_model *m, int threads, int tokens, int seqs) {
    llama_context_params p = llama_context_default_params();
    p.n_ctx = (uint32_t)(tokens + 256);
    p.n_batch = 2048;
    p.n_ubatch = 512;
    p.n_seq_max = (uint32_t)seqs;
    p.n_threads = p.n_threads_batch = threads;
    p.kv_unified = seqs == 1;
    if (seqs > 1) p.n_ctx = (uint32_t)((tokens / seqs + 64 + 255) / 256 * 256 * seqs);
    llama_context *c = llama_init_from_model(m, p);
    if (!c) exit(1);
    return c;
}

struct rows {
    llama_batch b;
    int vocab;
    unsigned seed = 1;
    explicit rows(int n, int vocab_) : b(llama_batch_init(n, 0, 1)), vocab(vocab_) {}
    ~rows() { llama_batch_free(b); }
    void clear() { b.n_tokens = 0; }
    void add(int seq, int pos, bool logits) {
        int i = b.n_tokens++;
        seed = seed * 1664525u + 1013904223u;
        b.token[i] = (llama_token)(3 + (seed >> 8) % (unsigned)(vocab - 3));
        b.pos[i] = pos;
        b.n_seq_id[i] = 1;
        b.seq_id[i][0] = seq;
        b.logits[i] = logits;
    }
    void run(llama_context *c) {
        if (llama_decode(c, b)) {
            fprintf(stderr, "peer-llama: llama_decode failed\n");
            exit(1);
        }
    }
};

static void prompt(llama_context *c, rows &r, int seq, int n) {
    for (int at = 0; at < n; at += 2048) {
        int k = n - at < 2048 ? n - at : 2048;
        r.clear();
        for (int i = 0; i < k; i++) r.add(seq, at + i, at + i + 1 == n);
        r.run(c);
    }
    llama_synchronize(c);
}

static void measure(llama_model *m, int threads, int repeat, const char *what) {
    int vocab = llama_vocab_n_tokens(llama_model_get_vocab(m)), n = 0, s = 1, c = 0, t = 0;
    rows r(2048, vocab);
    std::vector<double> times;
    if (sscanf(what, "prefill:%d", &n) == 1) {
        llama_context *x = open_context(m, threads, n, 1);
        for (int i = -1; i < repeat; i++) {
            double t0 = now();
            prompt(x, r, 0, n);
            if (i >= 0) times.push_back(now() - t0);
            llama_memory_clear(llama_get_memory(x), false);
        }
        llama_free(x);
    } else if (sscanf(what, "decode:%d:%d:%d", &s, &c, &t) == 3) {
        llama_context *x = open_context(m, threads, (c + t + 1) * s, s);
        for (int k = 0; k < s; k++) prompt(x, r, k, c);
        for (int i = -1; i < repeat; i++) {
            double t0 = now();
            for (int k = 0; k < t; k++) {
                r.clear();
                for (int q = 0; q < s; q++) r.add(q, c + k, true);
                r.run(x);
                llama_synchronize(x);
            }
            if (i >= 0) times.push_back(now() - t0);
            for (int q = 0; q < s; q++) llama_memory_seq_rm(llama_get_memory(x), q, c, -1);
        }
        llama_free(x);
    } else {
        fprintf(stderr, "peer-llama: what is %s?\n", what);
        exit(2);
    }
    printf("%s", what);
    for (double v : times) printf(" %.6f", v);
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: peer-llama MODEL THREADS REPEAT prefill:N|decode:STREAMS:CONTEXT:TOKENS...\n");
        return 2;
    }
    llama_log_set([](ggml_log_level level, const char *text, void *) {
        if (level >= GGML_LOG_LEVEL_ERROR || getenv("PEER_LOUD")) fputs(text, stderr);
    }, nullptr);
    int threads = atoi(argv[2]), repeat = atoi(argv[3]);
    /* Linux lends the tiles of AMX to who asks; llama.cpp's kernels use them and do not ask in every build. */
    syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */);
    double t0 = now();
    llama_backend_init();
    llama_model *m = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!m) return 1;
    {
        llama_context *x = open_context(m, threads, 64, 1);
        rows r(2048, llama_vocab_n_tokens(llama_model_get_vocab(m)));
        prompt(x, r, 0, 1);
        llama_free(x);
    }
    printf("load %.6f\n", now() - t0);
    for (int i = 4; i < argc; i++) measure(m, threads, repeat, argv[i]);
    llama_model_free(m);
    return 0;
}
