"""Turns a Llama model in a GGUF file into a transformers directory: weights in bf16, tokenizer, chat template."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from model_image.errors import FetchError

# llama.cpp's names of a layer's weights and transformers' own.
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_CONTROL_TOKEN = 3


def convert(path: Path, directory: Path) -> str:
    """
    Write the model into `directory` as safetensors and return its architecture.

    The weights are the dequantised ones: what the file's 4 bits lost stays lost. Raises FetchError when the file is no
    Llama with a byte-level BPE tokenizer, or holds other weights than its own description asks for.
    """
    reader = GGUFReader(path)
    fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    kind = (
        _value(fields, "general.architecture"),
        _value(fields, "tokenizer.ggml.model"),
        _value(fields, "tokenizer.ggml.pre"),
    )
    if kind != ("llama", "gpt2", "smollm"):
        raise FetchError(f"{path.name} is {'/'.join(map(str, kind))}; only llama/gpt2/smollm can be converted")
    config = _config(fields)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    weights = {_transformers_name(tensor.name): _weight(tensor, config) for tensor in reader.tensors}
    weights.setdefault("lm_head.weight", weights["model.embed_tokens.weight"])
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if wanted != {name: tensor.shape for name, tensor in weights.items()}:
        raise FetchError(f"{path.name} holds other weights than a {config.num_hidden_layers}-layer Llama has")
    model.load_state_dict(weights, assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    model.save_pretrained(directory)
    _tokenizer(fields).save_pretrained(directory)
    return "LlamaForCausalLM"


def _value(fields: Mapping[str, Any], name: str) -> Any:
    if name not in fields:
        raise FetchError(f"the GGUF file has no field {name}; it is not the model that was expected")
    return fields[name].contents()


def _config(fields: Mapping[str, Any]) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(_value(fields, "tokenizer.ggml.tokens")),
        hidden_size=_value(fields, "llama.embedding_length"),
        intermediate_size=_value(fields, "llama.feed_forward_length"),
        num_hidden_layers=_value(fields, "llama.block_count"),
        num_attention_heads=_value(fields, "llama.attention.head_count"),
        num_key_value_heads=_value(fields, "llama.attention.head_count_kv"),
        max_position_embeddings=_value(fields, "llama.context_length"),
        rms_norm_eps=_value(fields, "llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": _value(fields, "llama.rope.freq_base")},
        bos_token_id=_value(fields, "tokenizer.ggml.bos_token_id"),
        eos_token_id=_value(fields, "tokenizer.ggml.eos_token_id"),
        pad_token_id=_value(fields, "tokenizer.ggml.padding_token_id"),
        tie_word_embeddings=True,  # this family has no output matrix of its own, which convert() checks
        dtype="bfloat16",
    )


def _transformers_name(name: str) -> str:
    whole = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if name in whole:
        return whole[name]
    parts = name.split(".")
    if len(parts) != 4 or parts[0] != "blk" or parts[2] not in _LAYER:
        raise FetchError(f"the GGUF file holds the weight {name}, which a Llama has not")
    return f"model.layers.{parts[1]}.{_LAYER[parts[2]]}.{parts[3]}"


def _weight(tensor: Any, config: LlamaConfig) -> torch.Tensor:
    """The weight as bf16; GGUF interleaves the rotary halves of each query and key head, which is undone here."""
    weight = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type))).to(torch.bfloat16)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(tensor.name.split(".")[-2])
    if heads is None:
        return weight
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns).contiguous()


def _tokenizer(fields: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """Byte-level BPE that splits digits singly, as llama.cpp's `smollm` does; control tokens are special."""
    tokens: list[str] = _value(fields, "tokenizer.ggml.tokens")
    kinds: list[int] = _value(fields, "tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ", 1)) for merge in _value(fields, "tokenizer.ggml.merges")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=tokens[_value(fields, "tokenizer.ggml.bos_token_id")],
        eos_token=tokens[_value(fields, "tokenizer.ggml.eos_token_id")],
        unk_token=tokens[_value(fields, "tokenizer.ggml.unknown_token_id")],
        pad_token=tokens[_value(fields, "tokenizer.ggml.padding_token_id")],
        model_max_length=_value(fields, "llama.context_length"),
        clean_up_tokenization_spaces=False,
        chat_template=_value(fields, "tokenizer.chat_template"),
    )
