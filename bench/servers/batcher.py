"""A small batching server around any encoder: requests of like length share a batch, one thread computes.

`POST /` with `{"input": text}` answers `{"data": [numbers]}`.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable

import numpy as np
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from tokenizers import Tokenizer

MAX_BATCH = 32
MAX_TOKENS = 2048
MAX_PADDING = 0.1  # of a batch's tokens

Encode = Callable[[list[list[int]]], np.ndarray]


class Batcher:
    """Takes the request that waits longest and those that add the least padding to it."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self._waiting: list[tuple[list[int], asyncio.Future]] = []
        self._wake = threading.Condition()

    async def run(self, tokens: list[int]) -> np.ndarray:
        future = asyncio.get_running_loop().create_future()
        with self._wake:
            self._waiting.append((tokens, future))
            self._wake.notify()
        return await future

    def work(self) -> None:
        while True:
            with self._wake:
                while not self._waiting:
                    self._wake.wait()
                batch = self._take()
            results = self._encode([tokens for tokens, _ in batch])
            loop = batch[0][1].get_loop()
            loop.call_soon_threadsafe(hand_out, [future for _, future in batch], results)

    def _take(self) -> list[tuple[list[int], asyncio.Future]]:
        first = self._waiting[0]
        batch, longest, total = [first], len(first[0]), len(first[0])
        for entry in sorted(self._waiting[1:], key=lambda other: abs(len(other[0]) - len(first[0]))):
            wide, tokens = max(longest, len(entry[0])), total + len(entry[0])
            area = wide * (len(batch) + 1)
            if len(batch) == MAX_BATCH or area > MAX_TOKENS:
                break
            if 1 - tokens / area <= MAX_PADDING:
                batch.append(entry)
                longest, total = wide, tokens
        taken = {id(entry) for entry in batch}
        self._waiting = [entry for entry in self._waiting if id(entry) not in taken]
        return batch


def hand_out(futures: list[asyncio.Future], results: np.ndarray) -> None:
    for future, result in zip(futures, results, strict=True):
        if not future.done():
            future.set_result(result)


def pad(batch: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask, both `[texts, longest]`."""
    ids = np.zeros((len(batch), max(map(len, batch))), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return ids, mask


def mean_vectors(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Vectors of length 1: the mean over the tokens of `hidden` `[texts, tokens, width]`."""
    weights = mask[..., None].astype(hidden.dtype)
    means = (hidden * weights).sum(1) / weights.sum(1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def run(encode: Encode, *, tokenizer_file: str, port: int) -> None:
    """Serves until the process is ended."""
    tokenizer = Tokenizer.from_file(tokenizer_file)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    batcher = Batcher(encode)

    async def answer(http) -> Response:
        tokens = tokenizer.encode(orjson.loads(await http.body())["input"]).ids
        result = await batcher.run(tokens)
        return Response(orjson.dumps({"data": result.tolist()}), media_type="application/json")

    @contextlib.asynccontextmanager
    async def life(_app):
        threading.Thread(target=batcher.work, daemon=True).start()
        yield

    app = Starlette(routes=[Route("/", answer, methods=["POST"])], lifespan=life)
    uvicorn.run(app, port=port, log_level="warning", access_log=False)
