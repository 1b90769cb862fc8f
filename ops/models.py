"""Makes the artefacts of a stack's models from their recipes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from local.guard import Guard
from local.interrupts import postponed
from model_image.artefacts import digest_of, verify
from model_image.errors import ArtefactError
from ops.errors import OpsError

STOP_SECONDS = 10.0
Advance = Callable[[float, str], None]
"""Takes the fraction done (0 to 1) and what is at work now."""


class WantedModel(Protocol):
    """A model as the stack's settings name it."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def tasks(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Recipe:
    """What building needs to know of a recipe file; `model_image` checks the rest of it."""

    path: Path
    value: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return str(self.value.get("kind"))

    @property
    def name(self) -> str:
        return str(self.value.get("name"))

    @property
    def key(self) -> str:
        """`name/version`, also the artefact's directory under models/."""
        return f"{self.name}/{self.value.get('version')}"

    @property
    def base(self) -> str | None:
        base = self.value.get("base")
        return None if base is None else str(base)

    @property
    def datasets(self) -> list[str]:
        data = self.value.get("data")
        parts = data.get("datasets", []) if isinstance(data, Mapping) else []
        return [str(part.get("name")) for part in parts if isinstance(part, Mapping)]


Train = Callable[[Recipe, Advance], None]
"""Makes the artefact of a recipe in `home/models`, its data sets and its base being there."""


def ensure_datasets(
    models: Sequence[WantedModel], *, recipes_dir: Path, home: Path, on_progress: Advance
) -> list[Path]:
    """
    The data sets that the recipes of these models train on, in `home/data/<name>`; missing or outdated ones are made.

    Raises OpsError in one line, naming what is missing.
    """
    recipes = needed_recipes(models, recipes_dir=recipes_dir)
    names = list(dict.fromkeys(name for recipe in recipes for name in recipe.datasets))
    if names:
        _run(["fetch", *names, *_directories(recipes_dir, home)], label="data", on_line=_told(on_progress, 0, 1))
    return [home / "data" / name for name in names]


def ensure_artefacts(
    models: Sequence[WantedModel],
    *,
    recipes_dir: Path,
    home: Path,
    on_progress: Advance,
    train: Train | None = None,
) -> list[Path]:
    """
    The verified artefact directories `home/models/<name>/<version>` of these models, in their order.

    One is built when it is missing or damaged, or when its recipe, its data or its base model changed: by `train`, or
    else in a process of its own. Raises OpsError naming the model, where was looked, and the remedy.
    """
    recipes = needed_recipes(models, recipes_dir=recipes_dir)
    names = {name for recipe in recipes for name in recipe.datasets}
    if any(_dataset_digest(home, name) is None for name in names):
        ensure_datasets(models, recipes_dir=recipes_dir, home=home, on_progress=on_progress)
    for done, recipe in enumerate(recipes):
        on_progress(done / len(recipes), f"{recipe.name}: checking")
        if _is_current(recipe, home):
            continue
        on_line = _told(on_progress, done, len(recipes))
        if recipe.kind == "fetch":
            _run(["fetch", recipe.name, *_directories(recipes_dir, home)], label=recipe.name, on_line=on_line)
        elif train is not None:
            train(recipe, _within(on_progress, done, len(recipes)))
        else:
            places = ["--out", str(home / "models"), "--data", str(home / "data")]
            command = ["train", "--config", str(recipe.path), *places, "--json-progress"]
            _run(command, label=recipe.name, on_line=on_line)
    on_progress(1.0, "ready")
    return [_checked(model, home) for model in models]


def _checked(model: WantedModel, home: Path) -> Path:
    directory = home / "models" / model.name / model.version
    tasks = verify(directory).tasks
    beyond = [task for task in model.tasks if task not in tasks]
    if beyond:
        raise OpsError(
            f"model {model.name} does not serve the task {beyond[0]} that the settings ask for, only "
            f"{', '.join(tasks)}; correct its tasks in the settings or in its recipe"
        )
    return directory


def needed_recipes(models: Sequence[WantedModel], *, recipes_dir: Path) -> list[Recipe]:
    """The recipes of these models and of their bases, each after its base. Raises OpsError for a model without one."""
    known = _read_recipes(recipes_dir)
    ordered: dict[str, Recipe] = {}

    def add(key: str, wanted_by: str, above: tuple[str, ...]) -> None:
        if key in above:
            raise OpsError(
                f"model {key} is its own base ({' <- '.join([*above, key])}); correct `base` in {recipes_dir}"
            )
        recipe = known.get(key)
        if recipe is None:
            there = ", ".join(sorted(known)) or "none"
            raise OpsError(
                f"model {key} ({wanted_by}) has no recipe in {recipes_dir}, which has {there}; add one, or correct the "
                f"name and version"
            )
        if recipe.base is not None:
            add(recipe.base, f"base of {key}", (*above, key))
        ordered[key] = recipe

    for model in models:
        add(f"{model.name}/{model.version}", "named in the settings", ())
    return list(ordered.values())


def _read_recipes(directory: Path) -> dict[str, Recipe]:
    if not directory.is_dir():
        raise OpsError(f"{directory} is no directory of recipes; name one with --recipes")
    recipes: dict[str, Recipe] = {}
    for path in sorted(directory.glob("*.yaml")):
        try:
            value = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise OpsError(f"{path} cannot be read as YAML ({error.__class__.__name__}); correct it") from error
        if not isinstance(value, Mapping) or value.get("kind") not in {"fetch", "train"}:
            raise OpsError(f"{path} is no recipe: its key `kind` must be fetch or train")
        recipe = Recipe(path=path, value=value)
        if recipe.key in recipes:
            raise OpsError(f"{path} and {recipes[recipe.key].path} both make model {recipe.key}; raise one's version")
        recipes[recipe.key] = recipe
    return recipes


def _is_current(recipe: Recipe, home: Path) -> bool:
    """Whether the artefact is whole and made by this very recipe from this very data and base."""
    try:
        manifest = verify(home / "models" / recipe.key)
        base = None if recipe.base is None else verify(home / "models" / recipe.base).digest
    except ArtefactError:  # missing or damaged: both are cured by making it
        return False
    if manifest.config_digest != digest_of(recipe.value):
        return False
    if recipe.kind == "fetch":
        return True
    parent = None if base is None else f"{recipe.base}@sha256:{base}"
    data = digest_of([_dataset_digest(home, name) for name in recipe.datasets])
    return (manifest.parent, manifest.data_digest) == (parent, data)


def _dataset_digest(home: Path, name: str) -> str | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((home / "data" / name / "dataset.json").read_bytes())["digest"])
    return None


def _directories(recipes_dir: Path, home: Path) -> list[str]:
    places = {"--out": home / "models", "--data": home / "data", "--downloads": home / "downloads"}
    arguments = [part for option, path in places.items() for part in (option, str(path))]
    return [*arguments, "--recipes", str(recipes_dir), "--json-progress"]


def _within(on_progress: Advance, done: int, total: int) -> Advance:
    """Turns a fraction of one model into one of all."""
    return lambda fraction, text: on_progress((done + fraction) / total, text)


def _told(on_progress: Advance, done: int, total: int) -> Callable[[Mapping[str, Any]], None]:
    """Turns a line of a builder's progress into a fraction of the whole, which never goes back."""
    within = 0.0

    def told(line: Mapping[str, Any]) -> None:
        nonlocal within
        steps = line.get("steps")
        within = line["step"] / steps if steps else within
        detail = f"step {line['step']}/{steps}, loss {line['loss']}" if steps else line.get("phase", "")
        on_progress((done + within) / total, f"{line.get('model', '')}: {detail}")

    return told


def _run(
    arguments: Sequence[str],
    *,
    label: str,
    on_line: Callable[[Mapping[str, Any]], None],
) -> None:
    """
    Runs `python -m model_image …` to its end; it is stopped when anything goes wrong here, or when this process dies.

    It has a process group of its own, so a Ctrl-C reaches it through this function alone, once.
    """
    guard = Guard()
    with tempfile.TemporaryFile() as stderr:
        with postponed():
            process = subprocess.Popen(
                [sys.executable, "-m", "model_image", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
            )
            guard.watch(process.pid)
        try:
            _read_progress(process.stdout or (), on_line)
            code = process.wait()
        finally:
            _stop(process)
            guard.release(process.pid)
            guard.close()
        if code != 0:
            stderr.seek(0)
            raise OpsError(f"{label}: {_last_line(stderr.read().decode(errors='replace'), code)}")


def _read_progress(lines: Iterable[str], on_line: Callable[[Mapping[str, Any]], None]) -> None:
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError):  # a library's own word in between
            value = json.loads(line)
            if isinstance(value, dict):
                on_line(value)


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _last_line(text: str, code: int) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else f"the builder ended with code {code} and said nothing"
    for command in ("fetch", "train"):
        last = last.removeprefix(f"model_image {command}: ")
    return last
