"""A consumer's token budget through the whole API: told by headers and by /v1/usage, counted in the table."""

import json
import time
from typing import Any

import httpx
import pytest

from tests.end_to_end.conftest import RunningStack

BODY = {"model": "tiny-gpt2", "prompt": "The quick", "max_tokens": 7}


def usage(stack: RunningStack) -> dict[str, Any]:
    answer = httpx.get(f"{stack.api_url}/usage", headers={"authorization": f"Bearer {stack.token()}"}, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def settled(stack: RunningStack) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while (found := usage(stack))["day"]["reserved"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_left_is_told_and_what_was_used_is_counted(stack: RunningStack, stream: bool) -> None:
    before = settled(stack)
    streamed = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer = stack.post("completions", BODY | streamed)
    assert answer.status_code == 200
    if stream:
        last = answer.text.split("\n\n")[-3]
        used = json.loads(last.removeprefix("data: "))["usage"]["total_tokens"]
    else:
        used = answer.json()["usage"]["total_tokens"]
    limit = before["day"]["limit"]
    assert (before["consumer"], before["object"]) == ("demo", "usage")
    assert answer.headers["x-ratelimit-limit-tokens"] == str(limit)
    assert int(answer.headers["x-ratelimit-remaining-tokens"]) <= before["day"]["remaining"] - used
    assert answer.headers["x-ratelimit-reset-tokens"].endswith("s")
    after = settled(stack)
    assert after["day"]["used"] - before["day"]["used"] == after["month"]["used"] - before["month"]["used"] == used
