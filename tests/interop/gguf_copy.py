"""A GGUF file with its tensors in F32, dequantised by the package gguf: the yardstick for files of any format."""
import gguf
import numpy as np

OWN = ("general.architecture", "general.file_type", "general.quantization_version", "general.alignment")


def values(t):
    """A tensor of a GGUFReader as f32, rows first."""
    return np.array(gguf.quants.dequantize(t.data, t.tensor_type), np.float32)


def writer(src, dst):
    """A GGUFWriter to dst with the architecture and the keys of the GGUFReader src."""
    w = gguf.GGUFWriter(dst, src.fields["general.architecture"].contents())
    for name, field in src.fields.items():
        if name in OWN or name.startswith("GGUF."):
            continue
        sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        w.add_key_value(name, field.contents(), field.types[0], sub)
    return w


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def as_f32(src, dst, change=None):
    """change(name, values) may give other values."""
    reader = gguf.GGUFReader(src)
    w = writer(reader, dst)
    for t in reader.tensors:
        v = values(t)
        w.add_tensor(t.name, change(t.name, v) if change else v)
    finish(w)
    return dst


def formats(path):
    """Names of the tensors' types, without those of norms and biases."""
    return sorted({t.tensor_type.name for t in gguf.GGUFReader(path).tensors if len(t.shape) > 1})
