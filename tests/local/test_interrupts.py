"""A signal becomes one exception, and never between the start of a process and its being recorded."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from local.emulators import Emulators
from local.interrupts import Interrupted, interruptible, postponed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_raised_once_and_then_ignored(number: signal.Signals) -> None:
    ended = []

    def work() -> None:
        with interruptible():
            try:
                os.kill(os.getpid(), number)
            finally:
                os.kill(os.getpid(), number)  # what is being ended is not interrupted
                ended.append(True)

    with pytest.raises(Interrupted) as raised:
        work()
    assert ended == [True]
    assert raised.value.number == number
    assert raised.value.code == 128 + number


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_a_postponed_signal_comes_at_the_end_of_the_block() -> None:
    done = []

    def work() -> None:
        with interruptible():
            with postponed():
                with postponed():
                    os.kill(os.getpid(), signal.SIGINT)
                    done.append("inner")
                done.append("outer")
            done.append("after")

    with pytest.raises(Interrupted):
        work()
    assert done == ["inner", "outer"]
    with interruptible(), postponed():
        pass


def test_an_emulator_interrupted_as_it_is_born_does_not_survive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    born = []
    spawn = Emulators._spawn

    def interrupted_spawn(self: Emulators, *, name: str, url: str) -> object:
        child = spawn(self, name=name, url=url)
        born.append(child.process)
        os.kill(os.getpid(), signal.SIGINT)
        return child

    monkeypatch.setattr(Emulators, "_spawn", interrupted_spawn)
    with pytest.raises(Interrupted), interruptible(), Emulators(region="eu-west-1", log_dir=tmp_path / "logs"):
        pass
    assert len(born) == 1
    assert born[0].poll() is not None
