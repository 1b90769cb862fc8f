"""What users write, and what lets them in, is in no log, whatever became of the request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.end_to_end.conftest import RunningStack

MARKER = "zyxmarkerxyz"

REQUESTS: list[tuple[str, Any]] = [
    ("completions", {"model": "tiny-gpt2", "prompt": MARKER, "max_tokens": 2}),
    ("completions", {"model": "tiny-gpt2", "prompt": MARKER, "max_tokens": 2, "stream": True}),
    ("completions", {"model": "tiny-gpt2", "prompt": MARKER, "max_tokens": MARKER}),
    ("completions", {"model": MARKER, "prompt": MARKER}),
    ("completions", {"model": "tiny-gpt2", "prompt": MARKER, MARKER: 1}),
    ("completions", {"model": "tiny-gpt2", "prompt": "${jndi:ldap://" + MARKER}),
    ("completions", {"model": "tiny-gpt2", "prompt": MARKER * 5000, "max_tokens": 2}),
    ("completions", f'{{"model": "tiny-gpt2", "prompt": "{MARKER}'.encode()),
    ("completions", MARKER.encode() * 20000),
    ("chat/completions", {"model": "tiny-chat", "messages": [{"role": "user", "content": MARKER}], "max_tokens": 2}),
    ("chat/completions", {"model": "tiny-chat", "messages": [{"role": MARKER, "content": MARKER}]}),
    ("chat/completions", {"model": "tiny-gpt2", "messages": [{"role": "user", "content": MARKER}]}),
    ("embeddings", {"model": "tiny-embed", "input": MARKER}),
    ("embeddings", {"model": "tiny-embed", "input": MARKER, "dimensions": MARKER}),
    ("sentiment", {"input": [MARKER, 5]}),
    ("sentiment", {"input": MARKER}),
    ("keywords", {"input": f"{MARKER} and {MARKER}"}),
    ("keywords", {"input": MARKER, "top_k": MARKER}),
    ("augment", {"input": f"{MARKER} is a word", "method": "fill_mask", "preserve": [MARKER]}),
    ("augment", {"input": MARKER, "method": MARKER}),
    ("fill-mask", {"input": f"{MARKER} [MASK]"}),
    ("fill-mask", {"input": MARKER}),
    (f"{MARKER}", {"input": MARKER}),
]


def _log_events(stack: RunningStack) -> Iterator[str]:
    environment = stack.environment
    logs = boto3.client(
        "logs",
        endpoint_url=stack.status["endpoints"]["logs"],
        region_name="eu-west-1",
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        verify=environment["AWS_CA_BUNDLE"],
    )
    for group in logs.describe_log_groups()["logGroups"]:
        for stream in logs.describe_log_streams(logGroupName=group["logGroupName"])["logStreams"]:
            events = logs.get_log_events(
                logGroupName=group["logGroupName"], logStreamName=stream["logStreamName"], startFromHead=True
            )
            yield from (event["message"] for event in events["events"])


@pytest.fixture(scope="module")
def spoken(stack: RunningStack) -> RunningStack:
    """The stack after every route has been called with the marker, as a consumer and as a stranger."""
    statuses = set()
    for token in (stack.token(), "mk_" + MARKER, f"sk-{MARKER}"):
        for route, body in REQUESTS:
            answer = stack.post(route, body, token=token, headers={"content-type": "application/json"})
            statuses.add(answer.status_code)
    assert {200, 400, 401, 403, 404} <= statuses, statuses
    return stack


def test_no_log_file_has_the_marker_or_a_token(spoken: RunningStack) -> None:
    secrets = [MARKER, *spoken.status["tokens"].values()]
    log_files = [path for path in Path(spoken.status["log_dir"]).rglob("*") if path.is_file()]
    assert len(log_files) >= 4
    assert sum(path.stat().st_size for path in log_files) > 0
    for path in log_files:
        content = path.read_text(encoding="utf-8", errors="replace")
        assert [secret for secret in secrets if secret in content] == [], path.name


def test_no_log_group_has_the_marker_or_a_token(spoken: RunningStack) -> None:
    events = list(_log_events(spoken))
    assert events, "the gateway's access log must have arrived"
    secrets = [MARKER, *spoken.status["tokens"].values()]
    assert [event for event in events if any(secret in event for secret in secrets)] == []


def test_no_error_says_what_the_user_wrote(spoken: RunningStack) -> None:
    for route, body in REQUESTS:
        answer = spoken.post(route, body, headers={"content-type": "application/json"})
        if answer.status_code >= 400:
            text = json.dumps(answer.json()["error"])
            named_by_the_user = isinstance(body, dict) and (MARKER in body or body.get("model") == MARKER)
            assert named_by_the_user or MARKER not in text, (route, text)


def test_status_is_for_its_owner_alone(spoken: RunningStack) -> None:
    home = spoken.sandbox.home
    for path in (home / "stacks" / "local").iterdir():
        if path.is_file() and path.name in {"status.json", "state.json", "state.key"}:
            assert path.stat().st_mode & 0o077 == 0, path.name
    state = (home / "stacks" / "local" / "state.json").read_text(encoding="utf-8")
    assert "PRIVATE KEY" not in state
