"""A consumer's life on the local stack, by the commands that its operator gives."""

from __future__ import annotations

import time
from pathlib import Path

from tests.end_to_end.conftest import RunningStack

SECONDS = 10.0  # for what is effective in seconds, on a machine that is busy


def keys(stack: RunningStack, *arguments: str) -> tuple[str, str]:
    """What `modelkeep keys` prints: the token, and what it says of it."""
    done = stack.sandbox.run("keys", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


def told(stack: RunningStack, token: str, *, route: str = "completions") -> tuple[int, str]:
    body = {"model": "tiny-gpt2", "prompt": "The quick", "max_tokens": 1}
    answer = stack.post(route, body, token=token)
    return answer.status_code, "" if answer.status_code == 200 else answer.json()["error"]["code"]


def until(stack: RunningStack, token: str, expected: tuple[int, str]) -> None:
    began = time.monotonic()
    while (found := told(stack, token)) != expected:
        assert time.monotonic() - began < SECONDS, found
        time.sleep(0.2)


def test_a_consumer_is_made_rotated_frozen_and_revoked(stack: RunningStack, tmp_path: Path) -> None:
    old, _ = keys(stack, "create", "carol", "--plan", "demo", "--task", "completions", "--contact", "carol@example.com")
    assert told(stack, old) == (200, "")
    assert told(stack, old, route="embeddings") == (403, "task_not_allowed")
    _, said = keys(stack, "freeze", "--consumer", "carol")
    assert "effective in seconds" in said
    until(stack, old, (403, "consumer_frozen"))
    keys(stack, "thaw", "--consumer", "carol")
    until(stack, old, (200, ""))
    new, said = keys(stack, "rotate", "carol", "--overlap", "1h")
    assert "carol: 1 older token ends" in said
    assert (told(stack, old), told(stack, new)) == ((200, ""), (200, ""))
    file = tmp_path / "token"
    file.write_text(new)
    assert "effective within 60 s" in keys(stack, "revoke", str(file))[1]
