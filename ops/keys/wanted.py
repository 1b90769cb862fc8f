"""A consumer as an operator wants it, and what cannot be one."""

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, get_args

from infra.field_types import Task
from ops.errors import OpsError
from ops.key_summaries import Names
from ops.keys.stack import Outputs

TASKS: tuple[str, ...] = get_args(Task)
_CONSUMER = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # no comma: the authorizer passes them on as one text
_CONTACT = re.compile(r"[^@\s]{1,64}@[^@\s]+\.[^@\s]+")


@dataclass(frozen=True)
class Wanted:
    """A consumer to be; `source_cidrs` empty for every address, `expires` with a time zone, None for never."""

    name: str
    plan: str
    models: Names = "*"
    tasks: Names = "*"
    source_cidrs: tuple[str, ...] = ()
    contact: str | None = None
    expires: datetime | None = None

    def problems(self, outputs: Outputs) -> Iterator[str]:
        """What keeps it from being made in this stack, each in one line with the remedy; raises OpsError."""
        if _CONSUMER.fullmatch(self.name) is None:
            yield (
                f"consumer name {self.name!r} must be 1 to 63 of a-z, 0-9, '.', '_' and '-', and start with a-z or 0-9"
            )
        plans = usage_plans(outputs)
        if self.plan not in plans:
            yield f"plan {self.plan!r} does not exist; the stack's plans are {', '.join(sorted(plans))}"
        for model in () if self.models == "*" else self.models:
            if _MODEL.fullmatch(model) is None:
                yield f"model {model!r} is not a model name; use letters, digits, '.', '_' and '-'"
        for task in () if self.tasks == "*" else self.tasks:
            if task not in TASKS:
                yield f"task {task!r} does not exist; tasks are {', '.join(TASKS)}"
        if not self.models or not self.tasks:
            yield f"consumer {self.name} would have no model or no task; name some, or '*' for all"
        for block in self.source_cidrs:
            if not _is_block(block):
                yield f"{block!r} is no address block; write one such as 203.0.113.0/24, with zeros after the prefix"
        if self.contact is not None and _CONTACT.fullmatch(self.contact) is None:
            yield f"contact {self.contact!r} is no address; write one such as team@example.com"
        if self.expires is not None and (self.expires.tzinfo is None or self.expires <= datetime.now(UTC)):
            yield (f"expiry {self.expires.isoformat()} is past or has no time zone; give a time to come, with its zone")

    def refuse(self, outputs: Outputs) -> None:
        """Raise OpsError for what cannot be made."""
        found = list(self.problems(outputs))
        if found:
            raise OpsError("; ".join(found))

    def item(self, *, key_id: str, ciphertext: bytes) -> dict[str, Any]:
        """The row of the consumers table; absent `source_cidrs` are every address."""
        item: dict[str, Any] = {
            "id": {"S": self.name},
            "name": {"S": self.name},
            "plan": {"S": self.plan},
            "models": _attribute(self.models),
            "tasks": _attribute(self.tasks),
            "status": {"S": "active"},
            "gateway_key_id": {"S": key_id},
            "gateway_key": {"B": ciphertext},
        }
        if self.source_cidrs:
            item["source_cidrs"] = {"SS": sorted({str(ipaddress.ip_network(each)) for each in self.source_cidrs})}
        if self.contact is not None:
            item["contact"] = {"S": self.contact}
        return item


def usage_plans(outputs: Outputs) -> Mapping[str, str]:
    """The ids of the stack's usage plans by their name; raises OpsError."""
    plans = outputs.get("usage_plan_ids")
    if not isinstance(plans, Mapping):
        raise OpsError("the stack has no output usage_plan_ids; deploy it with this version of the program first")
    return plans


def _is_block(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _attribute(names: Names) -> dict[str, Any]:
    return {"S": "*"} if names == "*" else {"SS": sorted(set(names))}
