"""Which versions are served: what the stack's settings name, unless a version was promoted in its place.

Pure functions over the text of the promotions parameter. A promotion holds for as long as the settings name the version
that they named when it was made: whoever changes the settings afterwards has the last word.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lambdas.errors import ConfigurationError, PromotionError

LARGEST_PARAMETER = 4096  # bytes; of SSM's standard tier
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Promotion:
    """`version` is served in place of `settings`, the one in the settings; before it was `previous`."""

    settings: str
    version: str
    previous: str


@dataclass(frozen=True)
class Promotions:
    """Promotions by the models' names; `refresh` rolls them out, and where it fails `undo` is what they were before."""

    models: Mapping[str, Promotion] = field(default_factory=dict)
    refresh: str = ""
    undo: Mapping[str, Promotion] | None = None

    def served(self, settings: Mapping[str, str]) -> dict[str, str]:
        """The version of each model of the settings that is served."""
        return {name: self._served(name, version) for name, version in settings.items()}

    def _served(self, name: str, version: str) -> str:
        promotion = self.models.get(name)
        return version if promotion is None or promotion.settings != version else promotion.version

    def promote(self, name: str, version: str, *, settings: Mapping[str, str]) -> "Promotions":
        """Serve another version of a model. Raises PromotionError where that is not possible, or is so already."""
        if name not in settings:
            raise PromotionError(f"model {name} is not one of the stack's: {', '.join(sorted(settings))}")
        if not _VERSION.fullmatch(version):
            raise PromotionError(f"version {version!r:.80} is none; it is like 1 or 2024.1-rc")
        now = self._served(name, settings[name])
        if version == now:
            raise PromotionError(f"model {name} is served in version {version} already")
        changed = Promotion(settings=settings[name], version=version, previous=now)
        others = {each: promotion for each, promotion in self.models.items() if each in settings}
        return replace(self, models={**others, name: changed}, undo=self.models)

    def roll_back(self, name: str, *, settings: Mapping[str, str]) -> "Promotions":
        """Serve the version before the last promotion or rollback. Raises PromotionError where there is none."""
        promotion = self.models.get(name)
        if promotion is None or promotion.settings != settings.get(name):
            raise PromotionError(f"model {name} was not promoted: the version of the stack's settings is served")
        return self.promote(name, promotion.previous, settings=settings)

    def undone(self, refresh: str) -> "Promotions | None":
        """As it was before the promotions that this failed refresh rolled out; None where they are others'."""
        if not refresh or refresh != self.refresh or self.undo is None:
            return None
        return Promotions(models=self.undo)

    def text(self) -> str:
        """The parameter's value; raises PromotionError where it holds more than the parameter takes."""
        value = {
            "models": {name: asdict(each) for name, each in self.models.items()},
            "refresh": self.refresh,
            "undo": None if self.undo is None else {name: asdict(each) for name, each in self.undo.items()},
        }
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        if len(text) > LARGEST_PARAMETER:
            raise PromotionError(
                f"the promotions have {len(text)} bytes, the parameter takes {LARGEST_PARAMETER}; name the versions in "
                "the stack's settings"
            )
        return text


def parse(text: str) -> Promotions:
    """The promotions in a parameter's value; raises ConfigurationError for another text."""
    try:
        value = json.loads(text)
        undo = value.get("undo")
        return Promotions(
            models=_models(value.get("models", {})),
            refresh=str(value.get("refresh", "")),
            undo=None if undo is None else _models(undo),
        )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise ConfigurationError("the promotions parameter holds no promotions; write {} to it") from error


def _models(value: Mapping[str, Any]) -> dict[str, Promotion]:
    return {
        str(name): Promotion(
            settings=str(each["settings"]), version=str(each["version"]), previous=str(each["previous"])
        )
        for name, each in value.items()
    }
