"""The servers that classify and embed: how each is started and asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import orjson

from bench.harness import conversions, environments
from bench.harness.client import Answer, Ask, json_body
from bench.harness.contenders import Batching, Launch, Weights, ours
from bench.harness.paths import SERVERS
from bench.harness.workload import Prompt
from model_image.manifest import read_manifest

EncoderTask = Literal["classification", "embeddings"]
Launcher = Callable[[Path, int, int], Launch]


@dataclass(frozen=True)
class EncoderContender:
    """
    One server of the comparison for one task.

    `form` is how its requests look: ours, infinity's, or the plain one of our servers around the libraries.
    """

    name: str
    label: str
    batching: Batching
    weights: Weights
    task: EncoderTask
    launch: Launcher
    form: Literal["ours", "infinity", "plain"] = "plain"
    start_seconds: float = 180

    def ask(self, directory: Path, prompt: Prompt) -> Ask:
        """The request for one text."""
        if self.form == "plain":
            return Ask("/", json_body({"input": prompt.text}), streams=False)
        model = read_manifest(directory).name
        if self.form == "infinity":
            return Ask("/embeddings", json_body({"model": model, "input": [prompt.text]}), streams=False)
        path = "/v1/sentiment" if self.task == "classification" else "/v1/embeddings"
        return Ask(path, json_body({"model": model, "input": prompt.text}), streams=False)

    def numbers(self, answer: Answer) -> list[float]:
        """The vector, or the probabilities in the order of the labels."""
        data: Any = orjson.loads(answer.body)["data"]
        if self.form == "plain":
            return list(data)
        return list(data[0]["scores"].values()) if self.task == "classification" else list(data[0]["embedding"])


def contenders(task: EncoderTask) -> list[EncoderContender]:
    """All servers for a task; infinity-emb embeds only."""
    make = partial(EncoderContender, task=task)
    found = [
        make("ours", "modelkeep", "continuous", "float32", launch=_ours("float32"), form="ours"),
        make("ours-int8", "modelkeep int8", "continuous", "int8", launch=_ours("int8"), form="ours"),
        make("fastapi", "FastAPI + transformers", "none", "float32", launch=_fastapi(task)),
        make("onnxruntime", "ONNX Runtime, bucketed", "static", "float32", launch=_onnx(task, "float32")),
        make("onnxruntime-int8", "ONNX Runtime int8, bucketed", "static", "int8", launch=_onnx(task, "int8")),
        make("ctranslate2", "ctranslate2, bucketed", "static", "float32", launch=_ctranslate2(task, "float32")),
        make("ctranslate2-int8", "ctranslate2 int8, bucketed", "static", "int8", launch=_ctranslate2(task, "int8")),
    ]
    if task == "embeddings":
        found.append(make("infinity", "infinity-emb", "static", "float32", launch=_infinity, form="infinity"))
    return found


def _ours(weights: Weights) -> Launcher:
    def launch(directory: Path, port: int, _core: int) -> Launch:
        # 64 clients are 64 requests at once, which the default for a fleet of many instances would turn away.
        return ours([directory], port, weights=weights, target_inflight="64")

    return launch


def _fastapi(task: EncoderTask) -> Launcher:
    def launch(directory: Path, port: int, _core: int) -> Launch:
        python = environments.ensure(environments.TRANSFORMERS)
        return Launch([str(python), str(SERVERS / "fastapi_encode.py"), str(directory), task, str(port)], {})

    return launch


def _onnx(task: EncoderTask, weights: Weights) -> Launcher:
    def launch(directory: Path, port: int, _core: int) -> Launch:
        python = environments.ensure(environments.ONNXRUNTIME)
        converted = conversions.onnx(directory, read_manifest(directory).name, task, weights)
        return Launch([str(python), str(SERVERS / "onnx_encode.py"), str(converted), task, str(port)], {})

    return launch


def _ctranslate2(task: EncoderTask, weights: Weights) -> Launcher:
    def launch(directory: Path, port: int, _core: int) -> Launch:
        python = environments.ensure(environments.CTRANSLATE2)
        converted = conversions.ctranslate2_encoder(directory, read_manifest(directory).name, task)
        return Launch([str(python), str(SERVERS / "ct2_encode.py"), str(converted), task, str(port), weights], {})

    return launch


def _infinity(directory: Path, port: int, _core: int) -> Launch:
    python = environments.ensure(environments.INFINITY)
    command = [
        str(python.parent / "infinity_emb"), "v2", "--model-id", str(directory), "--served-model-name",
        read_manifest(directory).name, "--engine", "torch", "--device", "cpu", "--dtype", "float32", "--batch-size",
        "32", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    return Launch(command, {"INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1"})
