"""Child processes end whole; a ledger ends exactly those it recorded."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.errors import LocalError
from local.processes import ChildProcess, ProcessLedger, last_line, start_mark

SLEEP = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
PARENT = (
    "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    "print(child.pid, flush=True); child.wait()"
)


@pytest.fixture
def started() -> Iterator[list[ChildProcess]]:
    children: list[ChildProcess] = []
    yield children
    for child in children:
        child.kill()


def start(started: list[ChildProcess], directory: Path, code: str) -> ChildProcess:
    log_file = directory / f"{len(started)}.log"
    child = ChildProcess(
        command=[sys.executable, "-c", code], environment=dict(os.environ), directory=directory, log_file=log_file
    )
    started.append(child)
    while not log_file.read_text():
        assert child.poll() is None
        time.sleep(0.01)
    return child


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while start_mark(pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_child_leads_its_own_session_and_logs_privately(started: list[ChildProcess], tmp_path: Path) -> None:
    child = start(started, tmp_path, SLEEP)
    assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid
    assert child.log_file.read_text() == "up\n"
    assert child.log_file.stat().st_mode & 0o077 == 0
    assert child.poll() is None
    child.end(grace_seconds=5)
    assert child.poll() == -signal.SIGTERM


def test_a_stubborn_child_is_killed_after_its_grace(started: list[ChildProcess], tmp_path: Path) -> None:
    child = start(started, tmp_path, STUBBORN)
    child.end(grace_seconds=0.2)
    assert child.poll() == -signal.SIGKILL
    child.end(grace_seconds=0.2)


def test_what_a_killed_child_had_started_goes_with_it(started: list[ChildProcess], tmp_path: Path) -> None:
    child = start(started, tmp_path, PARENT)
    grandchild = int(child.log_file.read_text())
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait(5)
    assert child.poll() == -signal.SIGKILL
    assert gone(grandchild)


def test_many_threads_may_end_one_child(started: list[ChildProcess], tmp_path: Path) -> None:
    child = start(started, tmp_path, SLEEP)
    statuses: list[int | None] = []

    def end() -> None:
        child.kill()
        statuses.append(child.poll())

    threads = [threading.Thread(target=end) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [-signal.SIGKILL] * 8


def test_a_missing_program_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"^cannot start /no/such: no such program; .*$"):
        ChildProcess(command=["/no/such"], environment={}, directory=tmp_path, log_file=tmp_path / "log")


def test_a_ledger_ends_what_it_recorded_and_nothing_else(started: list[ChildProcess], tmp_path: Path) -> None:
    ledger = ProcessLedger(tmp_path / "stack" / "pids.json")
    recorded, stubborn, other = (start(started, tmp_path, code) for code in (SLEEP, STUBBORN, SLEEP))
    ledger.add(pid=recorded.pid, name="one")
    ledger.add(pid=stubborn.pid, name="two")
    assert (tmp_path / "stack" / "pids.json").stat().st_mode & 0o077 == 0
    ended = ProcessLedger(tmp_path / "stack" / "pids.json").end_all(grace_seconds=0.3)
    assert [entry.name for entry in ended] == ["one", "two"]
    assert recorded.poll() == -signal.SIGTERM
    assert stubborn.poll() == -signal.SIGKILL
    assert other.poll() is None
    assert ledger.entries() == []
    assert ledger.end_all(grace_seconds=0.3) == []


def test_a_reused_process_id_is_left_alone(started: list[ChildProcess], tmp_path: Path) -> None:
    path = tmp_path / "pids.json"
    ledger = ProcessLedger(path)
    innocent = start(started, tmp_path, SLEEP)
    ledger.add(pid=innocent.pid, name="server")
    mark = start_mark(innocent.pid)
    assert mark is not None
    path.write_text(path.read_text().replace(mark, mark + "9"))  # the same id, started at another time
    assert ledger.alive() == []
    assert ledger.end_all(grace_seconds=0.2) == []
    assert innocent.poll() is None


def test_an_ended_process_is_not_alive_even_before_it_is_collected(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ledger = ProcessLedger(tmp_path / "pids.json")
    ledger.add(pid=process.pid, name="short")
    assert [entry.pid for entry in ledger.alive()] == [process.pid]
    process.kill()
    assert gone(process.pid)
    assert ledger.alive() == []
    process.communicate()
    ledger.add(pid=process.pid, name="gone already")
    assert [entry.name for entry in ledger.entries()] == ["short"]


def test_a_ledger_keeps_every_record_of_threads_that_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "pids.json"

    def add(name: str) -> None:
        ProcessLedger(path).add(pid=os.getpid(), name=name)

    threads = [threading.Thread(target=add, args=(str(number),)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.name for entry in ProcessLedger(path).entries()} == {str(number) for number in range(16)}
    ProcessLedger(path).discard(pid=os.getpid())
    assert ProcessLedger(path).entries() == []


@pytest.mark.parametrize("text", ["{", "[1]", '[{"pid": 1}]', "7"])
def test_a_damaged_ledger_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pids.json"
    path.write_text(text)
    with pytest.raises(LocalError, match=r"pids\.json is not a list of processes"):
        ProcessLedger(path).entries()


def test_the_last_line_that_says_something(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_line(log) == "(no log)"
    log.write_text("\n \n")
    assert last_line(log) == "(empty log)"
    log.write_bytes(b"first\n" + b"x" * 20_000 + b"\nlast \xff one\n\n")
    assert last_line(log) == "last \ufffd one"
