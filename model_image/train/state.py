"""The state of training as named tensors: the weights that learn, and what the optimiser knows of each."""

from collections.abc import Iterator

import torch

from model_image.train.machine import Machine, whole

MOMENTS = ("exp_avg", "exp_avg_sq")
WEIGHT, OPTIMISER, BEST = "weight", "optimiser", "best"


def learning(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The weights that are trained, by name; what is frozen comes from the base model every time."""
    return ((name, weight) for name, weight in module.named_parameters() if weight.requires_grad)


def weights(module: torch.nn.Module, *, kind: str = WEIGHT) -> dict[str, torch.Tensor]:
    """Copies of the weights that learn, whole and on the CPU."""
    return {f"{kind}/{name}": whole(weight) for name, weight in learning(module)}


def collect(module: torch.nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Everything that the next step depends on besides seed, step number, data and base model."""
    found = weights(module)
    for name, weight in learning(module):
        for moment, value in optimiser.state[weight].items():
            found[f"{OPTIMISER}/{name}/{moment}"] = whole(value)
    return found


def restore(
    module: torch.nn.Module, optimiser: torch.optim.Optimizer, found: dict[str, torch.Tensor], *, machine: Machine
) -> None:
    """Puts a collected state back, to go on from there; only the main process has it in `found`."""
    restore_weights(module, found, machine=machine)
    for name, weight in learning(module):
        state = {"step": torch.zeros((), dtype=torch.float32, device=machine.device)}
        state |= {moment: torch.zeros_like(weight, requires_grad=False) for moment in MOMENTS}
        for moment, target in state.items():
            machine.copy_to_all(target, found, f"{OPTIMISER}/{name}/{moment}")
        optimiser.state[weight] = state


def restore_weights(
    module: torch.nn.Module, found: dict[str, torch.Tensor], *, machine: Machine, kind: str = WEIGHT
) -> None:
    """Puts collected weights back."""
    for name, weight in learning(module):
        machine.copy_to_all(weight, found, f"{kind}/{name}")
