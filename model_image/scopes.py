"""Who a request is from and what they may use: the gateway sets these headers, and the network admits nobody else."""

from collections.abc import Mapping
from dataclasses import dataclass

from model_image.api_errors import ApiError
from model_image.batching.caller import Caller


@dataclass(frozen=True)
class Scopes:
    """The models and tasks a consumer may use; None for all."""

    models: frozenset[str] | None = None
    tasks: frozenset[str] | None = None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> "Scopes":
        """Reads x-modelkeep-models and x-modelkeep-tasks: `*` or names with commas; absent means all."""
        return cls(_names(headers.get("x-modelkeep-models")), _names(headers.get("x-modelkeep-tasks")))

    def allow_model(self, name: str) -> bool:
        """Whether this model may be used."""
        return self.models is None or name in self.models

    def check_model(self, name: str) -> None:
        """Raises ApiError 403 for a model that may not be used; call it with names of loaded models only."""
        if not self.allow_model(name):
            message = f"your token does not allow the model {name}; ask the operator for it"
            raise ApiError("access_denied", message, param="model")

    def check_task(self, task: str) -> None:
        """Raises ApiError 403 for a task that may not be used."""
        if self.tasks is not None and task not in self.tasks:
            raise ApiError("access_denied", f"your token does not allow {task}; ask the operator for it")


def caller_of(headers: Mapping[str, str]) -> Caller:
    """
    Whose request it is: x-modelkeep-consumer, which the gateway sets.

    x-modelkeep-priority `background` is what the batch worker sends; whoever else sends it only waits longer.
    """
    background = headers.get("x-modelkeep-priority", "").strip().lower() == "background"
    return Caller(headers.get("x-modelkeep-consumer", ""), background)


def _names(value: str | None) -> frozenset[str] | None:
    if value is None or value.strip() == "*":
        return None
    return frozenset(name.strip() for name in value.split(",") if name.strip())
