"""Encoders: vectors of texts, class probabilities, candidates for masks, whatever else is in the batch."""

from collections.abc import Sequence
from typing import Literal

import torch

from model_image.batching.encoder_loop import Candidates, EncoderInput, Vector
from model_image.engines.forward import Forward

Pooling = Literal["mean", "cls", "max"]


class EmbeddingEngine:
    """
    One vector per text, pooled over its tokens.

    Pooling and scaling to length 1 are those of sentence-transformers (Reimers and Gurevych 2019).
    """

    def __init__(self, forward: Forward, *, pooling: Pooling, normalise: bool) -> None:
        self._forward = forward
        self._pooling = pooling
        self._normalise = normalise

    @torch.inference_mode()
    def run(self, batch: Sequence[EncoderInput]) -> list[Vector]:
        """Vectors of the model's hidden size."""
        vectors = torch.stack([self._pool(hidden) for hidden in self._forward.hidden(batch)])
        if self._normalise:
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
        return list(vectors.cpu().numpy())

    def _pool(self, hidden: torch.Tensor) -> torch.Tensor:
        if self._pooling == "cls":
            return hidden[0]
        return hidden.amax(dim=0) if self._pooling == "max" else hidden.mean(dim=0)


class ClassificationEngine:
    """The probability of every label per text."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward

    @torch.inference_mode()
    def run(self, batch: Sequence[EncoderInput]) -> list[list[float]]:
        """Probabilities in the order of the model's labels."""
        probabilities: list[list[float]] = torch.softmax(self._forward.classify(batch), dim=-1).cpu().tolist()
        return probabilities


class MaskEngine:
    """The likeliest tokens for the asked places of each text."""

    def __init__(self, forward: Forward, *, candidates: int = 100) -> None:
        self._forward = forward
        self._candidates = candidates

    @torch.inference_mode()
    def run(self, batch: Sequence[EncoderInput]) -> list[list[Candidates]]:
        """One list per text with one entry per asked place."""
        return [[self._best(place) for place in logits.cpu()] for logits in self._forward.at_places(batch)]

    def _best(self, logits: torch.Tensor) -> Candidates:
        values, ids = torch.softmax(logits, dim=-1).topk(min(self._candidates, len(logits)))
        return Candidates(ids.tolist(), values.tolist())
