"""What a run has done so far, line by line, beside the state file: what is there when the process is killed half-way.

The state file is written whole when a run ends; a line here costs one resource. Replayed over the state of before, the
lines give the state at the moment of the end, and the creations that were begun and never answered.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from local.records import ResourceRecord
from local.state import State, load_state, record_from_json, record_to_json, state_cipher


class Journal:
    """Appends to `state_file`'s journal, readable by its owner alone; called from many threads."""

    def __init__(self, state_file: Path) -> None:
        state_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = journal_file(state_file)
        self._cipher = state_cipher(state_file)
        self._lock = threading.Lock()

    def begin(self, urn: str) -> None:
        """A creation is about to be asked for."""
        self._write({"begin": urn})

    def refused(self, urn: str) -> None:
        """The creation that was begun has not happened."""
        self._write({"refused": urn})

    def made(self, record: ResourceRecord) -> None:
        """A resource is made, changed, or waits for its deletion."""
        self._write({"made": record_to_json(record, self._cipher)})

    def gone(self, record: ResourceRecord) -> None:
        """A resource is deleted."""
        self._write({"gone": [record.urn, record.id]})

    def close(self) -> None:
        """The state file has it all now."""
        self._path.unlink(missing_ok=True)

    def _write(self, line: dict[str, Any]) -> None:
        data = f"{json.dumps(line)}\n".encode()
        with self._lock:
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, data)
            finally:
                os.close(handle)


def journal_file(state_file: Path) -> Path:
    """Where the journal of a state file is."""
    return state_file.with_suffix(".journal")


def recover(state_file: Path) -> State:
    """The state of a stack, with what a run did that was killed before it could write it."""
    state = load_state(state_file)
    journal = journal_file(state_file)
    if not journal.exists():
        return state
    cipher = state_cipher(state_file)
    records = {(record.urn, record.id): record for record in state.resources}
    interrupted = dict.fromkeys(state.interrupted)
    for line in _whole_lines(journal):
        if "begin" in line:
            interrupted[line["begin"]] = None
        elif "refused" in line:
            interrupted.pop(line["refused"], None)
        elif "gone" in line:
            records.pop(tuple(line["gone"]), None)
        else:
            record = record_from_json(line["made"], cipher)
            interrupted.pop(record.urn, None)
            _put(records, record)
    return State(resources=tuple(records.values()), interrupted=tuple(interrupted))


def _put(records: dict[tuple[str, str], ResourceRecord], record: ResourceRecord) -> None:
    """Take the record; a live one takes the place of whatever lived under its URN or under an alias of it."""
    if not record.delete_pending:
        names = {record.urn, *record.aliases}
        for key in [key for key, other in records.items() if other.urn in names and not other.delete_pending]:
            del records[key]
    records.pop((record.urn, record.id), None)
    records[record.urn, record.id] = record


def _whole_lines(journal: Path) -> list[dict[str, Any]]:
    """The lines that were written to their end; the last may have been cut."""
    text = journal.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
