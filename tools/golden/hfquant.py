"""Tiny quantised Llama folders of every kind that the Hub has, with their values and logits.

bitsandbytes and compressed-tensors pack their own; GPTQ, AWQ and FP8 are packed here as AutoGPTQ, AutoAWQ and
DeepSeek's files are (from whole numbers drawn first, so that no unpacking is trusted). Values are those that
the tool dequantises to in f32; logits those of transformers on the values that forja has in memory: NF4 in
whole blocks of 64 with an absmax of 16 bits, everything else in the config's torch_dtype.
"""
import argparse
import copy
import hashlib
import json
import os
import shutil
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, FineGrainedFP8Config, LlamaConfig, LlamaForCausalLM

import tiny
from common import OUT, load, settle, write, write_json

LENGTH = 24
SIZES = dict(hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2, head_dim=16)
TORCH = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def linears(state):
    return sorted(n for n in state if n.endswith("_proj.weight"))


def words(q, bits, dim):
    """Codes along dim into words of 32 bits, the first in the lowest bits."""
    q = q.numpy().astype(np.uint32)
    q = np.moveaxis(q, dim, -1)
    per = 32 // bits
    q = q.reshape(*q.shape[:-1], q.shape[-1] // per, per)
    out = np.zeros(q.shape[:-1], np.uint32)
    for k in range(per):
        out |= q[..., k] << np.uint32(k * bits)
    return np.moveaxis(out, -1, dim)


def signed(a):
    return torch.from_numpy(np.ascontiguousarray(a).view(np.int32))


def grouped(w, bits, group_of, groups, kind=torch.float16):
    """Round to nearest with a zero point for each group of columns: codes [in, out], scales, zeros."""
    w = w.float().t()
    top, scales, zeros = 2 ** bits - 1, torch.empty(groups, w.shape[1]), torch.empty(groups, w.shape[1])
    q = torch.empty(w.shape, dtype=torch.int64)
    for g in range(groups):
        part = w[group_of == g]
        low, high = part.amin(0).clamp(max=0), part.amax(0).clamp(min=0)
        low[::5] = 0  # some zero points of 0: the first format of GPTQ borrows for them
        scales[g] = ((high - low) / top).clamp(min=2 ** -12).to(kind).float()
        zeros[g] = torch.round(-low / scales[g]).clamp(0, top)
        q[group_of == g] = torch.round(part / scales[g] + zeros[g]).clamp(0, top).long()
    values = scales[group_of] * (q - zeros[group_of])
    return q, scales, zeros.long(), values.t().contiguous()


def gptq(bits=4, group=32, act=False, v2=False, biases=False, dtype="float16", layers=1):
    def make(folder, seed):
        config, state = base(dtype, layers, seed)
        values, mask = {}, 0
        for k in range(32 // bits):
            mask |= 1 << (k * bits)
        for name in linears(state):
            w, x = state.pop(name), name[:-len(".weight")]
            size = w.shape[1] if group < 0 else group
            groups = -(-w.shape[1] // size)
            group_of = torch.arange(w.shape[1]) // size
            if act:
                group_of = group_of[torch.randperm(w.shape[1])]
            q, scales, zeros, values[name] = grouped(w, bits, group_of, groups, TORCH[dtype])
            z = words(zeros, bits, 1)
            state[x + ".qweight"] = signed(words(q, bits, 0))
            state[x + ".qzeros"] = signed(z if v2 else z - np.uint32(mask))
            state[x + ".scales"] = scales.to(TORCH[dtype])
            state[x + ".g_idx"] = group_of.to(torch.int32)
            if biases:
                state[x + ".bias"] = torch.zeros(w.shape[0], dtype=TORCH[dtype])
        quant = dict(quant_method="gptq", bits=bits, group_size=group, desc_act=act, sym=False, static_groups=False,
                     true_sequential=True, damp_percent=0.01, model_name_or_path=None)
        if v2:
            quant.update(checkpoint_format="gptq_v2", lm_head=False, dynamic=None, pack_dtype="int32",
                         meta={"quantizer": ["gptqmodel:2.0.0"]})
        finish(folder, config, state, quant)
        return config, state, values, {}
    return make


def awq(folder, seed):
    config, state = base("float16", 1, seed)
    values, group, order = {}, 32, [0, 2, 4, 6, 1, 3, 5, 7]
    for name in linears(state):
        w, x = state.pop(name), name[:-len(".weight")]
        group_of = torch.arange(w.shape[1]) // group
        q, scales, zeros, values[name] = grouped(w, 4, group_of, w.shape[1] // group)
        turn = lambda a: a.reshape(a.shape[0], -1, 8)[:, :, order].reshape(a.shape)
        state[x + ".qweight"] = signed(words(turn(q), 4, 1))
        state[x + ".qzeros"] = signed(words(turn(zeros), 4, 1))
        state[x + ".scales"] = scales.half()
    finish(folder, config, state, dict(quant_method="awq", bits=4, group_size=group, zero_point=True, version="gemm",
                                       modules_to_not_convert=None))
    return config, state, values, {}


def bnb(layers=1, dtype="bfloat16", **options):
    def make(folder, seed):
        config, state = base(dtype, layers, seed)
        with tempfile.TemporaryDirectory() as plain:
            tiny.save(plain, config, state, {"float16": "F16", "bfloat16": "BF16"}[dtype], 1)
            model = AutoModelForCausalLM.from_pretrained(plain, dtype=TORCH[dtype], device_map="cpu",
                                                         quantization_config=BitsAndBytesConfig(**options))
        model.save_pretrained(folder)
        write_tokenizer(folder)
        return config, load_file(os.path.join(folder, "model.safetensors")), *bnb_values(model)
    return make


def bnb_values(model):
    """Values in f32 by bitsandbytes itself, and those that forja keeps as they are in blocks of 64.

    By its plain torch code: the CPU kernel of 0.50 takes absmax from a wrong block where rows are not whole
    blocks (the values are then further from the weights that were quantised than any code can be).
    """
    import bitsandbytes.functional as F
    from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
    values, kept = {}, {}
    for name, w in model.named_parameters():
        if type(w).__name__ == "Int8Params":
            values[name] = F.int8_vectorwise_dequant(w.data, w.SCB if w.SCB is not None else model.get_submodule(
                name[:-len(".weight")]).state.SCB).float()
        if type(w).__name__ != "Params4bit":
            continue
        state = copy.deepcopy(w.quant_state)
        state.dtype = torch.float32
        absmax = state.absmax
        if state.nested:
            absmax = F.dequantize_blockwise(absmax, state.state2) + state.offset
        values[name] = _dequantize_4bit_compute(w.data.view(torch.uint8).flatten(), absmax, state.code,
                                                state.blocksize, state.shape, torch.float32)
        if state.shape[1] % state.blocksize == 0 and not torch.equal(F.dequantize_4bit(w.data, state), values[name]):
            raise SystemExit(f"{name}: bitsandbytes has two opinions")
        if state.quant_type == "nf4" and state.blocksize == 64 and state.shape[1] % 64 == 0:
            bytes_ = w.data.view(torch.uint8).flatten().long()
            codes = state.code[torch.stack([bytes_ >> 4, bytes_ & 15], 1)].reshape(-1, 64)
            kept[name] = (codes * absmax.half().float()[:, None]).reshape(state.shape)
    return values, kept


def eight(w, scale):
    return (w.float() / scale).clamp(-448, 448).to(torch.float8_e4m3fn)


def spread(scale, block, shape):
    return scale.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)[:shape[0], :shape[1]]


def fp8(block=None, name_of_scale="weight_scale_inv", scales=torch.float32, inputs=False, rows=False, dtype="bfloat16",
        **quant):
    def make(folder, seed):
        config, state = base(dtype, 1, seed)
        values = {}
        for name in linears(state):
            w, x = state[name].float(), name[:-len(".weight")]
            if block:
                pad = torch.zeros([-(-n // b) * b for n, b in zip(w.shape, block)])
                pad[:w.shape[0], :w.shape[1]] = w.abs()
                most = pad.reshape(pad.shape[0] // block[0], block[0], -1, block[1]).amax((1, 3))
            else:
                most = w.abs().amax(1, keepdim=True) if rows else w.abs().amax()
            scale = (most / 448).clamp(min=2 ** -20).to(scales)
            full = spread(scale.float(), block, w.shape) if block else scale.float()
            state[name] = eight(w, full)
            values[name] = state[name].float() * full
            state[f"{x}.{name_of_scale}"] = scale
            if inputs:
                state[x + ".input_scale"] = torch.tensor(0.25)
        finish(folder, config, state, quant | ({"weight_block_size": block} if block else {}))
        return config, state, values, {}
    return make


def compressed(args, form, group=None):
    def make(folder, seed):
        from compressed_tensors.compressors import NaiveQuantizationCompressor, PackedQuantizationCompressor
        from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme
        from compressed_tensors.quantization.utils import calculate_qparams
        config, state = base("bfloat16", 1, seed)
        scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**args), format=form)
        tool = PackedQuantizationCompressor if form == "pack-quantized" else NaiveQuantizationCompressor
        values = {}
        for name in linears(state):
            w, x = state.pop(name).float(), name[:-len(".weight")]
            parts = w.reshape(w.shape[0], -1, group or w.shape[1])
            scale, zero = calculate_qparams(parts.amin(2), parts.amax(2), scheme.weights)
            one = dict(weight=w.bfloat16(), weight_scale=scale.bfloat16())
            if not scheme.weights.symmetric:
                one["weight_zero_point"] = zero.to(torch.int8)
            packed = tool.compress(one, scheme)
            back = {k: v.float() if k == "weight_scale" else v for k, v in packed.items()}
            values[name] = tool.decompress(back, scheme)["weight"]
            for key, v in packed.items():
                state[f"{x}.{key}"] = v.contiguous()
        quant = QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"], format=form,
                                   quantization_status="compressed").to_dict()
        finish(folder, config, state, json.loads(json.dumps(quant)))
        return config, state, values, {}
    return make


def base(dtype, layers, seed):
    config = tiny.config_of(dict(SIZES, num_hidden_layers=layers, torch_dtype=dtype))
    state = tiny.draw(config, {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}[dtype], seed)
    return config, state


def write_tokenizer(folder):
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(tiny.tokenizer(), f)


def finish(folder, config, state, quant):
    os.makedirs(folder)
    write_tokenizer(folder)
    write_json(os.path.join(folder, "config.json"), dict(config, quantization_config=quant))
    save_file({n: t.contiguous() for n, t in state.items()}, os.path.join(folder, "model.safetensors"),
              metadata={"format": "pt"})


KV = dict(quant_method="compressed-tensors")
CASES = {
    "bnb-nf4-double": bnb(2, load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                          bnb_4bit_compute_dtype=torch.bfloat16),
    "bnb-nf4": bnb(dtype="float16", load_in_4bit=True, bnb_4bit_quant_type="nf4",
                   bnb_4bit_quant_storage=torch.float16),
    "bnb-fp4": bnb(load_in_4bit=True, bnb_4bit_quant_type="fp4"),
    "bnb-fp4-double": bnb(load_in_4bit=True, bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=True),
    "bnb-int8": bnb(dtype="float16", load_in_8bit=True),
    "gptq": gptq(layers=2, biases=True),
    "gptq-act-v2": gptq(group=16, act=True, v2=True, dtype="bfloat16"),
    "gptq-8": gptq(bits=8, group=-1, dtype="float32"),
    "gptq-2": gptq(bits=2, group=16),
    "awq": awq,
    "fp8-block": fp8([32, 32], scales=torch.bfloat16, quant_method="fp8", activation_scheme="dynamic", fmt="e4m3"),
    "fp8-odd": fp8([40, 24], dtype="float32", quant_method="fp8", activation_scheme="dynamic"),
    "fp8-tensor": fp8(None, "weight_scale", inputs=True, quant_method="fp8", activation_scheme="static",
                      ignored_layers=["lm_head"]),
    "fbgemm": fp8(None, "weight_scale", rows=True, quant_method="fbgemm_fp8", activation_scale_ub=1200.0,
                  modules_to_not_convert=["lm_head"]),
    "ct-float": compressed(dict(num_bits=8, type="float", strategy="channel"), "float-quantized"),
    "ct-int": compressed(dict(num_bits=8, type="int", strategy="channel"), "int-quantized"),
    "ct-packed": compressed(dict(num_bits=4, type="int", strategy="group", group_size=32), "pack-quantized", 32),
    "ct-packed-zero": compressed(dict(num_bits=4, type="int", strategy="group", group_size=32, symmetric=False),
                                 "pack-quantized", 32),
}


def by_transformers(folder, values):
    """FP8 is what transformers itself can dequantise without a GPU: it must agree."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                 quantization_config=FineGrainedFP8Config(dequantize=True))
    for name, w in values.items():
        if not torch.equal(model.get_parameter(name).data, w):
            raise SystemExit(f"{folder}: transformers has other values of {name}")


def logits_of(config, state, values, kept, dtype, ids):
    memory = {n: t.float() for n, t in state.items() if n.rsplit(".", 1)[0] + ".weight" not in values}
    memory.update({n: kept.get(n, w.to(TORCH[dtype]).float()) for n, w in values.items()})
    out = []
    for kind in (torch.float32, torch.float64):
        model = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="eager")).to(kind).eval()
        missing, extra = model.load_state_dict(memory, strict=False)
        if [n for n in missing if n != "lm_head.weight"] or [n for n in extra if not part_of(n, values)]:
            raise SystemExit(f"missing {missing}, left over {extra}")
        model.tie_weights()
        with torch.no_grad():
            out.append(model(ids[None]).logits[0])
    return out[0], float((out[0] - out[1]).abs().max())


def part_of(name, values):
    return any(name.startswith(w[:-len("weight")]) for w in values)


def sha(w):
    digest = hashlib.sha256(w.contiguous().numpy().astype("<f4").tobytes()).digest()
    return np.frombuffer(digest, ">u4").astype(np.uint32).view(np.int32)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=11)
    p.add_argument("--out", default=OUT)
    p.add_argument("--only", choices=sorted(CASES))
    a = p.parse_args()
    for i, (name, make) in enumerate(CASES.items()):
        if a.only not in (None, name):
            continue
        settle((a.seed * 1000 + i) % 2**32)
        folder = os.path.join(a.out, "hfquant", name)
        shutil.rmtree(folder, ignore_errors=True)
        config, state, values, kept = make(folder, a.seed * 1000 + i)
        if name == "fp8-block":
            by_transformers(folder, values)
        ids = torch.randint(3, config["vocab_size"], (LENGTH,))
        logits, off = logits_of(config, state, values, kept, config["torch_dtype"], ids)
        out = {"ids": ids, "logits": logits}
        for n, w in values.items():
            out[n] = w[-1]
            out["sha:" + n] = sha(w)
        write(folder + ".safetensors", out, seed=a.seed, largest_difference_from_f64=off)


if __name__ == "__main__":
    main()
