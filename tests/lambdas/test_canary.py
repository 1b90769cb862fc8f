"""The canary against an HTTP server of the test's own: what it asks, what it makes of answers, what it writes."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from lambdas import canary, tokens
from lambdas.canary import CALLS, LONGEST_ANSWER, Outcome, call, metric_line, run
from lambdas.environment import CanaryEnvironment
from lambdas.errors import ConfigurationError

TOKEN = tokens.mint()
Answer = Callable[[BaseHTTPRequestHandler], None]


def environment(url: str, task: str = "chat") -> CanaryEnvironment:
    return CanaryEnvironment(api_url=url, model="m", task=task, token_arn="arn:secret", stack="test")


def answering(status: int, body: bytes, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "x-request-id": "r-1", **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


@contextmanager
def api(answer: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append({"path": self.path, "body": json.loads(body), "token": self.headers["Authorization"]})
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        thread.join(timeout=5)
        server.server_close()


@pytest.mark.parametrize("task", sorted(CALLS))
def test_a_call_asks_next_to_nothing_and_is_good_when_something_comes_back(task: str) -> None:
    content = json.dumps({CALLS[task].answer: [{"text": "four"}]}).encode()
    with api(answering(200, content)) as (url, seen):
        outcome = call(environment(url, task), token=TOKEN)
    assert (outcome.reason, outcome.status, outcome.request_id, outcome.good) == ("answered", 200, "r-1", True)
    (asked,) = seen
    assert asked["path"] == f"/v1{CALLS[task].path}"
    assert asked["token"] == f"Bearer {TOKEN}"
    assert asked["body"]["model"] == "m"
    assert asked["body"].get("max_tokens", 1) == 1


@pytest.mark.parametrize(
    ("answer", "reason", "status"),
    [
        (answering(429, b'{"error": {}}', Retry_After="1"), "refused", 429),
        (answering(503, b""), "refused", 503),
        (answering(302, b"", Location="http://127.0.0.1:9/elsewhere"), "refused", 302),
        (answering(200, b'{"choices": []}'), "empty_answer", 200),
        (answering(200, b"<html>"), "empty_answer", 200),
        (answering(200, b'{"choices": "' + b"x" * LONGEST_ANSWER + b'"}'), "empty_answer", 200),
    ],
)
def test_every_other_answer_is_a_failure_with_its_status(answer: Answer, reason: str, status: int) -> None:
    with api(answer) as (url, seen):
        outcome = call(environment(url), token=TOKEN)
    assert (outcome.reason, outcome.status, outcome.good) == (reason, status, False)
    assert len(seen) == 1


def test_silence_and_absence_are_failures_too() -> None:
    with api(lambda _: time.sleep(0.5)) as (url, _):
        assert call(environment(url), token=TOKEN, timeout=0.1).reason == "timeout"
        assert call(environment(url), token=TOKEN).reason == "unreachable"  # closed without an answer
    assert call(environment(url), token=TOKEN).reason == "unreachable"  # nobody is there any more


@pytest.mark.parametrize(("token", "reason"), [(None, "no_token"), ("changeme", "malformed_token")])
def test_without_a_token_nobody_is_called(token: str | None, reason: str) -> None:
    with api(answering(200, b"{}")) as (url, seen):
        outcome = run(environment(url), read_token=lambda _: token)
    assert (outcome.reason, outcome.good, seen) == (reason, False, [])


def test_the_line_is_in_the_embedded_metric_format() -> None:
    line = metric_line(Outcome("answered", 200, "r-1", 0.25), stack="prod", at=1.5)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert line["_aws"]["Timestamp"] == 1500
    assert (directive["Namespace"], directive["Dimensions"]) == ("modelkeep", [["Stack"]])
    assert {each["Name"]: line[each["Name"]] for each in directive["Metrics"]} == {
        "CanarySuccess": 1.0,
        "CanaryMilliseconds": 250.0,
    }
    assert line["Stack"] == "prod"
    failed = metric_line(Outcome("unreachable", None, None, 3.0), stack="prod", at=1.5)
    assert failed["CanarySuccess"] == 0.0
    assert "CanaryMilliseconds" not in failed


def test_the_handler_writes_one_line_without_token_question_or_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(canary, "_read_token", lambda arn: TOKEN if arn == "arn:secret" else None)
    with api(answering(200, b'{"choices": [{"text": "an answer"}]}')) as (url, _):
        for name, value in {"API_URL": url + "/", "MODEL": "m", "TASK": "completions", "STACK": "test"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TOKEN_ARN", "arn:secret")
        canary.handler({}, None)
    written = capsys.readouterr()
    assert json.loads(written.out)["CanarySuccess"] == 1.0
    assert written.out.count("\n") == 1
    for private in (TOKEN, canary._TEXT, "an answer"):
        assert private not in written.out + written.err


def test_an_environment_that_is_not_the_stacks_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"API_URL": "https://api.example/v1", "MODEL": "m", "TASK": "chat", "TOKEN_ARN": "a", "STACK": "s"}
    assert CanaryEnvironment.read(good) == replace(environment("https://api.example/v1"), token_arn="a", stack="s")
    for name in good:
        with pytest.raises(ConfigurationError, match=f"environment variable {name} is not set"):
            CanaryEnvironment.read({**good, name: ""})
    for url in ("http://api.example/v1", "http://127.0.0.1.example/v1", "ftp://x"):
        with pytest.raises(ConfigurationError, match="API_URL is no https://"):
            CanaryEnvironment.read({**good, "API_URL": url})
    for name, value in {**good, "TASK": "augmentation"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="TASK is augmentation; it is one of completions, chat"):
        canary.handler({}, None)
