"""Which versions to serve: those of the settings, but for models of which another was promoted in its place."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from model_image.errors import ModelImageError
from model_image.settings import ModelSetting, Settings


class PromotionsError(ModelImageError):
    """The promotions parameter cannot be read, or is not what the rollout writes."""


def with_promotions(settings: Settings) -> Settings:
    """The settings with the versions that are served now, as the promotions parameter says; PromotionsError."""
    if not settings.promotions_parameter:
        return settings
    import boto3  # noqa: PLC0415  (half a second that a server without the parameter does not need)
    from botocore.config import Config  # noqa: PLC0415

    client = boto3.client("ssm", config=Config(retries={"mode": "standard", "max_attempts": 5}))
    return promoted(settings, client=client)


def promoted(settings: Settings, *, client: Any) -> Settings:
    """As `with_promotions`, with boto3's client of SSM."""
    name = settings.promotions_parameter
    versions = _read(name, client=client)
    models = [{**each.model_dump(), "version": _version(each, versions)} for each in settings.models]
    try:
        return Settings.model_validate({**dict(settings), "models": models})
    except ValueError as error:
        raise _no_promotions(name) from error


def served_version(name: str, models: Iterable[ModelSetting], *, parameter: str, client: Any) -> str | None:
    """The version of one model that is served now, of the models that the settings name; None for another one."""
    found = next((each for each in models if each.name == name), None)
    return None if found is None else _version(found, _read(parameter, client=client))


def _read(name: str, *, client: Any) -> dict[str, tuple[str, str]]:
    """Of each promoted model the version that it was promoted in place of, and the one that it was promoted to."""
    try:
        text = client.get_parameter(Name=name)["Parameter"]["Value"]
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        raise PromotionsError(
            f"parameter {name} cannot be read: SSM answered {code}; deploy the stack, or check the role's rights"
        ) from error
    except BotoCoreError as error:
        kind = type(error).__name__
        raise PromotionsError(
            f"parameter {name} cannot be read ({kind}); check the SSM endpoint and the credentials"
        ) from error
    try:
        models = json.loads(text).get("models", {})
        return {str(each): (str(one["settings"]), str(one["version"])) for each, one in models.items()}
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise _no_promotions(name) from error


def _version(model: ModelSetting, versions: Mapping[str, tuple[str, str]]) -> str:
    """A promotion holds while the settings name the version that they named when it was made."""
    instead_of, version = versions.get(model.name, (model.version, model.version))
    return version if instead_of == model.version else model.version


def _no_promotions(name: str) -> PromotionsError:
    return PromotionsError(f"parameter {name} holds no promotions; write {{}} to it, and promote again")
