"""
The engine without HTTP, in a process of its own: the models are loaded as the server does, then driven in process.

Reads `{"clients", "texts": [[ids, new tokens]]}` from stdin and the server's settings from the environment; writes
`{"tokens", "seconds", "cpu_seconds"}`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator

from model_image.batching.sequence import Progress, Sampling, Sequence
from model_image.loading import Loader
from model_image.metrics import Metrics
from model_image.registry import Registry, ServedModel
from model_image.request_log import JsonLog
from model_image.settings import read_settings

Text = tuple[list[int], int]


async def generate(model: ServedModel, ids: list[int], new_tokens: int) -> int:
    """One greedy text through the model's loop; the number of its tokens."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    made = 0

    def on_progress(progress: Progress) -> None:
        nonlocal made
        made += progress.token is not None
        if progress.finish is not None:
            ended.set_result(None)

    model.generation_loop.submit(
        Sequence(
            prompt=ids,
            max_new_tokens=new_tokens,
            sampling=Sampling(temperature=0.0),
            stop_tokens=frozenset(),
            on_progress=on_progress,
        )
    )
    await ended
    return made


async def closed_loop(model: ServedModel, texts: list[Text], clients: int) -> int:
    """All texts, `clients` at a time; the tokens made."""
    waiting: Iterator[Text] = iter(texts)

    async def client() -> int:
        return sum([await generate(model, ids, new_tokens) for ids, new_tokens in waiting])

    return sum(await asyncio.gather(*(client() for _ in range(clients))))


async def main() -> None:
    work = json.load(sys.stdin)
    texts: list[Text] = [(ids, new_tokens) for ids, new_tokens in work["texts"]]
    registry = Registry()
    with open(os.devnull, "w") as nothing:  # noqa: ASYNC230, PTH123  (before anything runs)
        loader = Loader(
            settings=read_settings(os.environ),
            registry=registry,
            metrics=Metrics(),
            log=JsonLog(nothing),
            on_crash=lambda _error: os._exit(1),
        )
        await loader.load_all()
        model = registry.models[0]
        await closed_loop(model, texts[:8], 8)
        cpu, began = time.process_time(), time.perf_counter()
        tokens = await closed_loop(model, texts, work["clients"])
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
        await asyncio.to_thread(registry.stop)
    print(json.dumps({"tokens": tokens, "seconds": seconds, "cpu_seconds": cpu_seconds}))


if __name__ == "__main__":
    asyncio.run(main())
