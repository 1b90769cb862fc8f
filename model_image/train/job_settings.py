"""What a training job is told by its job definition, and where its configuration and its results are."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from model_image.errors import ConfigError
from model_image.settings import PREFIX, ModelSetting, SettingsError

# What AWS Batch takes as the name of a job, which is the configuration's.
JOB_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
Bucket = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]


def _parsed(given: object) -> object:
    return json.loads(given) if isinstance(given, str) else given


class JobSettings(BaseModel):
    """
    Field `x` is the variable MODELKEEP_X.

    `signing_key` is the ARN of the key that signs what is published; `models` are those of the stack's settings, as
    the servers have them, and `promotions_parameter` (of SSM) says which of them were promoted to another version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stack: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
    data_bucket: Bucket
    models_bucket: Bucket
    results_bucket: Bucket
    signing_key: Annotated[str, Field(pattern=r"^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]{1,64}$")]
    promotions_parameter: Annotated[str, Field(min_length=1)]
    models: Annotated[tuple[ModelSetting, ...], BeforeValidator(_parsed)]

    @property
    def region(self) -> str:
        """Of the stack, out of the key's ARN: a container is not always told."""
        return self.signing_key.split(":")[3]


def read_job_settings(environment: Mapping[str, str]) -> JobSettings:
    """The settings in an environment; SettingsError with one line that names variable, value and remedy."""
    names = {field: PREFIX + field.upper() for field in JobSettings.model_fields}
    values: dict[str, Any] = {field: environment[name] for field, name in names.items() if name in environment}
    try:
        return JobSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = names[str(first["loc"][0])]
        if first["type"] == "missing":
            raise SettingsError(f"{name} is not set; a job's variables come from its job definition") from None
        raise SettingsError(f"{name} is {first['input']!r:.200}: {first['msg']}; correct the job definition") from None


@dataclass(frozen=True)
class Node:
    """Which machine of a job this is; `batch_job` is its id in AWS Batch, empty where there is none."""

    batch_job: str
    index: int
    nodes: int
    is_main: bool

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Node":
        """As AWS Batch's variables say; without those of a multi-node job it is the only one."""
        index = int(environment.get("AWS_BATCH_JOB_NODE_INDEX", "0"))
        main = int(environment.get("AWS_BATCH_JOB_MAIN_NODE_INDEX", "0"))
        return cls(
            # The nodes of a multi-node job have the job's id with their own index behind a #.
            batch_job=environment.get("AWS_BATCH_JOB_ID", "").partition("#")[0],
            index=index,
            nodes=int(environment.get("AWS_BATCH_JOB_NUM_NODES", "1")),
            is_main=index == main,
        )


def job_name(uri: str, *, data_bucket: str) -> str:
    """The NAME in `s3://DATA/training/NAME.yaml`; ConfigError for another address."""
    found = re.fullmatch(rf"s3://{re.escape(data_bucket)}/training/({JOB_NAME})\.yaml", uri)
    if found is None:
        raise ConfigError(
            f"--job {uri} is no configuration of this stack; it is like s3://{data_bucket}/training/NAME.yaml, NAME "
            "of letters, digits, - and _"
        )
    return found[1]
