"""The cases of archs.py: tiny models, one or more per architecture, each with all that is unusual in it.

Case(model type of transformers, its config) and what must show that nothing was overlooked:
  without    changes of the config that a careless reader would make; each has to move the logits
  hub        keys of config.json as released checkpoints have them (transformers 4 wrote those): the same
             model under the other spelling, in NAME/hub.json; None takes a key away
  gguf       changes of the config (the weights stay) after which GGUF can say what the model is: NAME/gguf.json
  lora       keywords of peft's LoraConfig beside rank and alpha
  mxfp4      experts in blocks of 4 bits
  bare       names without "transformer." and the masks as tensors, as the released GPT-2 has them
Sequences are longer than twice 32 keys and than the window.
"""
from dataclasses import dataclass, field

LONG, SHORT, START, NEW, WINDOW = 75, 20, 40, 24, 20  # tokens: prompts, greedy, sliding window
ROWS, BATCH = 12, (44, 29)  # rows of the long prompt whose logits are kept; lengths of the two sequences
MIXED = ["sliding_attention", "full_attention"]
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


@dataclass
class Case:
    type: str
    config: dict
    without: dict = field(default_factory=dict)
    hub: dict = field(default_factory=dict)
    gguf: dict = field(default_factory=dict)
    lora: dict = field(default_factory=lambda: dict(target_modules="all-linear"))
    mxfp4: bool = False
    bare: bool = False


def rope(theta, kind="default", **more):
    return dict(rope_type=kind, rope_theta=theta, **more)


def plain(theta):
    return dict(rope_parameters=rope(theta))


def moe(router):
    return dict(target_modules=ATTENTION, target_parameters=[*EXPERTS, router])


BASE = dict(vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=None)

# gpt-oss with its YaRN as released, but for the lengths: factor and lengths small enough to matter at 75 tokens.
OSS = dict(
    head_dim=16, num_attention_heads=2, num_key_value_heads=1, intermediate_size=32, num_local_experts=4,
    num_experts_per_tok=2, sliding_window=WINDOW, layer_types=MIXED, swiglu_limit=1.5,
    max_position_embeddings=2048, rope_parameters=rope(
        150000.0, "yarn", factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
        original_max_position_embeddings=64))
OSS_WITHOUT = {
    "window": dict(sliding_window=1000), "pattern": dict(layer_types=MIXED[::-1]), "clamp": dict(swiglu_limit=7.0),
    "truncate": dict(rope_parameters=dict(OSS["rope_parameters"], truncate=True)), "yarn": plain(150000.0),
    "top k": dict(num_experts_per_tok=3)}
OSS_GGUF = dict(swiglu_limit=7.0)
OSS_HUB = dict(initial_context_length=4096, experts_per_token=2, swiglu_alpha=None, router_aux_loss_coef=0.9)
SHORT_FACTORS, LONG_FACTORS = [1.0, 1.1, 1.25, 1.5, 1.75, 2.0], [1.0, 1.5, 3.0, 5.5, 9.0, 14.0]

CASES = {
    "llama": Case("llama", dict(
        tie_word_embeddings=True, rope_parameters=rope(
            10000.0, "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=16)),
        without={"scaling": plain(10000.0)}, hub=dict(pretraining_tp=1)),
    "mistral": Case("mistral", dict(head_dim=16, sliding_window=WINDOW, **plain(10000.0)), without={
        "window": dict(sliding_window=None), "window + 1": dict(sliding_window=WINDOW + 1)},
                    gguf=dict(sliding_window=None)),
    "qwen2": Case("qwen2", dict(tie_word_embeddings=True, **plain(1000000.0)), hub=dict(
        use_mrope=False, layer_types=None, sliding_window=32768, max_window_layers=1, use_sliding_window=False)),
    "qwen2-window": Case("qwen2", dict(
        num_hidden_layers=3, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1,
        rope_parameters=rope(10000.0, "yarn", factor=4.0, original_max_position_embeddings=16)), without={
            "window": dict(use_sliding_window=False), "first layer": dict(max_window_layers=0),
            "yarn": plain(10000.0)}, hub=dict(layer_types=None), gguf=dict(use_sliding_window=False)),
    "qwen3": Case("qwen3", dict(head_dim=16, tie_word_embeddings=True, **plain(1000000.0)),
                  hub=dict(layer_types=None)),
    "qwen3-moe": Case("qwen3_moe", dict(
        head_dim=16, num_local_experts=5, num_experts_per_tok=2, moe_intermediate_size=16,
        norm_topk_prob=True, **plain(1000000.0)), without={
            "norm_topk_prob": dict(norm_topk_prob=False), "top k": dict(num_experts_per_tok=3)},
        hub=dict(num_experts=5, num_local_experts=None), lora=moe("mlp.gate.weight")),
    "qwen3-moe-mixed": Case("qwen3_moe", dict(
        head_dim=8, attention_bias=True, num_hidden_layers=4, num_local_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
        decoder_sparse_step=2, mlp_only_layers=[3], intermediate_size=24, norm_topk_prob=False,
        tie_word_embeddings=True, **plain(10000.0)), without={"norm_topk_prob": dict(norm_topk_prob=True)},
        hub=dict(num_experts=4, num_local_experts=None), lora=moe("mlp.gate.weight")),
    "mixtral": Case("mixtral", dict(
        num_local_experts=4, num_experts_per_tok=2, intermediate_size=16, **plain(1000000.0)),
        without={"top k": dict(num_experts_per_tok=1)}, hub=dict(head_dim=None)),
    "gemma2": Case("gemma2", dict(
        head_dim=16, pad_token_id=0, query_pre_attn_scalar=24, sliding_window=WINDOW, attn_logit_softcapping=2.0,
        final_logit_softcapping=2.5, **plain(10000.0)), without={
            "scale": dict(query_pre_attn_scalar=16), "attention cap": dict(attn_logit_softcapping=None),
            "logit cap": dict(final_logit_softcapping=None), "window": dict(sliding_window=1000),
            "pattern": dict(layer_types=MIXED[::-1])},
        hub=dict(hidden_act="gelu_pytorch_tanh", layer_types=None, tie_word_embeddings=None, cache_implementation="hybrid"),
        gguf=dict(query_pre_attn_scalar=16)),
    "gemma3": Case("gemma3_text", dict(
        head_dim=16, pad_token_id=0, num_hidden_layers=3, query_pre_attn_scalar=24, sliding_window=WINDOW,
        sliding_window_pattern=3, rope_parameters={
            "full_attention": rope(100000.0, "linear", factor=8.0), "sliding_attention": rope(1000.0)}), without={
                "local base": dict(rope_parameters={
                    "full_attention": rope(100000.0, "linear", factor=8.0), "sliding_attention": rope(100000.0)}),
                "scaling": dict(rope_parameters={
                    "full_attention": rope(100000.0), "sliding_attention": rope(1000.0)}),
                "scale": dict(query_pre_attn_scalar=16), "window": dict(sliding_window=1000),
                "pattern": dict(sliding_window_pattern=2)},
        hub=dict(rope_parameters=None, rope_theta=100000.0, rope_local_base_freq=1000.0,
                 rope_scaling=dict(factor=8.0, rope_type="linear"), layer_types=None, _sliding_window_pattern=None,
                 cache_implementation="hybrid", tie_word_embeddings=None),
        gguf=dict(query_pre_attn_scalar=16, sliding_window_pattern=6)),
    "phi3": Case("phi3", dict(
        num_key_value_heads=4, pad_token_id=0, sliding_window=WINDOW, original_max_position_embeddings=128,
        **plain(10000.0)), without={"window": dict(sliding_window=None)},
        hub=dict(partial_rotary_factor=None, rope_scaling=None, attention_bias=False, embd_pdrop=0.0),
        gguf=dict(sliding_window=None)),
    "phi3-longrope": Case("phi3", dict(
        num_attention_heads=2, num_key_value_heads=1, pad_token_id=0, tie_word_embeddings=True,
        partial_rotary_factor=0.75, original_max_position_embeddings=24, rope_parameters=rope(
            10000.0, "longrope", short_factor=SHORT_FACTORS, long_factor=LONG_FACTORS,
            original_max_position_embeddings=24, partial_rotary_factor=0.75)), without={
                "scaling": dict(rope_parameters=rope(10000.0, partial_rotary_factor=0.75)),
                "attention factor": dict(max_position_embeddings=24),
                "short factors": dict(original_max_position_embeddings=127)},
        hub=dict(attention_bias=False, full_attn_mod=1, interpolate_factor=1, lm_head_bias=False, mlp_bias=False,
                 auto_map={"AutoConfig": "configuration_phi3.Phi3Config"}, rope_scaling=dict(
                     type="longrope", short_factor=SHORT_FACTORS, long_factor=LONG_FACTORS))),
    "olmo2": Case("olmo2", dict(pad_token_id=0, **plain(500000.0))),
    "granite": Case("granite", dict(
        tie_word_embeddings=True, embedding_multiplier=2.5, residual_multiplier=0.7, attention_multiplier=0.2,
        logits_scaling=0.5, **plain(10000.0)), without={
            k: {k: 1.0} for k in ("embedding_multiplier", "residual_multiplier", "logits_scaling")} | {
                "attention_multiplier": dict(attention_multiplier=8 ** -0.5)}),
    "smollm3": Case("smollm3", dict(
        num_hidden_layers=4, intermediate_size=24, pad_token_id=0, **plain(5000000.0)), without={
            "rope everywhere": dict(no_rope_layers=[1, 1, 1, 1]), "the other way": dict(no_rope_layers=[0, 0, 0, 1])},
        hub=dict(layer_types=None, pretraining_tp=2, max_window_layers=28)),
    "smollm3-pattern": Case("smollm3", dict(
        pad_token_id=0, intermediate_size=24, tie_word_embeddings=False, no_rope_layers=[0, 1], mlp_bias=True,
        use_sliding_window=True, sliding_window=WINDOW, **plain(10000.0)), without={
            "rope everywhere": dict(no_rope_layers=[1, 1]), "window": dict(use_sliding_window=False)},
        hub=dict(layer_types=None)),
    "gpt2": Case("gpt2", dict(
        vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=96, n_inner=None, bos_token_id=1, eos_token_id=2),
        hub=dict(n_ctx=96, tie_word_embeddings=None, add_cross_attention=None, task_specific_params={
            "text-generation": dict(do_sample=True, max_length=50)})),
    "gpt2-bare": Case("gpt2", dict(
        vocab_size=64, n_embd=16, n_layer=1, n_head=2, n_positions=80, n_inner=24, bos_token_id=1, eos_token_id=2),
        bare=True),
    "gpt-oss": Case("gpt_oss", OSS, without=OSS_WITHOUT, hub=OSS_HUB, gguf=OSS_GGUF,
                    lora=moe("mlp.router.weight")),
    "gpt-oss-mxfp4": Case("gpt_oss", OSS, without=OSS_WITHOUT, hub=OSS_HUB, gguf=OSS_GGUF,
                          lora=moe("mlp.router.weight"), mxfp4=True),
}


def config_of(case):
    """The keywords of the config; GPT-2 has names of its own."""
    return dict(case.config) if case.type == "gpt2" else dict(BASE, **case.config)
