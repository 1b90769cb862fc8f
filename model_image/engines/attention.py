"""Attention over packed texts: the tokens of many texts in one row, each seeing those of its own text only."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from transformers import AttentionInterface

PACKED = "modelkeep_packed"
_CHECKED = "_modelkeep_window_checked"


@dataclass(frozen=True)
class Heads:
    """
    What one layer's attention is computed from.

    `query` is [heads, rows, size], `key` and `value` [key heads, rows, size]; `window` is how many tokens back a row
    sees, itself among them, None for all.
    """

    layer: int
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scaling: float
    window: int | None


class Step(Protocol):
    """What a forward pass brings along for its layers: which rows belong together, and earlier keys and values."""

    def attend(self, heads: Heads) -> torch.Tensor:
        """The attention of one layer, [rows, heads, size]."""


class UnknownAttentionError(RuntimeError):
    """A model wants its attention computed in a way that the packed form does not know."""


def packed_attention(  # noqa: PLR0917  (transformers' interface)
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    *,
    step: Step,
    sliding_window: int | None = None,
    **options: Any,  # transformers' interface: every model passes what it has
) -> tuple[torch.Tensor, None]:
    """The attention function that transformers' layers call; raises UnknownAttentionError for one it cannot do."""
    for name in ("softcap", "s_aux", "position_bias"):
        if options.get(name) is not None:
            raise UnknownAttentionError(f"attention with {name} is not known here")
    if attention_mask is not None:
        raise UnknownAttentionError("attention with a mask of the model's own is not known here")
    if _CHECKED not in module.__dict__:
        _refuse_hidden_windows(module, sliding_window)
        module.__dict__[_CHECKED] = True
    heads = Heads(
        layer=getattr(module, "layer_idx", None) or 0,
        query=query[0],
        key=key[0],
        value=value[0],
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=sliding_window,
    )
    return step.attend(heads)[None], None


AttentionInterface.register(PACKED, packed_attention)


def _refuse_hidden_windows(module: Any, window: int | None) -> None:
    """
    Raises UnknownAttentionError for a layer that would limit what a token sees by its mask alone.

    A model whose attention was exchanged makes no mask; most pass their window to it, but some do not.
    """
    config = getattr(module, "config", None)
    kinds = getattr(config, "layer_types", None)
    kind = kinds[getattr(module, "layer_idx", 0)] if kinds else None
    limited = kind in {"sliding_attention", "chunked_attention"} or (
        kind is None and getattr(config, "sliding_window", None) is not None
    )
    if kind == "chunked_attention" or (limited and window is None):
        raise UnknownAttentionError("attention that only a mask keeps to a window is not known here")


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float,
    *,
    causal: bool = False,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """FlashAttention for CPUs by its own name: finding it takes longer than computing a short text."""
    attended: torch.Tensor = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default(
        query, key, value, 0.0, causal, attn_mask=mask, scale=scaling
    )[0]
    return attended


@dataclass(frozen=True)
class Span:
    """
    `count` rows of a step from row `first`, and where the keys of their text lie in the pool.

    `keys` is the place of the text's first key and `length` how many keys it has with those of this step.
    """

    first: int
    count: int
    keys: int
    length: int


class SingleRows:
    """
    The attention of texts that go on by one token, for all of them at once.

    Every key is read for one row only, so that memory decides: the scores are those entries of a product of matrices
    that a sparse pattern asks for, and the result is a weighted sum of rows of a table, as an embedding bag makes it.
    Neither writes anything in between that is as large as the keys, and what a text gets depends on its own alone.
    """

    def __init__(self, spans: Sequence[Span], *, places: int, heads: int, key_heads: int) -> None:
        """The rows of all heads' keys lie one behind the other, `places` of them per key head."""
        lengths = [span.length for span in spans]
        first = torch.arange(heads).div_(heads // key_heads, rounding_mode="floor").mul_(places)[:, None]
        self._keys = torch.cat([(first + torch.arange(span.keys, span.keys + span.length)).view(-1) for span in spans])
        self._starts = torch.tensor([0] + [length for length in lengths for _ in range(heads)]).cumsum(0)
        self._pattern = _pattern(self._starts, self._keys, columns=key_heads * places)
        scores = self._pattern.values()
        self._shares = torch.empty_like(scores)
        sizes = [heads * length for length in lengths]
        self._texts = [
            (ours.view(heads, -1), shares.view(heads, -1))
            for ours, shares in zip(torch.split(scores, sizes), torch.split(self._shares, sizes), strict=True)
        ]

    def attend(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float) -> torch.Tensor:
        """[texts * heads, size] for queries of that shape; `keys` and `values` are [key heads * places, size]."""
        torch.sparse.sampled_addmm(self._pattern, query, keys.t(), beta=0.0, alpha=scaling, out=self._pattern)
        for scores, shares in self._texts:
            torch.softmax(scores, dim=-1, out=shares)
        return torch.nn.functional.embedding_bag(
            self._keys, values, self._starts, mode="sum", per_sample_weights=self._shares, include_last_offset=True
        )


def _pattern(starts: torch.Tensor, columns_of: torch.Tensor, *, columns: int) -> torch.Tensor:
    """A sparse matrix whose row n has the entries `starts[n]` to `starts[n + 1]` of `columns_of`, in that order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that sparse matrices may change; torch is pinned
        return torch.sparse_csr_tensor(
            starts, columns_of, torch.zeros(len(columns_of)), (len(starts) - 1, columns), check_invariants=False
        )


def _seen(span: Span, window: int | None) -> Span:
    """The keys that a span's last row sees."""
    if window is None or span.length <= window:
        return span
    return replace(span, keys=span.keys + span.length - window, length=window)


class CachedStep:
    """One step of a causal model on a CPU: every text sees its own earlier keys and values, which lie in a pool."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, places: torch.Tensor, spans: Sequence[Span]) -> None:
        """
        `keys` and `values` are [layers, key heads, places, size]; `places` says where each row's go.

        Spans of one row come before longer ones.
        """
        self._keys, self._values = keys.unbind(0), values.unbind(0)
        self._key_rows, self._value_rows = keys.flatten(1, 2).unbind(0), values.flatten(1, 2).unbind(0)
        self._places = keys.shape[2]
        self._targets = (torch.arange(keys.shape[1])[:, None] * self._places + places).view(-1)
        self._single = [span for span in spans if span.count == 1]
        self._longer = [span for span in spans if span.count > 1]
        self._single_rows: dict[int | None, SingleRows] = {}
        self._masks: dict[tuple[int, int | None], torch.Tensor] = {}

    def attend(self, heads: Heads) -> torch.Tensor:
        """See Step."""
        count, rows, size = heads.query.shape
        key_heads = heads.key.shape[0]
        self._key_rows[heads.layer].index_copy_(0, self._targets, heads.key.reshape(-1, size))
        self._value_rows[heads.layer].index_copy_(0, self._targets, heads.value.reshape(-1, size))
        parts = [self._attend_single(heads)] if self._single else []
        if self._longer:
            # Query heads that share a key head are treated as rows of it, so that no key is repeated.
            grouped = heads.query.view(key_heads, count // key_heads, rows, size)
            parts += [self._attend_longer(heads, grouped, span).reshape(-1, size) for span in self._longer]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(rows, count, size)

    def _attend_single(self, heads: Heads) -> torch.Tensor:
        count, _, size = heads.query.shape
        if heads.window not in self._single_rows:
            spans = [_seen(span, heads.window) for span in self._single]
            self._single_rows[heads.window] = SingleRows(
                spans, places=self._places, heads=count, key_heads=heads.key.shape[0]
            )
        query = heads.query[:, : len(self._single)].transpose(0, 1).reshape(-1, size)
        keys, values = self._key_rows[heads.layer], self._value_rows[heads.layer]
        return self._single_rows[heads.window].attend(query, keys, values, heads.scaling)

    def _attend_longer(self, heads: Heads, grouped: torch.Tensor, span: Span) -> torch.Tensor:
        query = grouped[:, :, span.first : span.first + span.count].transpose(0, 1)
        keys, values = (
            tensor[heads.layer][None, :, span.keys : span.keys + span.length].expand(len(query), -1, -1, -1)
            for tensor in (self._keys, self._values)
        )
        whole = span.count == span.length and (heads.window is None or heads.window >= span.length)
        mask = None if whole else self._mask(span, heads.window)
        return _flash(query, keys, values, heads.scaling, causal=whole, mask=mask).permute(2, 1, 0, 3)

    def _mask(self, span: Span, window: int | None) -> torch.Tensor:
        """What is added to the scores, [count, length]: 0 where a row may see a key, else minus infinity."""
        if (span.first, window) not in self._masks:
            queries = torch.arange(span.length - span.count, span.length)[:, None]
            keys = torch.arange(span.length)[None]
            visible = keys <= queries if window is None else (keys <= queries) & (keys > queries - window)
            self._masks[span.first, window] = torch.zeros(visible.shape).masked_fill_(~visible, float("-inf"))
        return self._masks[span.first, window]


class WholeTextsStep:
    """One batch of an encoder on a CPU: every text sees all of itself."""

    def __init__(self, lengths: Sequence[int]) -> None:
        """`lengths`: the tokens of each text."""
        self._lengths = list(lengths)

    def attend(self, heads: Heads) -> torch.Tensor:
        """See Step; a window is refused, since encoders look to both sides."""
        if heads.window is not None:
            raise UnknownAttentionError("an encoder with a sliding window is not known here")
        split = [
            torch.split(tensor.unsqueeze(0), self._lengths, dim=2) for tensor in (heads.query, heads.key, heads.value)
        ]
        parts = [_flash(one, keys, values, heads.scaling) for one, keys, values in zip(*split, strict=True)]
        return torch.cat(parts, dim=2)[0].transpose(0, 1)


class VariableLengthStep:
    """
    One step on a GPU, in one call of FlashAttention for all texts; for causal models and encoders alike.

    The texts' keys need not lie one behind the other: `starts` says where each begins and `lengths` how many there are.
    """

    def __init__(
        self,
        spans: Sequence[Span],
        *,
        pool: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None,
        device: torch.device,
    ) -> None:
        """`pool` is keys, values ([layers, places, key heads, size]) and the rows' places; None for an encoder."""
        counts = torch.tensor([0, *(span.count for span in spans)])
        self._rows = counts.cumsum(0).to(device=device, dtype=torch.int32)
        self._starts = torch.tensor([span.keys for span in spans] + [0], device=device, dtype=torch.int32)
        self._lengths = torch.tensor([span.length for span in spans], device=device, dtype=torch.int32)
        self._most_rows, self._most_keys = int(counts.max()), max(span.length for span in spans)
        self._pool = pool

    def attend(self, heads: Heads) -> torch.Tensor:
        """See Step."""
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415  (absent where there is no GPU build)

        keys, values = heads.key.transpose(0, 1).contiguous(), heads.value.transpose(0, 1).contiguous()
        if self._pool is not None:
            pooled_keys, pooled_values, places = self._pool[0][heads.layer], self._pool[1][heads.layer], self._pool[2]
            keys, values = pooled_keys.index_copy_(0, places, keys), pooled_values.index_copy_(0, places, values)
        causal = (-1 if heads.window is None else heads.window - 1, 0)
        attended: Any = varlen_attn(
            heads.query.transpose(0, 1).contiguous(),
            keys,
            values,
            self._rows,
            self._starts,
            self._most_rows,
            self._most_keys,
            scale=heads.scaling,
            window_size=(-1, -1) if self._pool is None else causal,
            enable_gqa=heads.query.shape[0] != heads.key.shape[0],
            seqused_k=self._lengths,
            num_splits=1,  # a text's result must not depend on its company
        )
        result: torch.Tensor = attended
        return result
