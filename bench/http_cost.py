"""
What HTTP costs: processor time per token of the server's own code, over an engine that computes nothing.

    .venv/bin/python -m bench.http_cost [--clients 32] [--tokens 128]

The engine's stand-in brings every running text one token at a time, all in one step, as the real one does. Both
processes are on this machine; the figures are the server's processor time alone, from its start of serving to its end.
"""

import argparse
import asyncio
import io
import json
import multiprocessing
import multiprocessing.connection
import socket
import threading
import time
from typing import Any

import uvicorn
import uvloop

from model_image.admission import Admission, AdmissionLimits
from model_image.app import ModelServer
from model_image.batching.sequence import Progress, ScoredToken, Sequence
from model_image.metrics import Metrics
from model_image.registry import Registry, ServedModel
from model_image.request_log import JsonLog
from model_image.vocabulary import Encoded

_STEP_SECONDS = 0.01
_WORD = 1


class Words:
    """A byte-level vocabulary whose every token is the word " word"."""

    is_byte_level = True
    special_tokens: frozenset[int] = frozenset()
    mask_token = None
    mask_token_id = None
    has_chat_template = True

    def encode(self, text: str) -> Encoded:
        return Encoded([_WORD] * len(text.split()), [])

    def encode_chat(self, messages: Any) -> list[int]:
        return [_WORD] * len(messages)

    def token_bytes(self, _token: int) -> bytes:
        return b" word"


class Pacer:
    """A generation loop that hands every text a token at each tick."""

    def __init__(self, event_loop: asyncio.AbstractEventLoop) -> None:
        self._event_loop = event_loop
        self._texts: list[Sequence] = []
        self._lock = threading.Lock()
        self.cache_usage = 0.0
        self.waiting = 0
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def running(self) -> int:
        return len(self._texts)

    def submit(self, sequence: Sequence) -> None:
        with self._lock:
            self._texts += [sequence, *sequence.copies]

    def cancel(self, sequence: Sequence) -> None:
        sequence.cancelled = True

    def _run(self) -> None:
        while True:
            time.sleep(_STEP_SECONDS)
            with self._lock:
                self._texts = [text for text in self._texts if not text.cancelled]
                texts = list(self._texts)
                for text in texts:
                    text.generated.append(_WORD)
                self._texts = [text for text in texts if len(text.generated) < text.max_new_tokens]
            deliveries = [
                (
                    text,
                    Progress(
                        ScoredToken(_WORD, -0.5), (), "length" if len(text.generated) == text.max_new_tokens else None
                    ),
                )
                for text in texts
            ]
            if deliveries:
                self._event_loop.call_soon_threadsafe(_hand_out, deliveries)


def _hand_out(deliveries: list[tuple[Sequence, Progress]]) -> None:
    for sequence, progress in deliveries:
        sequence.on_progress(progress)


async def serve(listening: socket.socket, orders: multiprocessing.connection.Connection) -> None:
    loop: Any = Pacer(asyncio.get_running_loop())
    vocabulary: Any = Words()
    registry = Registry()
    registry.add(
        ServedModel(
            name="m", version="1", tasks=("completions", "chat"), created=0, context_length=100_000, vocabulary=2,
            tokenizer=vocabulary, stop_tokens=frozenset(), labels=(), generation=loop,
        )
    )  # fmt: skip
    registry.ready = True
    application = ModelServer(
        registry=registry,
        admission=Admission(AdmissionLimits(requests=10_000, tokens=10**9)),
        metrics=Metrics(),
        log=JsonLog(io.StringIO()),
        body_limit=100_000,
        timeout_seconds=600,
    )
    server = uvicorn.Server(
        uvicorn.Config(application, lifespan="off", ws="none", log_config=None, access_log=False, server_header=False)
    )

    def obey() -> None:
        while orders.recv() == "time":
            orders.send(time.process_time())
        server.should_exit = True

    threading.Thread(target=obey, daemon=True).start()
    await server.serve(sockets=[listening])


def server_process(listening: socket.socket, orders: multiprocessing.connection.Connection) -> None:
    uvloop.run(serve(listening, orders))


async def request(port: int, path: str, body: dict[str, Any]) -> int:
    """Sends one request and reads to the end of its answer; the bytes of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    writer.write(head.encode() + b"Connection: close\r\n\r\n" + content)
    size = 0
    while piece := await reader.read(1 << 16):
        if not size:
            assert piece.startswith(b"HTTP/1.1 200"), piece
        size += len(piece)
    writer.close()
    return size


async def measure(port: int, orders: multiprocessing.connection.Connection, *, clients: int, tokens: int) -> None:
    prompt = {"model": "m", "max_tokens": tokens}
    completion = prompt | {"prompt": "word " * 64}
    chat = prompt | {"messages": [{"role": "user", "content": "word " * 64}]}
    cases = {
        "completions, streamed": ("/v1/completions", completion | {"stream": True}, 1),
        "completions, whole": ("/v1/completions", completion, 1),
        "completions, streamed, n=4": ("/v1/completions", completion | {"stream": True, "n": 4}, 4),
        "completions, streamed, logprobs": ("/v1/completions", completion | {"stream": True, "logprobs": 0}, 1),
        "chat, streamed": ("/v1/chat/completions", chat | {"stream": True}, 1),
    }
    for name, (path, body, choices) in cases.items():
        await request(port, path, body)
        best = float("inf")
        for _ in range(3):
            before = ask(orders)
            await asyncio.gather(*(request(port, path, body) for _ in range(clients)))
            best = min(best, (ask(orders) - before) / (clients * tokens * choices))
        print(f"{name:34} {best * 1e6:7.1f} µs per token")


def ask(orders: multiprocessing.connection.Connection) -> float:
    orders.send("time")
    seconds: float = orders.recv()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the server's processor time per token.")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    arguments = parser.parse_args()
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=server_process, args=(listening, theirs))
    process.start()
    try:
        port = listening.getsockname()[1]
        asyncio.run(measure(port, ours, clients=arguments.clients, tokens=arguments.tokens))
    finally:
        ours.send("stop")
        process.join(10)


if __name__ == "__main__":
    main()
