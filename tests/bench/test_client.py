"""The load client against a server that says what the test wants, in the pieces the test wants."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from bench.harness.client import Ask, json_body
from bench.harness.loops import closed_loop, open_loop
from bench.harness.measuring import figures_of
from bench.harness.soaking import outcome_of, soak

EVENT = b'data: {"choices": [{"text": "a"}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"completion_tokens": 3}}\n\ndata: [DONE]\n\n'


def chunked(*pieces: bytes, status: bytes = b"200 OK", headers: bytes = b"") -> list[bytes]:
    head = b"HTTP/1.1 " + status + b"\r\n" + headers + b"transfer-encoding: chunked\r\n\r\n"
    return [head, *(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n"]


def whole(body: bytes, status: bytes = b"200 OK", headers: bytes = b"") -> list[bytes]:
    return [b"HTTP/1.1 " + status + b"\r\n" + headers + b"content-length: %d\r\n\r\n" % len(body) + body]


class Server:
    """Answers by path, piece by piece; the path /close closes the connection after an answer."""

    def __init__(self) -> None:
        self.answers: dict[str, list[bytes]] = {}
        self.requests: list[str] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                path = head.split()[1]
                length = int(head.lower().partition("content-length: ")[2].split()[0])
                await reader.readexactly(length)
                self.requests.append(path)
                for piece in self.answers[path]:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.002)
                if path == "/close":
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    made.start()
    yield made
    made.stop()


def ask(path: str, *, streams: bool = True, tokens: int | None = None, leave_after: int | None = None) -> Ask:
    return Ask(path, json_body({"prompt": [1]}), streams, tokens=tokens, leave_after=leave_after)


def test_a_stream_counts_its_texts_and_takes_the_tokens_from_its_usage(server: Server) -> None:
    server.answers["/"] = chunked(EVENT, EVENT[:9], EVENT[9:], EVENT, USAGE)
    run = closed_loop(server.port, [ask("/", tokens=3)] * 4, clients=2)
    assert run.failures == []
    assert [(len(answer.events), answer.tokens, answer.status) for answer in run.answers] == [(3, 3, 200)] * 4
    assert all(answer.sent < answer.events[0] <= answer.events[-1] <= answer.ended for answer in run.answers)
    assert figures_of(run, server_cpu=1.0)["tokens_per_cpu_second"] == 12


def test_an_answer_with_too_few_tokens_is_a_failure(server: Server) -> None:
    server.answers["/"] = chunked(EVENT, USAGE)
    run = closed_loop(server.port, [ask("/", tokens=5)], clients=1)
    assert run.failures == ["3 tokens instead of 5"]
    assert figures_of(run, server_cpu=1.0)["tokens_per_second"] == 0


def test_an_error_in_a_stream_and_another_status_are_failures(server: Server) -> None:
    server.answers["/stream"] = chunked(EVENT, b'data: {"error": {"message": "no"}}\n\n')
    server.answers["/status"] = whole(b"{}", status=b"500 Internal Server Error")
    run = closed_loop(server.port, [ask("/stream"), ask("/status")], clients=1)
    assert run.failures == ["an error in the stream", "status 500"]


def test_a_connection_that_the_server_closed_in_between_is_opened_again(server: Server) -> None:
    server.answers["/close"] = whole(b'{"usage": {"completion_tokens": 1}}')
    run = closed_loop(server.port, [ask("/close", streams=False, tokens=1)] * 3, clients=1)
    assert (len(run.good), run.failures) == (3, [])


def test_nothing_listening_is_a_failure_and_no_exception() -> None:
    run = closed_loop(1, [ask("/")], clients=1)
    assert len(run.failures) == 1


def test_an_open_loop_does_not_wait_for_answers(server: Server) -> None:
    server.answers["/"] = chunked(*[EVENT] * 20, USAGE)
    run = open_loop(server.port, [ask("/")] * 5, [0.0, 0.001, 0.002, 0.003, 0.004])
    sent, ended = [answer.sent for answer in run.answers], [answer.ended for answer in run.answers]
    assert max(sent) < min(ended)


def test_a_client_that_leaves_does_so_after_as_many_pieces_as_it_was_told(server: Server) -> None:
    server.answers["/"] = chunked(*[EVENT] * 50, USAGE)
    run = closed_loop(server.port, [ask("/", leave_after=2)], clients=1)
    assert run.answers[0].left
    assert 2 <= len(run.answers[0].events) < 50


def test_a_soak_sorts_what_became_of_each_request(server: Server) -> None:
    server.answers["/ok"] = chunked(EVENT, USAGE)
    server.answers["/busy"] = whole(b"{}", status=b"429 Too Many Requests", headers=b"retry-after: 2\r\n")
    server.answers["/curt"] = whole(b"{}", status=b"429 Too Many Requests")
    server.answers["/short"] = chunked(EVENT, USAGE)
    asks = [ask("/ok", tokens=3), ask("/busy"), ask("/curt"), ask("/short", tokens=9), ask("/ok", leave_after=1)] * 100
    found = soak(server.port, iter(asks), rate=100.0, seconds=0.5, resident_mib=lambda: 5.0, seed="a")
    assert sum(found.outcomes.values()) == len(server.requests)
    assert {"answered", "refused", "left", "lost"} == set(found.outcomes)
    assert {"status 429", "3 tokens instead of 9"} == set(found.reasons)
    assert not found.whole
    assert found.memory_between(0, 1) == 5


def test_a_refusal_without_retry_after_is_lost() -> None:
    from bench.harness.client import Answer

    assert outcome_of(Answer(0.0, status=503, retry_after="3", failure="status 503"), ask("/")) == "refused"
    assert outcome_of(Answer(0.0, status=503, failure="status 503"), ask("/")) == "lost"
    assert outcome_of(Answer(0.0, status=200, tokens=4), ask("/", tokens=4)) == "answered"


def test_the_steady_rate_leaves_out_the_end_when_clients_run_dry() -> None:
    from bench.harness.client import Answer
    from bench.harness.loops import Run

    ends = [1.0, 1.0, 2.0, 2.0, 3.0, 9.0]
    run = Run(tuple(Answer(0.0, ended=end) for end in ends), 9.0, 0.0)
    assert run.steady_rate(2) == 2
