"""Causal language models: sequences advance by chunks, each over keys and values of its own."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from model_image.batching.scheduler import Chunk
from model_image.batching.sequence import Progress, ScoredToken, Sequence
from model_image.engines.sampling import sample, score


@dataclass
class SequenceState:
    """The engine's part of a sequence: keys and values so far, its random numbers, logits behind the last chunk."""

    keys_values: DynamicCache
    generator: torch.Generator
    last_logits: torch.Tensor | None = None


class GenerationEngine:
    """Steps a transformers model that has `past_key_values`; one forward pass per chunk."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        parameters = inspect.signature(model.forward).parameters
        self._keeps_last_logits = "logits_to_keep" in parameters

    @torch.inference_mode()
    def step(self, chunks: list[Chunk]) -> list[Progress]:
        """Computes each chunk and draws the next token where it asks for one."""
        return [self._advance(chunk) for chunk in chunks]

    def _advance(self, chunk: Chunk) -> Progress:
        sequence = chunk.sequence
        state = self._state(sequence)
        scores_prompt = sequence.score_prompt and chunk.start < len(sequence.prompt)
        logits = self._forward(chunk, state, every_logit=scores_prompt)
        prompt_scores = _score_prompt(chunk, state, logits) if scores_prompt else ()
        if not chunk.samples:
            return Progress(prompt_scores=prompt_scores)
        return Progress(
            token=sample(logits[-1], sequence.sampling, state.generator),
            prompt_scores=prompt_scores,
        )

    def _state(self, sequence: Sequence) -> SequenceState:
        if not isinstance(sequence.cache, SequenceState):
            generator = torch.Generator().manual_seed(sequence.sampling.seed)
            sequence.cache = SequenceState(DynamicCache(config=self._model.config), generator)
        return sequence.cache

    def _forward(self, chunk: Chunk, state: SequenceState, *, every_logit: bool) -> torch.Tensor:
        """Logits of shape [kept, vocabulary]: all of the chunk's places, or only the last one's."""
        ids = torch.tensor([chunk.sequence.tokens(chunk.start, chunk.count)], device=self._device)
        keep = {"logits_to_keep": 0 if every_logit else 1} if self._keeps_last_logits else {}
        output = self._model(input_ids=ids, past_key_values=state.keys_values, use_cache=True, **keep)
        logits: torch.Tensor = output.logits[0]
        return logits


def _score_prompt(chunk: Chunk, state: SequenceState, logits: torch.Tensor) -> tuple[ScoredToken, ...]:
    """Scores the chunk's prompt tokens, each by the logits one place before it; a prompt's first token has none."""
    alternatives = chunk.sequence.sampling.logprobs
    tokens = chunk.sequence.tokens(chunk.start, chunk.count)
    before = [state.last_logits, *logits[:-1]]
    state.last_logits = logits[-1]
    return tuple(
        ScoredToken(token) if row is None else score(row, token, alternatives)
        for token, row in zip(tokens, before, strict=True)
    )
