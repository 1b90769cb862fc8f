"""How the texts of a batch go through an encoder: packed one behind the other, or padded to the longest."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from model_image.batching.encoder_loop import EncoderInput
from model_image.engines.attention import PACKED, Span, Step, VariableLengthStep, WholeTextsStep


class Forward(Protocol):
    """One forward pass for texts of unlike lengths; what one text gets does not depend on the others."""

    packed: bool
    first_position: int

    def hidden(self, batch: Sequence[EncoderInput]) -> list[torch.Tensor]:
        """The last hidden states of each text without its head, [tokens, size]."""

    def classify(self, batch: Sequence[EncoderInput]) -> torch.Tensor:
        """The logits of a sequence classifier, [texts, labels]."""

    def at_places(self, batch: Sequence[EncoderInput]) -> list[torch.Tensor]:
        """The logits of a masked language model at the asked places of each text, [places, vocabulary]."""


class PaddedForward:
    """Every text padded to the longest of its batch: what any model of transformers takes."""

    packed = False

    def __init__(self, model: Any, *, pad: int) -> None:
        # Some models number positions from the padding id on, and their table is as much longer.
        embeddings = getattr(model.base_model, "embeddings", None)
        self.first_position = pad + 1 if getattr(embeddings, "padding_idx", None) is not None else 0
        self._model = model
        self._pad = pad
        self._device = next(model.parameters()).device

    def hidden(self, batch: Sequence[EncoderInput]) -> list[torch.Tensor]:
        """See Forward."""
        ids, mask = self._padded(batch)
        hidden = self._model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return [hidden[row, : len(item.tokens)] for row, item in enumerate(batch)]

    def classify(self, batch: Sequence[EncoderInput]) -> torch.Tensor:
        """See Forward."""
        ids, mask = self._padded(batch)
        logits: torch.Tensor = self._model(input_ids=ids, attention_mask=mask).logits.float()
        return logits

    def at_places(self, batch: Sequence[EncoderInput]) -> list[torch.Tensor]:
        """See Forward."""
        ids, mask = self._padded(batch)
        logits = self._model(input_ids=ids, attention_mask=mask).logits.float()
        return [logits[row, list(item.places)] for row, item in enumerate(batch)]

    def _padded(self, batch: Sequence[EncoderInput]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(len(item.tokens) for item in batch)
        ids = torch.full((len(batch), longest), self._pad)
        mask = torch.zeros((len(batch), longest), dtype=torch.long)
        for row, item in enumerate(batch):
            ids[row, : len(item.tokens)] = torch.tensor(item.tokens)
            mask[row, : len(item.tokens)] = 1
        return ids.to(self._device), mask.to(self._device)


class PackedForward:
    """
    The texts one behind the other in one row, so that no padding is computed.

    A head is given only what it needs: behind the last layer, the rows it does not look at are dropped.
    """

    packed = True

    def __init__(self, model: Any, *, first_position: int) -> None:
        """
        Exchanges the model's attention. `first_position` is the position of a text's first token.

        It is 0 in BERT and the padding id + 1 in RoBERTa. Raises ValueError for a model whose attention cannot be
        exchanged.
        """
        self._parameters = inspect.signature(model.base_model.forward).parameters
        if not getattr(model, "_supports_attention_backend", False) or "position_ids" not in self._parameters:
            raise ValueError("this model's attention cannot be exchanged, or it takes no positions")
        model.set_attn_implementation(PACKED)
        self._model = model
        self._device = next(model.parameters()).device
        self.first_position = first_position
        self._stack = _stack(model.base_model, model.config.num_hidden_layers)

    def hidden(self, batch: Sequence[EncoderInput]) -> list[torch.Tensor]:
        """See Forward."""
        hidden = self._model.base_model(**self._inputs(batch)).last_hidden_state[0].float()
        return list(hidden.split([len(item.tokens) for item in batch]))

    def classify(self, batch: Sequence[EncoderInput]) -> torch.Tensor:
        """See Forward."""
        first = torch.tensor(_starts(batch), device=self._device)
        with self._keeping(lambda hidden: hidden[0, first].unsqueeze(1)):  # a batch of texts of one token each
            logits: torch.Tensor = self._model(**self._inputs(batch)).logits.float()
        return logits

    def at_places(self, batch: Sequence[EncoderInput]) -> list[torch.Tensor]:
        """See Forward."""
        asked = [start + place for start, item in zip(_starts(batch), batch, strict=True) for place in item.places]
        rows = torch.tensor(asked, device=self._device, dtype=torch.long)
        with self._keeping(lambda hidden: hidden[:, rows]):
            logits = self._model(**self._inputs(batch)).logits[0].float()
        return list(logits.split([len(item.places) for item in batch]))

    def _inputs(self, batch: Sequence[EncoderInput]) -> dict[str, Any]:
        ids = [token for item in batch for token in item.tokens]
        positions = [self.first_position + place for item in batch for place in range(len(item.tokens))]
        inputs: dict[str, Any] = {
            "input_ids": torch.tensor([ids], device=self._device),
            "position_ids": torch.tensor([positions], device=self._device),
            "step": self._step(batch),
        }
        if "token_type_ids" in self._parameters:
            inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
        return inputs

    def _step(self, batch: Sequence[EncoderInput]) -> Step:
        lengths = [len(item.tokens) for item in batch]
        if self._device.type == "cpu":
            return WholeTextsStep(lengths)
        spans = [Span(start, length, start, length) for start, length in zip(_starts(batch), lengths, strict=True)]
        return VariableLengthStep(spans, pool=None, device=self._device)

    @contextmanager
    def _keeping(self, select: Any) -> Iterator[None]:
        """Passes on from the last layer only what `select` takes of its hidden states."""

        def on_output(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if isinstance(output, torch.Tensor):
                return select(output)
            output["last_hidden_state"] = select(output["last_hidden_state"])
            return output

        hook = self._stack.register_forward_hook(on_output)
        try:
            yield
        finally:
            hook.remove()


def _starts(batch: Sequence[EncoderInput]) -> list[int]:
    starts, first = [], 0
    for item in batch:
        starts.append(first)
        first += len(item.tokens)
    return starts


def _stack(base: nn.Module, layers: int) -> nn.Module:
    """The module that runs the layers one after the other. Raises ValueError if there is none."""
    for module in base.modules():
        if any(isinstance(child, nn.ModuleList) and len(child) == layers for child in module.children()):
            return module
    raise ValueError("this model has no stack of layers that could be found")
