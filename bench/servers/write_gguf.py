"""Writes a GPT-2 artefact as GGUF, in float32 or with the linear layers in 8 bits, with the names llama.cpp knows."""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
from safetensors import safe_open

_LAYER = {
    "ln_1.weight": "attn_norm.weight", "ln_1.bias": "attn_norm.bias",
    "attn.c_attn.weight": "attn_qkv.weight", "attn.c_attn.bias": "attn_qkv.bias",
    "attn.c_proj.weight": "attn_output.weight", "attn.c_proj.bias": "attn_output.bias",
    "ln_2.weight": "ffn_norm.weight", "ln_2.bias": "ffn_norm.bias",
    "mlp.c_fc.weight": "ffn_up.weight", "mlp.c_fc.bias": "ffn_up.bias",
    "mlp.c_proj.weight": "ffn_down.weight", "mlp.c_proj.bias": "ffn_down.bias",
}  # fmt: skip
_GLOBAL = {
    "wte.weight": "token_embd.weight",
    "wpe.weight": "position_embd.weight",
    "ln_f.weight": "output_norm.weight",
    "ln_f.bias": "output_norm.bias",
}


def name_of(name: str) -> str | None:
    """llama.cpp's name of a tensor of transformers' GPT-2, None for one that is no weight."""
    short = name.removeprefix("transformer.")
    if short in _GLOBAL:
        return _GLOBAL[short]
    _, number, rest = short.split(".", 2)
    return f"blk.{number}.{_LAYER[rest]}" if rest in _LAYER else None


def write(model: Path, file: Path, kind: str) -> None:
    """`kind` is f32 or q8_0."""
    config = json.loads((model / "config.json").read_text())
    writer = gguf.GGUFWriter(file, "gpt2")
    writer.add_name(model.parent.name)
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    write_vocabulary(writer, model, config)
    quantised = gguf.GGMLQuantizationType.Q8_0 if kind == "q8_0" else gguf.GGMLQuantizationType.F32
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if kind == "q8_0" else gguf.LlamaFileType.ALL_F32)
    with safe_open(model / "model.safetensors", framework="np") as weights:
        for name in weights.keys():  # noqa: SIM118  (no dictionary)
            target = name_of(name)
            if target is None or name == "lm_head.weight":
                continue
            tensor = weights.get_tensor(name).astype(np.float32)
            if ".c_" in name and tensor.ndim == 2:  # Conv1D keeps its weights the other way round
                tensor = np.ascontiguousarray(tensor.T)
            large = tensor.ndim == 2 and "position" not in target
            data = gguf.quantize(tensor, quantised) if large else tensor
            writer.add_tensor(target, data, raw_dtype=quantised if large else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_vocabulary(writer: gguf.GGUFWriter, model: Path, config: dict) -> None:
    """The byte-level BPE; prompts are sent as ids, so that llama.cpp's way of splitting text is never used."""
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    kinds = [gguf.TokenType.NORMAL] * len(tokens)
    for added in tokenizer["added_tokens"]:
        assert added["id"] == len(tokens)
        tokens.append(added["content"])
        kinds.append(gguf.TokenType.CONTROL)
    assert len(tokens) == config["vocab_size"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])


write(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
