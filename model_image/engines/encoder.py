"""Encoders: vectors of texts, class probabilities, candidates for masks, whatever else is in the batch."""

from collections.abc import Sequence
from typing import Any, Literal

import torch

from model_image.batching.encoder_loop import Candidates, EncoderInput, Vector

Pooling = Literal["mean", "cls", "max"]


def padded(batch: Sequence[EncoderInput], pad: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both [texts, longest]; padding to the right."""
    longest = max(len(item.tokens) for item in batch)
    ids = torch.full((len(batch), longest), pad)
    mask = torch.zeros((len(batch), longest), dtype=torch.long)
    for row, item in enumerate(batch):
        ids[row, : len(item.tokens)] = torch.tensor(item.tokens)
        mask[row, : len(item.tokens)] = 1
    return ids.to(device), mask.to(device)


class EmbeddingEngine:
    """
    One vector per text, pooled over its tokens.

    Pooling and scaling to length 1 are those of sentence-transformers (Reimers and Gurevych 2019).
    """

    def __init__(self, model: Any, *, pad: int, pooling: Pooling, normalise: bool) -> None:
        self._model = model
        self._pad = pad
        self._pooling = pooling
        self._normalise = normalise
        self._device = next(model.parameters()).device

    @torch.inference_mode()
    def run(self, batch: Sequence[EncoderInput]) -> list[Vector]:
        """Vectors of the model's hidden size."""
        ids, mask = padded(batch, self._pad, self._device)
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        vectors = self._pool(hidden, mask[..., None])
        if self._normalise:
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
        return list(vectors.cpu().numpy())

    def _pool(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self._pooling == "cls":
            return hidden[:, 0]
        if self._pooling == "max":
            return hidden.masked_fill(mask == 0, float("-inf")).amax(dim=1)
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


class ClassificationEngine:
    """The probability of every label per text."""

    def __init__(self, model: Any, *, pad: int) -> None:
        self._model = model
        self._pad = pad
        self._device = next(model.parameters()).device

    @torch.inference_mode()
    def run(self, batch: Sequence[EncoderInput]) -> list[list[float]]:
        """Probabilities in the order of the model's labels."""
        ids, mask = padded(batch, self._pad, self._device)
        logits = self._model(input_ids=ids, attention_mask=mask).logits.float()
        probabilities: list[list[float]] = torch.softmax(logits, dim=-1).cpu().tolist()
        return probabilities


class MaskEngine:
    """The likeliest tokens for the asked places of each text."""

    def __init__(self, model: Any, *, pad: int, candidates: int = 100) -> None:
        self._model = model
        self._pad = pad
        self._candidates = candidates
        self._device = next(model.parameters()).device

    @torch.inference_mode()
    def run(self, batch: Sequence[EncoderInput]) -> list[list[Candidates]]:
        """One list per text with one entry per asked place."""
        ids, mask = padded(batch, self._pad, self._device)
        logits = self._model(input_ids=ids, attention_mask=mask).logits
        return [[self._best(logits[row, place].float()) for place in item.places] for row, item in enumerate(batch)]

    def _best(self, logits: torch.Tensor) -> Candidates:
        values, ids = torch.softmax(logits, dim=-1).topk(min(self._candidates, len(logits)))
        return Candidates(ids.tolist(), values.tolist())
