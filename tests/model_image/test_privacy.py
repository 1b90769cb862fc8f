"""No text of a user reaches a log or a metric, whatever route it takes and however the request ends."""

import io
import json
import logging
import re
import threading
from typing import Any

import httpx

from model_image.request_log import JsonLog, _JsonHandler, place_of
from tests.model_image.server_process import ServerProcess

MARKER = "Zmarkertext"
GOOD: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"model": "tiny-gpt2", "prompt": MARKER, "user": MARKER, "stop": MARKER, "echo": True}),
    ("/v1/completions", {"model": "tiny-gpt2", "prompt": MARKER, "stream": True, "max_tokens": 3}),
    ("/v1/chat/completions", {"model": "tiny-chat", "messages": [{"role": "user", "content": MARKER, "name": MARKER}]}),
    ("/v1/embeddings", {"model": "tiny-embed", "input": MARKER}),
    ("/v1/sentiment", {"input": MARKER}),
    ("/v1/keywords", {"input": MARKER}),
    ("/v1/augment", {"input": f"a {MARKER} dog", "preserve": [MARKER]}),
    ("/v1/augment", {"input": f"a {MARKER} dog", "method": "generate"}),
    ("/v1/fill-mask", {"input": f"{MARKER} [MASK]"}),
]
BAD: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"model": MARKER, "prompt": MARKER}),
    ("/v1/completions", {"model": "tiny-gpt2", "prompt": MARKER, MARKER: 1}),
    ("/v1/completions", {"model": "tiny-gpt2", "prompt": {MARKER: MARKER}}),
    ("/v1/completions", {"model": "tiny-gpt2", "prompt": f"{MARKER} " * 100, "max_tokens": 200}),
    ("/v1/chat/completions", {"model": "tiny-gpt2", "messages": [{"role": "user", "content": MARKER}]}),
    ("/v1/chat/completions", {"model": "tiny-chat", "messages": [{"role": MARKER, "content": MARKER}]}),
    ("/v1/embeddings", {"model": "tiny-embed", "input": f"{MARKER} " * 100}),
    ("/v1/sentiment", {"input": f"{MARKER} " * 100}),
    ("/v1/keywords", {"input": f"{MARKER} " * 100}),
    ("/v1/augment", {"input": f"{MARKER} " * 100, "method": MARKER}),
    ("/v1/fill-mask", {"input": MARKER}),
    (f"/v1/{MARKER}", {"input": MARKER}),
]


def test_a_marker_through_every_route_is_in_no_log_and_no_metric(client: httpx.Client, server: ServerProcess) -> None:
    for path, body in GOOD:
        assert client.post(path, json=body).status_code == 200
    for path, body in BAD:
        response = client.post(path, json=body)
        assert 400 <= response.status_code < 500
        # An unknown field is refused by its name; nothing else of the request comes back.
        if MARKER not in body:
            assert MARKER not in response.text
    client.post("/v1/completions", content=f'{{"{MARKER}'.encode(), headers={"content-type": "application/json"})
    client.post("/v1/completions", content=MARKER.encode(), headers={"content-type": MARKER})
    client.get(f"/v1/models/{MARKER}", params={"q": MARKER}, headers={"x-modelkeep-request-id": f"{MARKER} and more"})
    client.request(MARKER.upper(), "/v1/models")

    logged = server.log.read_text()
    for output in (logged, client.get("/metrics").text):
        assert not re.search(MARKER, output, re.IGNORECASE)
    requests = [event for event in server.events() if event["event"] == "request"]
    assert {event["route"] for event in requests} >= {path for path, _ in GOOD}
    assert {event["event"] for event in server.events()} <= {"listening", "model_loaded", "ready", "request", "library"}


def test_every_request_is_one_line_with_its_costs(client: httpx.Client, server: ServerProcess) -> None:
    answer = client.post(
        "/v1/completions", json={"model": "tiny-gpt2", "prompt": "The", "max_tokens": 3, "temperature": 0}
    )

    event = server.request_event(answer.headers["x-request-id"])
    usage = answer.json()["usage"]
    assert event["route"] == "/v1/completions"
    assert (event["status"], event["model"]) == (200, "tiny-gpt2")
    assert (event["prompt_tokens"], event["completion_tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert 0 < event["first_token_ms"] <= event["duration_ms"]


def test_an_exceptions_message_is_never_written() -> None:
    output = io.StringIO()
    log = JsonLog(output)
    handler = _JsonHandler(log)

    try:
        raise ValueError(MARKER)
    except ValueError as error:
        log.fault("request_failed", error)
        record = logging.LogRecord(
            "library", logging.ERROR, "f", 1, "bad text %s", (MARKER,), (ValueError, error, None)
        )
        handler.emit(record)
        handler.emit(logging.LogRecord("library", logging.ERROR, "f", 1, f"bad text {MARKER}", (), None))
        place = place_of(error)

    assert MARKER not in output.getvalue()
    assert "test_privacy.py:" in place
    assert [json.loads(line)["event"] for line in output.getvalue().splitlines()] == [
        "request_failed",
        *["library"] * 2,
    ]


def test_lines_of_several_threads_stay_whole() -> None:
    output = io.StringIO()
    log = JsonLog(output)

    def write_many() -> None:
        for number in range(50):
            log.write("request", n=number)

    threads = [threading.Thread(target=write_many) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len([json.loads(line) for line in output.getvalue().splitlines()]) == 200
