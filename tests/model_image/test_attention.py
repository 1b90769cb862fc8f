"""The attention of a step: a CPU computes, text by text, what one call of FlashAttention is asked for on a GPU."""

from typing import Any

import pytest
import torch
from torch.nn.attention import varlen

from model_image.engines.attention import CachedStep, Heads, SingleRows, Span, VariableLengthStep, WholeTextsStep

LAYERS, KEY_HEADS, GROUPS, SIZE, PLACES = 2, 2, 3, 16, 200
# Two texts that go on by a token, one by five, and one that begins; the rows of one token come first.
SPANS = [Span(0, 1, 40, 12), Span(1, 1, 150, 3), Span(2, 5, 90, 9), Span(7, 4, 0, 4)]
ROWS = 11


def documented(query: Any, key: Any, value: Any, *sizes: Any, **options: Any) -> torch.Tensor:
    """`varlen_attn` by its documentation: text n has rows[n] to rows[n+1] and `seqused_k[n]` keys from starts[n]."""
    rows, starts, most_rows, most_keys = sizes
    lengths, (left, right) = options["seqused_k"], options["window_size"]
    assert (most_rows, most_keys) == (int(rows.diff().max()), int(lengths.max()))
    parts = []
    for text in range(len(lengths)):
        queries = query[rows[text] : rows[text + 1]].transpose(0, 1)
        keys, values = (
            tensor[starts[text] : starts[text] + lengths[text]].transpose(0, 1).repeat_interleave(GROUPS, 0)
            for tensor in (key, value)
        )
        # The last query stands at the last key.
        distance = torch.arange(keys.shape[1]) - torch.arange(queries.shape[1])[:, None] - keys.shape[1]
        distance = distance + queries.shape[1]
        seen = (distance >= -left if left >= 0 else distance > -10_000) & (
            distance <= right if right >= 0 else distance < 10_000
        )
        scores = (queries @ keys.transpose(1, 2) * options["scale"]).masked_fill(~seen, float("-inf"))
        parts.append((scores.softmax(-1) @ values).transpose(0, 1))
    return torch.cat(parts)


def heads(window: int | None, layer: int) -> Heads:
    torch.manual_seed(4)
    query = torch.randn(KEY_HEADS * GROUPS, ROWS, SIZE)
    key, value = torch.randn(2, KEY_HEADS, ROWS, SIZE)
    return Heads(layer, query, key, value, 0.25, window)


@pytest.mark.parametrize("window", [None, 1, 4, 50])
def test_a_step_over_the_pool(monkeypatch: pytest.MonkeyPatch, window: int | None) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", documented)
    torch.manual_seed(3)
    keys, values = torch.randn(2, LAYERS, KEY_HEADS, PLACES, SIZE)
    places = [place for span in SPANS for place in range(span.keys + span.length - span.count, span.keys + span.length)]
    pool = (keys.transpose(1, 2).clone(), values.transpose(1, 2).clone(), torch.tensor(places))
    on_gpu = VariableLengthStep(SPANS, pool=pool, device=torch.device("cpu"))
    on_cpu = CachedStep(keys, values, torch.tensor(places), SPANS)

    for layer in range(LAYERS):
        expected = on_gpu.attend(heads(window, layer))
        found = on_cpu.attend(heads(window, layer))
        assert found.shape == (ROWS, KEY_HEADS * GROUPS, SIZE)
        assert torch.allclose(found, expected, atol=1e-5)
        assert torch.equal(keys[layer].transpose(0, 1), pool[0][layer])


def test_a_text_that_goes_on_gets_the_same_bits_alone_and_in_company() -> None:
    torch.manual_seed(5)
    keys, values = torch.randn(2, KEY_HEADS * PLACES, SIZE)
    count = KEY_HEADS * GROUPS
    spans = [Span(0, 1, 40, 12), Span(1, 1, 150, 33), Span(2, 1, 0, 1), Span(3, 1, 90, 47)]
    query = torch.randn(len(spans) * count, SIZE)
    keys[90] = float("nan")  # what one text computes is nobody else's

    def attended(chosen: list[Span], rows: torch.Tensor) -> torch.Tensor:
        single = SingleRows(chosen, places=PLACES, heads=count, key_heads=KEY_HEADS)
        single.attend(rows * 2, keys, values, 0.25)  # the layer before
        return single.attend(rows, keys, values, 0.25)

    together = attended(spans, query).split(count)
    for span, rows, found in zip(spans[:3], query.split(count)[:3], together[:3], strict=True):
        assert torch.equal(attended([span], rows), found)
        assert found.isfinite().all()
    assert together[3].isnan().any()


def test_a_batch_of_whole_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", documented)
    asked = heads(None, 0)
    repeated = Heads(
        0, asked.query, asked.key.repeat_interleave(GROUPS, 0), asked.value.repeat_interleave(GROUPS, 0), 0.25, None
    )
    spans = [Span(0, 4, 0, 4), Span(4, 6, 4, 6), Span(10, 1, 10, 1)]

    expected = VariableLengthStep(spans, pool=None, device=torch.device("cpu")).attend(asked)

    assert torch.allclose(WholeTextsStep([4, 6, 1]).attend(repeated), expected, atol=1e-5)
