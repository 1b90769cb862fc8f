"""One process at a time runs a stack, and a killed one blocks nobody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from local import lock
from local.errors import LocalError

HOLDER = """
import pathlib, sys, time
from local import lock
from local.interrupts import Interrupted, interruptible
with interruptible(), lock.running(pathlib.Path(sys.argv[1]), stack="local"):
    print("held", flush=True)
    time.sleep(60)
"""
DEAF = HOLDER.replace(
    "with interruptible(), lock", "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwith lock"
)


def _start(program: str, lock_file: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", program, str(lock_file)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_by_name(tmp_path: Path) -> None:
    lock_file = tmp_path / "lock"
    with _start(HOLDER, lock_file) as first:
        try:
            assert lock.holder(lock_file) == first.pid
            with (
                pytest.raises(LocalError, match=f"process {first.pid}.*modelkeep local down"),
                lock.running(lock_file, stack="local"),
            ):
                pass
        finally:
            first.kill()


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    lock_file = tmp_path / "lock"
    with _start(HOLDER, lock_file) as first:
        first.send_signal(signal.SIGKILL)
    assert lock.holder(lock_file) is None
    with lock.running(lock_file, stack="local"):
        assert lock_file.read_text() == str(os.getpid())
    assert lock_file.read_text() == ""


def test_end_waits_for_a_clean_end(tmp_path: Path) -> None:
    lock_file = tmp_path / "lock"
    with _start(HOLDER, lock_file) as first:
        assert lock.end(lock_file, timeout=20) is True
        assert first.wait(10) == 128 + signal.SIGTERM
    assert lock.end(lock_file, timeout=1) is True


def test_end_kills_what_does_not_listen(tmp_path: Path) -> None:
    lock_file = tmp_path / "lock"
    with _start(DEAF, lock_file) as first:
        assert lock.end(lock_file, timeout=0.3) is False
        assert first.wait(10) == -signal.SIGKILL
