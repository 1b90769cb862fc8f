"""LoRA through peft: low-rank adapters in a base model, and merging them into its weights."""

from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from model_image.errors import ConfigError
from model_image.train_recipe import Lora


def inject(model: Any, lora: Lora) -> None:
    """Adapters in the linear layers of the base, which learns no more itself; its new head still does."""
    from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415  (only a recipe with lora needs it)

    names = _linear_layers(model, ends=lora.target_modules)
    inherited = {id(weight) for weight in model.base_model.parameters()}
    head = [weight for weight in model.parameters() if id(weight) not in inherited]
    if not names:
        wanted = ", ".join(lora.target_modules) or "any linear layer"
        raise ConfigError(f"lora.target_modules: the base has no linear layer {wanted}; correct the names")
    first = model.get_submodule(names[0])
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=names,
        fan_in_fan_out=isinstance(first, Conv1D),
        bias="none",
    )
    inject_adapter_in_model(config, model)
    for weight in head:
        weight.requires_grad_(True)


def _linear_layers(model: Any, *, ends: tuple[str, ...]) -> list[str]:
    """Names of the base's linear layers, all or those whose last part is one of `ends`."""
    within = {id(module) for module in model.base_model.modules()}
    return [
        name
        for name, module in model.named_modules()
        if id(module) in within
        and isinstance(module, torch.nn.Linear | Conv1D)
        and (not ends or name.rpartition(".")[2] in ends)
    ]


def merge(model: Any) -> None:
    """Adds what the adapters learned to the base's weights and takes the adapters out; nothing without adapters."""
    layers = [(name, module) for name, module in model.named_modules() if hasattr(module, "get_base_layer")]
    for name, layer in layers:
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())


def checkpoint_gradients(model: Any) -> None:
    """Activations are computed again in the backward pass."""
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
