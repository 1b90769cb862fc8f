"""Texts as token ids in one file, read through a memory map: training data may be larger than memory."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model_image.train.machine import Machine

TEXTS_AT_ONCE = 1000
Encode = Callable[[list[str]], list[list[int]]]


class TokenFile:
    """The token ids of many texts one after the other, and where each begins."""

    def __init__(self, path: Path) -> None:
        """Opens what `write` wrote."""
        self.ids: npt.NDArray[np.uint32] = np.memmap(path, dtype=np.uint32, mode="r")
        self.starts: npt.NDArray[np.int64] = np.load(_starts(path), mmap_mode="r")

    def __len__(self) -> int:
        """How many texts."""
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> list[int]:
        """The ids of one text."""
        ids: list[int] = self.ids[self.starts[number] : self.starts[number + 1]].tolist()
        return ids

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text."""
        return np.diff(self.starts)

    @classmethod
    def write(cls, path: Path, texts: Iterable[str], encode: Encode) -> None:
        """Encodes the texts, a thousand at a time."""
        starts = [0]
        waiting = iter(texts)
        with path.open("wb") as file:
            while chunk := list(islice(waiting, TEXTS_AT_ONCE)):
                for ids in encode(chunk):
                    starts.append(starts[-1] + len(ids))
                    np.asarray(ids, dtype=np.uint32).tofile(file)
            if starts[-1] == 0:
                file.write(b"\0\0\0\0")  # an empty file has no memory map; no text begins in it
        with _starts(path).open("wb") as file:
            np.save(file, np.asarray(starts, dtype=np.int64))

    @classmethod
    def of_node(cls, machine: Machine, directory: Path, texts: Iterable[str], encode: Encode) -> "TokenFile":
        """One file for all processes of a node: the first one writes it into its `directory`."""
        path = None
        if machine.accelerator.is_local_main_process:
            path = directory / "tokens.bin"
            cls.write(path, texts, encode)
        return cls(machine.from_local_main(path))


def _starts(path: Path) -> Path:
    return path.with_suffix(".starts.npy")


def split_off(count: int, *, percent: int) -> tuple[list[int], list[int]]:
    """Row numbers to train on, and those to validate on, spread evenly. All are trained on at 0 %."""
    if not percent:
        return list(range(count)), []
    kept = {number for number in range(count) if number * percent // 100 != (number - 1) * percent // 100}
    return [number for number in range(count) if number not in kept], sorted(kept)


def plain_ids(tokenizer: Any) -> Encode:
    """An encoder of a transformers tokenizer that adds nothing before and nothing after a text."""

    def encode(texts: list[str]) -> list[list[int]]:
        encodings = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    return encode


def slices(numbers: list[int], size: int) -> Iterator[list[int]]:
    """A list in parts of at most `size`."""
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]
