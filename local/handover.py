"""How a process that has changed a stack tells the one that runs it, and hears what came of it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from local import engine
from local.errors import LocalError
from local.layout import Layout
from local.stack import LocalStack, read_status, write_private

PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Handover:
    """One message: its own id, and the tokens of consumers that are new."""

    id: str
    tokens: Mapping[str, str] = field(repr=False)


def hand_over(layout: Layout, stack: str, *, tokens: Mapping[str, str]) -> None:
    """Have the running process follow the state file, and wait until it does; raises LocalError with its reason."""
    message = secrets.token_hex(8)
    write_private(layout.handover_file(stack), {"id": message, "tokens": dict(tokens)})
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        answer = read_status(layout, stack).get("handover", {})
        if answer.get("id") == message and answer["state"] == "done":
            return
        if answer.get("id") == message and answer["state"] == "failed":
            raise LocalError(answer["reason"])
        time.sleep(0.1)
    raise LocalError(
        f"stack {stack} was changed, but the process that runs it has not followed in {PATIENCE_SECONDS:.0f} s: "
        f"see {layout.log_dir(stack)}"
    )


class Follower:
    """The running process's side: `look` is called again and again, and never waits for the fleet."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self._file = stack.layout.handover_file(stack.stack)
        self._file.unlink(missing_ok=True)  # of a stack that is gone
        self._pending: Handover | None = None

    def look(self) -> None:
        """Begin with a message that has come, or see how far the one before is."""
        message = self._take()
        try:
            if message is not None:
                self._pending = message
                self._say(message, state="begun")
                self._stack.tokens.update(message.tokens)
                state_file = self._stack.layout.state_file(self._stack.stack)
                self._stack.take_over(engine.deployed(stack=self._stack.stack, state_file=state_file))
            if self._pending is not None and self._stack.fleet.settled():
                self._say(self._pending, state="done")
                self._pending = None
        except LocalError as error:
            if self._pending is not None:
                self._say(self._pending, state="failed", reason=str(error))
            self._pending = None

    def _take(self) -> Handover | None:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        self._file.unlink()  # it holds tokens
        return Handover(id=content["id"], tokens=content["tokens"])

    def _say(self, message: Handover, *, state: str, reason: str = "") -> None:
        self._stack.handover = {"id": message.id, "state": state, "reason": reason}
