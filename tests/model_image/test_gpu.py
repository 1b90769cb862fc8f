"""What is read of nvidia-smi, with a program of the test's own in its place: no GPU is at hand."""

import asyncio
import time
from pathlib import Path

import pytest

from model_image import gpu
from model_image.gpu import GpuError, gpu_use, parse


def program(directory: Path, script: str) -> Path:
    path = directory / gpu.PROGRAM
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_use_is_the_mean_and_memory_that_of_the_fullest(tmp_path: Path) -> None:
    asked = program(tmp_path, f'echo "$@" > {tmp_path}/asked; printf "80, 6000, 24000\\n40, 18000, 24000\\n"')
    assert asyncio.run(gpu_use(asked)) == {"GpuUtilization": 60.0, "GpuMemoryUtilization": 75.0}
    assert "utilization.gpu,memory.used,memory.total" in (tmp_path / "asked").read_text()


@pytest.mark.parametrize("text", ["", "N/A, 1, 2", "1, 2", "1, 2, 0", "1, 2, 3\n1, 2"])
def test_what_is_no_answer_is_an_error(text: str) -> None:
    with pytest.raises(GpuError, match="no percentages"):
        parse(text)


def test_a_program_that_fails_or_hangs_is_an_error_and_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GpuError, match="ended with 9; look at the driver"):
        asyncio.run(gpu_use(program(tmp_path, "exit 9")))
    monkeypatch.setattr(gpu, "TIMEOUT_SECONDS", 0.1)
    started = time.monotonic()
    with pytest.raises(GpuError, match="did not answer within"):
        asyncio.run(gpu_use(program(tmp_path, "exec sleep 30")))
    assert time.monotonic() - started < 10


def test_without_the_driver_there_is_nothing_to_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.find_program() is None
    made = program(tmp_path, "exit 0")
    assert gpu.find_program() == made
