"""The same weights in the formats of the peers, made once under `.bench/converted/`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from bench.harness import environments
from bench.harness.paths import CONVERTED, SERVERS


class ConversionError(Exception):
    """A model could not be converted; the message is the reason for the report."""


def _once(name: str, make: Callable[[Path], None]) -> Path:
    place = CONVERTED / name
    if place.exists():
        return place
    CONVERTED.mkdir(parents=True, exist_ok=True)
    building = CONVERTED / f".building-{name}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        make(building)
        building.replace(place)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return place


def ctranslate2(model: Path, name: str) -> Path:
    """A CTranslate2 model in float32 with the tokenizer beside it; int8 is made from it when it is loaded."""

    def make(directory: Path) -> None:
        python = environments.ensure(environments.CTRANSLATE2)
        _run([python.parent / "ct2-transformers-converter", "--model", model, "--output_dir", directory, "--force"])
        shutil.copy(model / "tokenizer.json", directory)

    return _once(f"{name}-ctranslate2", make)


def gguf(model: Path, name: str, kind: str) -> Path:
    """A GGUF file of type `f32` or `q8_0`."""

    def make(directory: Path) -> None:
        python = environments.ensure(environments.LLAMA_CPP)
        _run([python, SERVERS / "write_gguf.py", model, directory / "model.gguf", kind])

    return _once(f"{name}-gguf-{kind}", make) / "model.gguf"


def ctranslate2_encoder(model: Path, name: str, task: str) -> Path:
    """An encoder as a CTranslate2 model in float32, with the last layer of a classifier beside it."""

    def make(directory: Path) -> None:
        python = environments.ensure(environments.CTRANSLATE2)
        _run([python, SERVERS / "write_ct2_encoder.py", model, task, directory])

    return _once(f"{name}-ctranslate2", make)


def onnx(model: Path, name: str, task: str, weights: str) -> Path:
    """An encoder as ONNX, fused by ONNX Runtime's own tool, and for int8 quantised by its `quantize_dynamic`."""

    def make(directory: Path) -> None:
        python = environments.ensure(environments.ONNXRUNTIME)
        _run([python, SERVERS / "write_onnx.py", model, task, directory, weights])

    return _once(f"{name}-onnx-{weights}", make)


def _run(command: list[Path | str]) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise ConversionError(f"conversion failed: {lines[-1][:300]}")
