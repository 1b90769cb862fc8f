"""What fine-tuning an encoder needs twice: which weights learn, and how fast."""

from typing import Any

import torch

from model_image.errors import ConfigError
from model_image.train.tokens import Encode
from model_image.train_recipe import Optimisation


def encoder_ids(tokenizer: Any, *, length: int) -> Encode:
    """Token ids of each text with the tokenizer's own start and end, cut to `length`."""

    def encode(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(texts, truncation=True, max_length=length)["input_ids"]
        return ids

    return encode


def set_dropout(model: torch.nn.Module, probability: float) -> None:
    """Give every dropout layer the recipe's probability: models come with one that suits far longer training."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability


def finetuning_groups(model: Any, settings: Optimisation) -> list[dict[str, Any]]:
    """
    AdamW's groups: head and adapters at `learning_rate`, the encoder at `base_learning_rate`, frozen layers never.

    Frozen layers count from the input; with any frozen, the embeddings are too. Every group keeps its `peak` rate for
    the schedule. Raises ConfigError when there are fewer layers than are to be frozen.
    """
    encoder = model.base_model
    layers = encoder.encoder.layer
    if settings.frozen_layers > len(layers):
        raise ConfigError(
            f"optimisation.frozen_layers is {settings.frozen_layers}: the base has {len(layers)}; choose fewer"
        )
    frozen = [encoder.embeddings, *layers[: settings.frozen_layers]] if settings.frozen_layers else []
    for module in frozen:
        module.requires_grad_(False)
    inherited = {id(weight) for name, weight in encoder.named_parameters() if "lora_" not in name}
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    base_rate = settings.learning_rate if settings.base_learning_rate is None else settings.base_learning_rate
    parts = [
        ([weight for weight in learning if id(weight) not in inherited], settings.learning_rate),
        ([weight for weight in learning if id(weight) in inherited], base_rate),
    ]
    return [
        {"params": weights, "lr": rate, "peak": rate, "weight_decay": settings.weight_decay}
        for weights, rate in parts
        if weights
    ]
