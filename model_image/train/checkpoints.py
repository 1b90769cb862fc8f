"""Checkpoints: what a training needs to go on after an interruption, so that it ends as if there had been none."""

import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from model_image import places
from model_image.artefacts import sha256_of, write_atomically
from model_image.errors import ConfigError, DamagedCheckpointError
from model_image.train.checkpoint_store import CHECKPOINT, Store
from model_image.train.history import History

STATE, HISTORY = "state.safetensors", "metrics.jsonl"


class Kept(BaseModel):
    """How far a training was: steps, tokens, seconds of training, the loss (nats), and the best validation loss."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    tokens: int
    seconds: float
    train_loss: float
    finished: bool
    best_step: int
    best_loss: float | None


class _Description(BaseModel):
    """checkpoint.json, which is written last: a checkpoint without it is not one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    # Of configuration, data and base model: a checkpoint fits no other training.
    identity: str
    kept: Kept
    files: dict[str, str]


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint, read."""

    kept: Kept
    tensors: dict[str, torch.Tensor]
    history: History


class Checkpoints:
    """The checkpoints of one training in one place; without a place there are none, and a signal ends it at once."""

    def __init__(self, store: Store | None, *, identity: str, keep: int) -> None:
        """`keep` is how many of the newest stay."""
        self._store, self._identity, self._keep = store, identity, keep
        self.signal: int = signal.SIGTERM

    @property
    def on(self) -> bool:
        """Whether there is a place to keep them."""
        return self._store is not None

    @contextmanager
    def signals(self) -> Iterator[Callable[[], bool]]:
        """Whether the process was told to stop: it finishes its step, keeps a checkpoint and ends."""
        if self._store is None:
            yield lambda: False
            return
        with places.noted() as told:

            def is_told() -> bool:
                number = told()
                self.signal = number or self.signal
                return number is not None

            yield is_told

    def newest(self, say: Callable[[str], None]) -> Checkpoint | None:
        """
        The newest whole checkpoint; one that is damaged is told to `say`, and the one before it is taken.

        Raises ConfigError for one of another configuration, TrainingError when the place cannot be read.
        """
        if self._store is None:
            return None
        for step in sorted(self._store.steps(), reverse=True):
            with tempfile.TemporaryDirectory(prefix="modelkeep-checkpoint-") as into:
                try:
                    return self._read(self._store.bring(step, Path(into)), self._store.name(step))
                except DamagedCheckpointError as error:
                    say(f"{error}; the one before it is taken")
        return None

    def _read(self, directory: Path, name: str) -> Checkpoint:
        try:
            described = _Description.model_validate_json((directory / CHECKPOINT).read_bytes())
            if described.identity != self._identity:
                raise ConfigError(
                    f"{name} belongs to another configuration, data or base model; use --fresh to delete it and start "
                    f"again, or another --checkpoints"
                )
            for file, sha256 in described.files.items():
                if sha256_of(directory / file) != sha256:
                    raise DamagedCheckpointError(f"{name}: {file} was altered")
            tensors = load_file(directory / STATE)
            history = History.from_jsonl((directory / HISTORY).read_text(encoding="utf-8"))
        except (OSError, ValidationError, SafetensorError, json.JSONDecodeError) as error:
            raise DamagedCheckpointError(f"{name} cannot be read ({error.__class__.__name__})") from error
        return Checkpoint(kept=described.kept, tensors=tensors, history=history)

    def write(self, kept: Kept, tensors: dict[str, torch.Tensor], history: History) -> str:
        """Keeps a checkpoint, whole or not at all, and deletes those that are too old; returns its name."""
        assert self._store is not None  # noqa: S101  (the caller asked `on`)
        with self._store.building() as directory:
            save_file(tensors, directory / STATE)
            write_atomically(directory / HISTORY, history.to_jsonl().encode())
            files = {name: sha256_of(directory / name) for name in (STATE, HISTORY)}
            described = _Description(identity=self._identity, kept=kept, files=files)
            write_atomically(directory / CHECKPOINT, described.model_dump_json(indent=2).encode() + b"\n")
            _to_disk(directory / STATE)
            self._store.put(kept.step, directory)
        for step in sorted(self._store.steps(), reverse=True)[self._keep :]:
            self._store.drop(step)
        return self._store.name(kept.step)

    def clear(self) -> None:
        """Deletes all of them."""
        for step in self._store.steps() if self._store else ():
            self._store.drop(step) if self._store else None


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
