"""The AWS provider of the local engine: checks inputs against the tables, creates and reads through boto3.

The shape is Pulumi's own provider protocol: `check` fills in what the program left out and refuses what cannot work,
`create` and `read` talk to the API, `invoke` answers data sources. A provider without a caller can only check.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import jmespath
from botocore.session import get_session

from local.calls import Caller
from local.errors import LocalError
from local.invokes import INVOKES
from local.mapping import normal, to_parameters
from local.records import NotEmulated
from local.schema import type_schema
from local.types import NOT_EMULATED, TYPES
from local.types.documents import document
from local.types.spec import Autoname, Made, TypeSpec

NAME_DIGITS = 7  # how many hexadecimal digits Pulumi's names end in


@dataclass(frozen=True)
class Subject:
    """The resource that a provider is asked about."""

    urn: str
    type: str
    name: str


class Provider(Protocol):
    """What the engine asks of a provider of resources; every method raises LocalError."""

    def check(self, subject: Subject, inputs: Mapping[str, Any]) -> dict[str, Any]: ...

    def not_emulated(self, subject: Subject, inputs: Mapping[str, Any]) -> list[NotEmulated]: ...

    def planned(self, subject: Subject, inputs: Mapping[str, Any]) -> dict[str, Any]: ...

    def create(self, subject: Subject, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]: ...

    def read(self, subject: Subject, resource_id: str, inputs: Mapping[str, Any]) -> dict[str, Any]: ...

    def invoke(self, token: str, arguments: Mapping[str, Any]) -> dict[str, Any]: ...


class AwsProvider:
    """Makes `aws:` resources; `configuration` is the provider's own (region, defaultTags), `caller` None a preview."""

    def __init__(self, *, configuration: Mapping[str, Any], caller: Caller | None) -> None:
        self._configuration = configuration
        self._caller = caller

    def check(self, subject: Subject, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs with names and default tags filled in; raises LocalError naming every input that does not map."""
        spec = _spec(subject)
        schema = type_schema(subject.type)
        checked = dict(inputs)
        if spec is not None and spec.autoname is not None and spec.autoname.property not in checked:
            checked[spec.autoname.property] = automatic_name(subject, spec.autoname)
        if "tags" in schema.inputs:
            self._merge_default_tags(checked)
        problems = [f"{name} is not an input of this type" for name in sorted(set(checked) - schema.inputs)]
        problems += [f"{name} is required" for name in sorted(schema.required - set(checked))]
        if spec is not None and not problems:
            _, problems = self._parameters(subject, spec.for_inputs(checked), checked)
        if problems:
            raise LocalError(f"{subject.type} {subject.name}: " + "; ".join(problems))
        return checked

    def not_emulated(self, subject: Subject, inputs: Mapping[str, Any]) -> list[NotEmulated]:
        """What of this resource the emulators do not take, from the one table."""
        found = []
        for entry, reason in NOT_EMULATED.items():
            token, _, path = entry.partition(".")
            if token == subject.type and (not path or has_path(inputs, path.split("."))):
                found.append(NotEmulated(urn=subject.urn, type=subject.type, property=path, reason=reason))
        return found

    def planned(self, subject: Subject, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs that are known before creation: the inputs, with documents as the text that AWS hands back."""
        spec = _spec(subject)
        documents = (
            {name for name, convert in spec.convert.items() if convert is document} if spec is not None else set()
        )
        return {name: document(value) if name in documents else value for name, value in inputs.items()}

    def create(self, subject: Subject, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Make the resource; its id and all its outputs that are known."""
        spec = _spec(subject)
        if spec is None:
            return f"not-emulated-{automatic_name(subject, Autoname('id'))}", dict(inputs)
        spec = spec.for_inputs(inputs)
        parameters, _ = self._parameters(subject, spec, inputs)
        answer = self._call(spec.service, spec.operation, **parameters)
        resource_id = _identity(spec, subject, inputs, answer)
        made = self._made(inputs=inputs, answer=answer, resource_id=resource_id)
        for step in spec.follow:
            if not step.inputs or any(name in inputs for name in step.inputs):
                step.send(made)
        return resource_id, self._outputs(spec, subject, made)

    def read(self, subject: Subject, resource_id: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs of a resource that exists already."""
        spec = _spec(subject)
        if spec is None or spec.read is None:
            raise LocalError(
                f"{subject.type} {subject.name}: the local engine cannot read this type; create it instead"
            )
        made = self._made(inputs=inputs, answer={}, resource_id=resource_id)
        return self._outputs(spec, subject, made)

    def invoke(self, token: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of a data source."""
        answer = INVOKES.get(token)
        if answer is None:
            raise LocalError(f"invoke {token} is not known to the local engine; add it to local/invokes.py")
        return answer(self._made(inputs=arguments, answer={}, resource_id=""))

    def _parameters(
        self, subject: Subject, spec: TypeSpec, inputs: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[str]]:
        """The creating operation's parameters, and what did not map."""
        sent: Mapping[str, Any] = spec.sent(inputs)
        for entry in NOT_EMULATED:
            token, _, path = entry.partition(".")
            if token == subject.type and path:
                sent = without_path(sent, path.split("."))
        if spec.reshape is not None:
            sent = spec.reshape(sent)
        parameters, problems = to_parameters(
            service=spec.service, operation=spec.operation, inputs=sent, rename=spec.rename, convert=spec.convert
        )
        if spec.tag_as and inputs.get("tags"):
            tags = [{"Key": key, "Value": value} for key, value in inputs["tags"].items()]
            parameters["TagSpecifications"] = [{"ResourceType": spec.tag_as, "Tags": tags}]
        if spec.fixed is not None:
            parameters |= spec.fixed(self.region)
        return parameters, [f"{problem.path} {problem.reason}" for problem in problems]

    def _call(self, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        if self._caller is None:
            raise LocalError(f"{service}:{operation} was asked for in a preview, which makes no API calls")
        return self._caller(service, operation, **parameters)

    def _made(self, *, inputs: Mapping[str, Any], answer: Mapping[str, Any], resource_id: str) -> Made:
        return Made(
            call=self._call,
            region=self.region,
            account=self.account,
            partition=self.partition,
            inputs=inputs,
            answer=answer,
            id=resource_id,
        )

    @cached_property
    def region(self) -> str:
        """The provider's region; there is no default."""
        region = self._configuration.get("region")
        if not isinstance(region, str) or not region:
            raise LocalError("aws:region is not set; add it to the stack's configuration file")
        return region

    @cached_property
    def partition(self) -> str:
        """The partition that the region belongs to, from botocore's own data."""
        return str(get_session().get_partition_for_region(self.region))

    @cached_property
    def account(self) -> str:
        """The account that the credentials belong to, asked of STS once."""
        return str(self._call("sts", "GetCallerIdentity")["Account"])

    def _merge_default_tags(self, inputs: dict[str, Any]) -> None:
        """Put the provider's default tags under the resource's own, where tags are a map, as the real provider does."""
        defaults = (self._configuration.get("defaultTags") or {}).get("tags") or {}
        own = inputs.get("tags", {})
        if isinstance(own, dict) and (defaults or own):
            inputs["tags"] = {**defaults, **own}

    def _outputs(self, spec: TypeSpec, subject: Subject, made: Made) -> dict[str, Any]:
        if spec.read is None:
            state = jmespath.search(spec.state, made.answer) or {}
        else:
            operation, template, path = spec.read
            filled = _fill(template, {**made.inputs, "id": made.id})
            state = jmespath.search(path, self._call(spec.service, operation, **filled)) or {}
        outputs = _by_name(state, type_schema(subject.type).outputs)
        outputs |= self.planned(subject, made.inputs)
        for name, path in spec.outputs.items():
            value = jmespath.search(path, state)
            if value is not None:
                outputs[name] = value
        if spec.derive is not None:
            outputs |= spec.derive(made)
        if isinstance(made.inputs.get("tags"), dict):
            outputs["tagsAll"] = made.inputs["tags"]
        return outputs


def automatic_name(subject: Subject, rule: Autoname) -> str:
    """The name that Pulumi gives: the resource's own, a hyphen and seven hexadecimal digits.

    The digits come from the URN, so the same program gives the same names and two previews can be compared. Raises
    LocalError when the service does not allow a name that long, as Pulumi's provider does.
    """
    digits = hashlib.sha256(subject.urn.encode()).hexdigest()[:NAME_DIGITS]
    name = f"{subject.name}-{digits}"
    if len(name) > rule.limit:
        raise LocalError(
            f"{subject.type} {subject.name}: its automatic {rule.property} {name} is {len(name)} characters long and "
            f"{rule.limit} are allowed; shorten the resource's name or set {rule.property}"
        )
    return name.lower() if rule.lower else name


def has_path(value: Any, path: list[str]) -> bool:
    """Whether `path` (list indices left out) leads to something in `value`."""
    if not path:
        return True
    if isinstance(value, list):
        return any(has_path(item, path) for item in value)
    return isinstance(value, Mapping) and path[0] in value and has_path(value[path[0]], path[1:])


def without_path(value: Any, path: list[str]) -> Any:
    """`value` without what `path` leads to."""
    if isinstance(value, list):
        return [without_path(item, path) for item in value]
    if not isinstance(value, Mapping):
        return value
    if len(path) == 1:
        return {key: item for key, item in value.items() if key != path[0]}
    return {key: without_path(item, path[1:]) if key == path[0] else item for key, item in value.items()}


def _spec(subject: Subject) -> TypeSpec | None:
    """The type's row; None when it is not emulated at all."""
    spec = TYPES.get(subject.type)
    if spec is None and subject.type not in NOT_EMULATED:
        raise LocalError(
            f"{subject.type} {subject.name}: the local engine does not know this type; add it to local/types"
        )
    return spec


def _identity(spec: TypeSpec, subject: Subject, inputs: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    if "{" in spec.id:
        return spec.id.format_map({"region": "", **inputs})
    found = jmespath.search(spec.id, answer)
    if not isinstance(found, str) or not found:
        raise LocalError(
            f"{subject.type} {subject.name}: {spec.service}:{spec.operation} answered without {spec.id}, so it has "
            "no id; the emulator does not keep this type"
        )
    return found


def _fill(template: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(template, Mapping):
        return {key: _fill(item, values) for key, item in template.items()}
    if isinstance(template, list):
        return [_fill(item, values) for item in template]
    return template.format_map(values) if isinstance(template, str) else template


def _by_name(state: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Outputs whose name equals a member of the API's state, apart from case; plain values only."""
    members = {normal(key): value for key, value in state.items() if isinstance(value, str | int | float)}
    return {name: members[normal(name)] for name in names if normal(name) in members}


def provider_configuration(values: Mapping[str, Any]) -> dict[str, Any]:
    """A provider's configuration with its structured values, which Pulumi hands over as JSON text, decoded."""
    return {key: _decoded(value) for key, value in values.items()}


def _decoded(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("{", "["):
        return json.loads(value)
    return value
