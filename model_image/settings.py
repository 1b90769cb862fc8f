"""The server's settings: read once from the environment, checked whole, frozen."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from model_image.artefacts import Manifest
from model_image.errors import ModelImageError
from model_image.manifest import ModelName, Task, Version
from model_image.signature import PublicKey, parse_public_keys

PREFIX = "MODELKEEP_"
# Set by the operator's commands for themselves; a server they start may inherit it.
_NOT_OURS = frozenset({"MODELKEEP_HOME"})


class SettingsError(ModelImageError):
    """A MODELKEEP_* variable is unknown, missing or wrong."""


def _keys(given: object) -> object:
    return parse_public_keys(given) if isinstance(given, str) else given


class ModelSetting(BaseModel):
    """One model to serve, what for, and in which form its weights are multiplied."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ModelName
    version: Version
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    weights: Literal["float32", "int8"] = "float32"

    def check(self, manifest: Manifest) -> None:
        """Raises SettingsError if the artefact is another one or was not made for these tasks."""
        if (manifest.name, manifest.version) != (self.name, self.version):
            found = f"{manifest.name} {manifest.version}"
            raise SettingsError(f"model {self.name} {self.version}: the artefact there is {found}; publish it again")
        for task in self.tasks:
            if task not in manifest.tasks:
                able = ", ".join(manifest.tasks)
                raise SettingsError(
                    f"model {self.name} {self.version} does not do {task}, but {able}; correct its tasks"
                )


class Settings(BaseModel):
    """
    What `serve` needs to know. Field `x` is the variable MODELKEEP_X.

    An empty `models_bucket` serves what is in `cache_dir`; `signing_keys` are the public keys of which one has to have
    signed every model (base64 DER, commas between them), and only without a bucket may there be none; with an empty
    `promotions_parameter` (of SSM) the versions of `models` are served, whatever was promoted; an empty `tls_dir`
    serves plain HTTP; an empty `autoscaling_group` writes no CloudWatch metrics; an empty `otlp_endpoint`, a
    collector's base URL, makes no traces; an empty `budgets_table` (of DynamoDB) limits nobody's tokens, and an empty
    `usage_stream` (of Firehose) records no usage. Where the table does not answer, `budget_failure` "closed" refuses
    requests of limited consumers, and "open" serves them. `threads` (default: every core) are those of one step.
    `kv_cache_mb` is the memory for keys and values of each generative model (default: an eighth of the machine's, 2 GiB
    at most, or most of what a GPU has left, shared).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stack: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")] = "local"
    models: Annotated[tuple[ModelSetting, ...], Field(min_length=1)]
    models_bucket: str = ""
    signing_keys: Annotated[tuple[PublicKey, ...], BeforeValidator(_keys), Field(validate_default=True)] = ()
    promotions_parameter: str = ""
    cache_dir: Path = Path("/var/lib/modelkeep/models")
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8443
    tls_dir: str = ""
    autoscaling_group: str = ""
    otlp_endpoint: Annotated[str, Field(pattern=r"^(https?://[^\s/]+\S*)?$")] = ""
    budgets_table: str = ""
    budget_failure: Literal["closed", "open"] = "closed"
    usage_stream: str = ""
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 60
    target_inflight: Annotated[int, Field(ge=1, le=10_000)] = 16
    body_limit_kb: Annotated[int, Field(ge=1, le=10_240)] = 64
    timeout_seconds: Annotated[float, Field(gt=0, le=900)] = 900
    threads: Annotated[int | None, Field(ge=1, le=1024)] = None
    kv_cache_mb: Annotated[int | None, Field(ge=1, le=1_000_000)] = None

    @field_validator("signing_keys")
    @classmethod
    def _a_bucket_is_not_trusted(cls, keys: tuple[PublicKey, ...], info: ValidationInfo) -> tuple[PublicKey, ...]:
        if info.data.get("models_bucket") and not keys:
            raise ValueError("models from a bucket are served only if a key signed them, so name its public key")
        return keys

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        names = [model.name for model in self.models]
        if len(set(names)) != len(names):
            raise ValueError("one server takes one version of a model: every name once")
        return self

    @property
    def body_limit(self) -> int:
        """The largest request body in bytes."""
        return self.body_limit_kb * 1024

    @property
    def admitted_limit(self) -> int:
        """Requests in the server at once; the fleet grows at `target_inflight`, and four times that is refused."""
        return 4 * self.target_inflight


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings in an environment; SettingsError with one line that names variable, value and remedy."""
    given = {key: value for key, value in environment.items() if key.startswith(PREFIX) and key not in _NOT_OURS}
    known = {PREFIX + field.upper(): field for field in Settings.model_fields}
    for key in given:
        if key not in known:
            raise SettingsError(f"{key} is not a setting of the server; remove it (known: {', '.join(sorted(known))})")
    values: dict[str, Any] = {known[key]: value for key, value in given.items()}
    if "models" in values:
        values["models"] = _parse_json(values["models"])
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_describe(error)) from None


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        example = '[{"name": "gpt2", "version": "1", "tasks": ["completions"]}]'
        raise SettingsError(f"MODELKEEP_MODELS is not JSON; write it like {example}") from None


def _describe(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:
        return f"MODELKEEP_MODELS: {first['msg']}"
    key = PREFIX + str(first["loc"][0]).upper()
    if first["type"] == "missing" and len(first["loc"]) == 1:
        return f"{key} is not set; set it (deployed servers get it from /etc/modelkeep/server.env)"
    where = "".join(f"[{part!r}]" for part in first["loc"][1:])
    return f"{key}{where} is {first['input']!r:.200}: {first['msg']}; correct it"
