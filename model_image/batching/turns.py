"""One turn at a time: engines of several models share the machine's cores without getting in each other's way."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Turns:
    """
    Runs the steps of every engine on one thread, first come, first served.

    A step already uses every core. Steps of two engines at once would each bring a team of threads of their own to
    the same cores; and a plain lock is not fair, so that a busy generation loop could keep the encoders waiting. The
    thread ends when this object is no longer used.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")

    def run(self, step: Callable[[], T]) -> T:
        """Waits for a turn, runs `step` and returns what it returns or raises."""
        return self._thread.submit(step).result()
