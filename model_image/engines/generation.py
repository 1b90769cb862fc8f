"""Causal language models: the next tokens of many texts in one forward pass."""

import inspect
from collections.abc import Sequence as Many
from typing import Any

import torch

from model_image.batching.scheduler import Chunk, Plan
from model_image.batching.sequence import Progress, ScoredToken, Sequence
from model_image.engines.attention import PACKED, Span
from model_image.engines.key_values import KeyValuePool
from model_image.engines.sampling import sample, score
from model_image.errors import ArtefactError


class GenerationEngine:
    """
    Steps any causal model of transformers whose attention can be exchanged and that takes the positions of its tokens.

    The tokens of all chunks are one row of the model's input, without padding; only the attention knows which belong
    together. Keys and values lie in a pool of `cache_tokens` places.
    """

    def __init__(self, model: Any, *, cache_tokens: int) -> None:
        """Raises ArtefactError for a model that cannot be stepped so."""
        parameters = inspect.signature(model.forward).parameters
        if not getattr(model, "_supports_attention_backend", False) or "position_ids" not in parameters:
            raise ArtefactError(
                f"{type(model).__name__} computes its attention in a way of its own, which this server cannot batch; "
                "serve it with an image of its own (fleet.server)"
            )
        model.set_attn_implementation(PACKED)
        self._model = model
        some_weight = next(model.parameters())
        self._device = some_weight.device
        self._pool = KeyValuePool(model.config, tokens=cache_tokens, device=self._device, dtype=some_weight.dtype)
        self._keeps_some_logits = "logits_to_keep" in parameters

    @torch.inference_mode()
    def step(self, plan: Plan) -> list[Progress]:
        """Makes the copies, computes the chunks and draws the next token where one asks for it."""
        for copy in plan.copies:
            self._pool.copy(copy)
        order = sorted(range(len(plan.chunks)), key=lambda place: plan.chunks[place].count > 1)
        chunks = [plan.chunks[place] for place in order]
        logits = self.logits(chunks)
        # The last row of a chunk's logits is that of its last token.
        last = [rows.stop - 1 for rows in _kept_rows(chunks)]
        sampling = [place for place, chunk in enumerate(chunks) if chunk.samples]
        drawn = sample(
            logits,
            [last[place] for place in sampling],
            [chunks[place].sequence.sampling for place in sampling],
            [chunks[place].sequence.draw for place in sampling],
        )
        tokens: dict[int, ScoredToken] = dict(zip(sampling, drawn, strict=True))
        results = [
            Progress(token=tokens.get(place), prompt_scores=_prompt_scores(chunk, logits[rows]))
            for place, (chunk, rows) in enumerate(zip(chunks, _kept_rows(chunks), strict=True))
        ]
        return [result for _, result in sorted(zip(order, results, strict=True), key=lambda pair: pair[0])]

    @torch.inference_mode()
    def logits(self, chunks: Many[Chunk]) -> torch.Tensor:
        """
        Logits of shape [kept rows, vocabulary]: the last of each chunk, or all of it where its prompt is scored.

        Chunks of one token come before longer ones.
        """
        ids: list[int] = []
        positions: list[int] = []
        places: list[int] = []
        kept: list[int] = []
        spans: list[Span] = []
        for chunk in chunks:
            region = chunk.sequence.region
            if region is None:
                raise LookupError("a sequence was scheduled without a region")
            first, end = len(ids), chunk.start + chunk.count
            spans.append(Span(first, chunk.count, region.start, end))
            ids += chunk.sequence.tokens(chunk.start, chunk.count)
            positions += range(chunk.start, end)
            places += range(region.start + chunk.start, region.start + end)
            kept += range(first, len(ids)) if _scores(chunk) else [len(ids) - 1]
        keep = torch.tensor(kept, device=self._device)
        output = self._model(
            input_ids=torch.tensor([ids], device=self._device),
            position_ids=torch.tensor([positions], device=self._device),
            use_cache=False,
            step=self._pool.step(places, spans),
            **({"logits_to_keep": keep} if self._keeps_some_logits else {}),
        )
        logits: torch.Tensor = output.logits[0]
        return logits if self._keeps_some_logits else logits[keep]


def _scores(chunk: Chunk) -> bool:
    return chunk.sequence.score_prompt and chunk.start < len(chunk.sequence.prompt)


def _kept_rows(chunks: Many[Chunk]) -> list[slice]:
    """Which of the kept logits are whose."""
    rows, first = [], 0
    for chunk in chunks:
        count = chunk.count if _scores(chunk) else 1
        rows.append(slice(first, first + count))
        first += count
    return rows


def _prompt_scores(chunk: Chunk, logits: torch.Tensor) -> tuple[ScoredToken, ...]:
    """Scores the chunk's prompt tokens, each by the logits one place before it; a prompt's first token has none."""
    sequence = chunk.sequence
    if not _scores(chunk):
        return ()
    before = [None if chunk.start == 0 else _last_logits(sequence), *logits[:-1]]
    sequence.state = logits[-1].clone()
    if chunk.start + chunk.count <= sequence.scored:  # computed again after it had to give its region up
        return ()
    end = min(chunk.start + chunk.count, len(sequence.prompt))
    tokens = sequence.prompt[chunk.start : end]
    scored = [
        ScoredToken(token) if row is None else score(row, token, sequence.sampling.logprobs)
        for token, row in zip(tokens, before, strict=False)
    ][max(0, sequence.scored - chunk.start) :]
    sequence.scored = end
    return tuple(scored)


def _last_logits(sequence: Sequence) -> torch.Tensor | None:
    return sequence.state if isinstance(sequence.state, torch.Tensor) else None
