"""What a training runs on: one process or many, through accelerate; DDP or FSDP2; precision; who gets which rows."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from model_image.errors import ConfigError, ModelImageError
from model_image.train.running import Batch
from model_image.train_recipe import TrainRecipe

# What Linux calls a processor that multiplies bf16 natively (x86 and Arm); on others bf16 is slower than fp32.
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
Precision = Literal["fp32", "bf16", "fp16"]
# Groups of processes that were left. DDP must not be the last to let go of one: it joins the group's threads while it
# holds the interpreter's lock, and they may wait for that lock.
_LEFT: list[Any] = []


@dataclass(frozen=True)
class Share:
    """The rows of one forward pass of this process; `weight` is 0 where there were too few rows for everybody."""

    inputs: dict[str, torch.Tensor]
    weight: float


class Machine:
    """
    The processes that train one model together, seen from one of them.

    Every process draws the same random numbers for a whole batch and computes its share of the rows, so that any number
    of processes learns the same; only dropout differs between them.
    """

    def __init__(self, recipe: TrainRecipe) -> None:
        """Join the other processes, as torchrun's variables say. Raises ConfigError."""
        has_gpu = torch.cuda.is_available()
        self.precision = _precision(recipe.optimisation.precision, has_gpu=has_gpu)
        self.accelerator = Accelerator(
            cpu=not has_gpu, mixed_precision="no" if self.precision == "fp32" else self.precision
        )
        self.processes: int = self.accelerator.num_processes
        if self.processes != recipe.distribution.processes:
            raise ConfigError(
                f"{recipe.name}: distribution asks for {recipe.distribution.processes} processes, torchrun started "
                f"{self.processes}; let `train` start them, or correct --nnodes and --nproc-per-node"
            )
        self.index: int = self.accelerator.process_index
        self.is_main: bool = self.accelerator.is_main_process
        self.device: torch.device = self.accelerator.device
        self.is_sharded = recipe.distribution.sharding == "full" and self.processes > 1
        # The fused kernel's backward pass is slow in bf16 on a processor.
        self.attention = "sdpa" if has_gpu else "eager"
        self._seed = recipe.seed
        self._accumulation = recipe.optimisation.accumulation
        torch.manual_seed(recipe.seed)
        if recipe.threads:
            torch.set_num_threads(recipe.threads)

    def place(self, module: torch.nn.Module) -> Any:
        """The module as it is called in training: on its device, and wrapped or sharded where there are others."""
        if not self.is_sharded:
            return self.accelerator.prepare_model(module)
        module.to(self.device)
        for block in _blocks(module):
            fully_shard(block)
        return fully_shard(module)

    def start_step(self, step: int) -> None:
        """Dropout's random numbers depend on seed, step and process alone: a checkpoint need not hold their state."""
        torch.manual_seed(self._seed + (step * 4096 + self.index) * 2**20)

    def shares(self, batch: Batch) -> Iterator[Share]:
        """The parts of a batch that this process computes, as many on every process."""
        parts = self.processes * self._accumulation
        for number in range(self._accumulation):
            first = self.index * self._accumulation + number
            mine = {name: rows[first::parts] for name, rows in batch.inputs.items()}
            weight = 1.0
            if not len(next(iter(mine.values()))):
                mine, weight = {name: rows[:1] for name, rows in batch.inputs.items()}, 0.0
            yield Share({name: rows.to(self.device, non_blocking=True) for name, rows in mine.items()}, weight)

    @contextmanager
    def accumulating(self, called: Any, *, last: bool) -> Iterator[None]:
        """Around a forward and backward pass: autocast, and gradients are exchanged after the last part alone."""
        waits: AbstractContextManager[object] = nullcontext()
        if self.is_sharded:
            called.set_requires_gradient_sync(last)
        elif not last and self.processes > 1:
            waits = self.accelerator.no_sync(called)
        with waits, self.accelerator.autocast():
            yield

    def end_evaluation(self, called: Any) -> None:
        """After forward passes without a backward one: sharded weights that were put together are sharded again."""
        if self.is_sharded:
            called.reshard()

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients of this process's part of the mean loss; the exchange between processes divides by their number."""
        self.accelerator.backward(loss * self.processes)

    def clip(self, weights: list[torch.nn.Parameter], norm: float) -> float:
        """Cuts the gradients to `norm` together, and returns what they had."""
        found = self.accelerator.clip_grad_norm_(weights, norm)
        return float(found.full_tensor() if isinstance(found, DTensor) else found)

    def total(self, value: torch.Tensor) -> float:
        """The sum of a scalar over the processes."""
        if self.processes > 1:
            value = value.detach().clone()
            torch.distributed.all_reduce(value)
        return float(value)

    def agreed(self, *, told: bool, seconds: float) -> tuple[bool, float]:
        """Whether any process was told to stop, and the longest time: what all of them go by."""
        if self.processes == 1:
            return told, seconds
        both = torch.tensor([float(told), seconds], dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(both, op=torch.distributed.ReduceOp.MAX)
        return bool(both[0]), float(both[1])

    def told_by_main(self, value: Any) -> Any:
        """What the main process has as `value`, on every process."""
        if self.processes == 1:
            return value
        values = [value]
        torch.distributed.broadcast_object_list(values, src=0)
        return values[0]

    def on_main(self, work: Callable[[], Any]) -> Any:
        """What `work` gives in the main process, on every process; a ModelImageError of it ends all of them."""
        result, error = None, None
        if self.is_main:
            try:
                result = work()
            except ModelImageError as found:
                error = found
        result, error = self.told_by_main((result, error))
        if error is not None:
            raise error
        return result

    def from_local_main(self, path: Path | None) -> Path:
        """The path that the first process of this node gives; the others give None."""
        paths: list[Any] = [path]
        if self.processes > 1:
            paths = [None] * self.processes
            torch.distributed.all_gather_object(paths, path)
        found = paths[self.index - self.accelerator.local_process_index]
        assert isinstance(found, Path)  # noqa: S101  (every node has a first process)
        return found

    def copy_to_all(self, target: torch.Tensor, values: dict[str, torch.Tensor], name: str) -> None:
        """Fills a tensor, sharded or not, with what the main process has in `values`; the others have nothing there."""
        whole = torch.empty(target.shape, dtype=target.dtype, device=self.device)
        if self.is_main:
            whole.copy_(values[name])
        if self.processes > 1:
            torch.distributed.broadcast(whole, src=0)
        if isinstance(target, DTensor):
            whole = distribute_tensor(whole, target.device_mesh, target.placements)
        with torch.no_grad():
            target.copy_(whole)

    def end(self) -> None:
        """Leave the other processes; another training may begin in this one."""
        if self.processes > 1:
            _LEFT.append(torch.distributed.group.WORLD)
        self.accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor on the CPU, put together from its shards; every process must ask at the same time."""
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full.detach().to("cpu", copy=True).contiguous()


def gather(sharded: torch.nn.Module, plain: torch.nn.Module | None) -> None:
    """Copies all weights of a sharded model into a plain one, which the main process alone has."""
    into = dict(plain.named_parameters()) if plain is not None else {}
    for name, weight in sharded.named_parameters():
        full = whole(weight)
        if into:
            into[name].data.copy_(full)


def _blocks(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers of a model: the members of its longest list of modules."""
    lists = [each for each in module.modules() if isinstance(each, torch.nn.ModuleList)]
    return list(max(lists, key=len, default=[]))


def _precision(wanted: Literal["fp32", "bf16", "fp16", "auto"], *, has_gpu: bool) -> Precision:
    if wanted == "fp16" and not has_gpu:
        raise ConfigError("optimisation.precision is 'fp16', which needs a GPU; use bf16, fp32 or auto")
    if wanted != "auto":
        return wanted
    native = torch.cuda.is_bf16_supported(including_emulation=False) if has_gpu else has_native_bf16()
    return "bf16" if native else "fp32"


def has_native_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine's processor multiplies bf16 by itself."""
    try:
        words = cpuinfo.read_text(encoding="utf-8", errors="replace").split()
    except OSError:  # not Linux: fp32 is right everywhere
        return False
    return not BF16_FLAGS.isdisjoint(words)
