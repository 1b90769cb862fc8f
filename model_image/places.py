"""Where `fetch` and `train` read and write unless told otherwise, and how they end when told to stop."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from model_image.errors import Interrupted

PROJECT = Path(__file__).resolve().parents[1]


def home() -> Path:
    """MODELKEEP_HOME, by default .modelkeep in the project: models/, data/ and downloads/ are in it."""
    return Path(os.environ.get("MODELKEEP_HOME") or PROJECT / ".modelkeep")


def recipes() -> Path:
    """The project's recipes, one YAML file for each model."""
    return PROJECT / "models"


def prepare_transformers() -> None:
    """Before transformers is imported: it never asks a model hub, and draws no bars over our own progress."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from transformers.utils import logging  # noqa: PLC0415  (only now that the environment is set)

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


class _Told:
    """Which signal told this process to stop; signals come to the main thread alone, so nothing here is locked."""

    number: int | None = None


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise Interrupted inside, once, so that what is half made is removed on the way out."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        _Told.number = number
        raise Interrupted(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        _Told.number = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def noted() -> Iterator[Callable[[], int | None]]:
    """Within `interruptible`: a signal to stop is only noted, for work that ends by itself between two steps; the
    number of the signal is what is given. One that came and was not acted upon counts as told afterwards."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: came[0] if came else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            _Told.number = came[0]


def end_if_told() -> None:
    """Raises Interrupted when the signal's own exception was lost: Python drops one that is raised in a finaliser or
    in a callback from C, and some libraries catch every exception. Long work asks at each step."""
    if _Told.number is not None:
        raise Interrupted(_Told.number)
