"""The image's recipe as plain data: what no build may lose, whatever it is built with."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.components.image import _SOURCES
from model_image.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]
PINNED = re.compile(r"[a-z0-9.-]+(/[a-z0-9._-]+)+:[A-Za-z0-9._-]+@sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile."""

    name: str
    value: str

    def words(self) -> list[str]:
        """The value without options such as --from."""
        return [word for word in self.value.split() if not word.startswith("--")]


def parse(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in joined]


INSTRUCTIONS = parse((ROOT / "model_image" / "Dockerfile").read_text())


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, from its FROM on; what stands before the first is left out."""
    found: list[list[Instruction]] = []
    for each in INSTRUCTIONS:
        if each.name == "FROM":
            found.append([])
        if found:
            found[-1].append(each)
    return found


def all_of(stage: list[Instruction], name: str) -> list[str]:
    values = [each.value for each in stage if each.name == name]
    assert values, f"no {name}"
    return values


LAST = stages()[-1]


def test_every_base_is_an_argument_pinned_by_digest() -> None:
    defaults = dict(each.value.split("=", 1) for each in INSTRUCTIONS[: INSTRUCTIONS.index(stages()[0][0])])
    for stage in stages():
        name = re.fullmatch(r"\$\{([A-Z_]+)\}( AS \w+)?", stage[0].value)
        assert name is not None, stage[0].value
        default = defaults[name[1]]
        while reference := re.fullmatch(r"\$\{([A-Z_]+)\}", default):
            default = defaults[reference[1]]
        assert PINNED.fullmatch(default), default


def test_what_builds_does_not_run() -> None:
    assert len(stages()) >= 2
    assert {each.name for each in LAST} & {"RUN", "ADD", "ARG"} == set()
    assert all("--from=build" in value for value in all_of(LAST, "COPY"))


def test_it_runs_as_nobody_in_particular_and_without_a_shell() -> None:
    (user,) = all_of(LAST, "USER")
    assert all(number.isdecimal() and int(number) >= 10000 for number in user.split(":"))
    for name in ("ENTRYPOINT", "CMD"):
        (value,) = all_of(LAST, name)
        assert isinstance(json.loads(value), list)
    assert json.loads(all_of(LAST, "ENTRYPOINT")[0])[0] == "python"


def test_health_is_asked_in_python_without_a_shell() -> None:
    (value,) = all_of(LAST, "HEALTHCHECK")
    options, _, command = value.partition(" CMD ")
    words = json.loads(command)
    assert words[:2] == ["python", "-m"]
    assert (ROOT / f"{words[2].replace('.', '/')}.py").is_file()
    assert {"--interval", "--timeout", "--start-period", "--retries"} == {
        word.partition("=")[0] for word in options.split()
    }


def test_nothing_is_fetched_at_run_time_nor_written_beside_the_code() -> None:
    (value,) = all_of(LAST, "ENV")
    variables = dict(pair.split("=", 1) for pair in value.split())
    assert variables["HF_HUB_OFFLINE"] == "1"
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"
    assert variables["HOME"] == "/tmp"  # noqa: S108  (the one place that is writable)


def test_the_port_is_the_servers_own() -> None:
    (value,) = all_of(LAST, "EXPOSE")
    assert int(value) == Settings.model_fields["port"].default


def test_only_what_is_named_is_copied_and_nothing_from_the_network() -> None:
    assert not [each for each in INSTRUCTIONS if each.name == "ADD"]
    copied = {word for stage in stages()[:-1] for each in stage if each.name == "COPY" for word in each.words()[:-1]}
    assert copied == set(_SOURCES)
    assert not any("://" in each.value for each in INSTRUCTIONS if each.name != "ARG")


def test_no_secret_and_no_setting_is_baked_in() -> None:
    assert not any(PREFIX in each.value for each in INSTRUCTIONS)
    mounts = [word for each in INSTRUCTIONS for word in each.value.split() if word.startswith("--mount=")]
    assert mounts
    assert all(word.startswith("--mount=type=secret,") for word in mounts)
    names = {each.value.partition("=")[0] for each in INSTRUCTIONS if each.name == "ARG"}
    assert names == {"BASE_IMAGE", "BUILD_IMAGE", "VARIANT", "WHEEL_INDEX"}


def test_of_the_copied_sources_only_code_stays() -> None:
    runs = [each.value for stage in stages()[:-1] for each in stage if each.name == "RUN"]
    assert any("find model_image -type f ! -name '*.py' -delete" in value for value in runs)
    # So nothing that the code reads may be anything else.
    beside = {path.name for path in (ROOT / "model_image").rglob("*") if path.is_file() and path.suffix != ".py"}
    assert {name for name in beside if not name.endswith(".pyc")} == {"Dockerfile", "openapi.json"}


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "weights.gguf", "server.key", "server.pem", ".env", "config.json", "__pycache__", "a.pyc"],
)
def test_no_model_and_no_key_reaches_the_build(name: str) -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == set(_SOURCES)
    last_admission = max(index for index, line in enumerate(lines) if line.startswith("!"))
    patterns = [line for line in lines[last_admission + 1 :] if line.startswith("**/")]
    assert any(Path(f"model_image/sub/{name}").match(pattern.removeprefix("**/")) for pattern in patterns), name
