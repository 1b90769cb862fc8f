"""The memory of keys and values: one pool per model, in which every running text has a region."""

from collections.abc import Sequence
from typing import Any

import torch

from model_image.batching.scheduler import Copy
from model_image.engines.attention import CachedStep, Span, Step, VariableLengthStep


class KeyValuePool:
    """
    Keys and values of `tokens` places in every layer.

    On a CPU the places of one head lie together, as its attention reads them; memory is taken from the system only as
    places are written to. On a GPU those of one place do, as FlashAttention wants them.
    """

    def __init__(self, config: Any, *, tokens: int, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        heads, size = key_heads(config), head_size(config)
        layers = config.num_hidden_layers
        shape = (layers, heads, tokens, size) if device.type == "cpu" else (layers, tokens, heads, size)
        self._keys = torch.empty(shape, device=device, dtype=dtype)
        self._values = torch.empty(shape, device=device, dtype=dtype)
        self._dimension = 2 if device.type == "cpu" else 1

    def copy(self, copy: Copy) -> None:
        """Copies the keys and values of some places to others."""
        for tensor in (self._keys, self._values):
            source = tensor.narrow(self._dimension, copy.source, copy.count)
            tensor.narrow(self._dimension, copy.target, copy.count).copy_(source)

    def step(self, places: Sequence[int], spans: Sequence[Span]) -> Step:
        """The attention of one step whose rows' keys go to `places`; spans of one row first."""
        where = torch.tensor(places, device=self._device)
        if self._device.type == "cpu":
            return CachedStep(self._keys, self._values, where, spans)
        return VariableLengthStep(spans, pool=(self._keys, self._values, where), device=self._device)


def key_heads(config: Any) -> int:
    """The heads of keys and values of a transformers configuration."""
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def head_size(config: Any) -> int:
    """The numbers of one head's key."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
